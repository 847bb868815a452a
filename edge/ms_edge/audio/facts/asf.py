"""Facts about ASF: WMA and WMV.

Source: Microsoft, Advanced Systems Format Specification 1.20 (file properties, stream properties
and data objects; data packets, 5.2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from ms_edge.audio.facts.reader import EndOfFileError, Facts, Reader, TooManyStepsError
from ms_edge.audio.facts.times import utc

HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
STREAM_PROPERTIES = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
SINCE_1601_S = 11_644_473_600  # from 1601 to 1970
UNITS = 10_000_000  # per second, of times
BROADCAST = 1  # the flag that the sizes and times were unknown to the writer
END_OF_STREAM = b"$E\x08\0"  # the last 12 bytes of a broadcast stream may begin so (MS-WMSP)
MAX_PACKETS = 1000  # in which the first audio is looked for
WIDTHS = (0, 1, 2, 4)  # bytes of a number in a data packet, by two bits of flags
SLACK_S = 0.25  # durations include a frame that no decoder gives, of at most 2,048 samples at 8 kHz


@dataclass
class _Properties:
    created: int = 0
    packets: int = 0
    duration: int = 0
    preroll_ms: int = 0
    broadcast: bool = False
    packet_bytes: int = 0
    first_packet: int = 0  # its offset in the file


def facts(data: Reader, track: int) -> Facts:
    """Return what the objects state about the audio track with this number, from 1."""
    stated, rates, numbers, streams, cut = _Properties(), [], [], 0, False
    at = 30
    try:
        header_end = data.little(16, 8)
        while at < data.size:
            data.step()
            name, size = data.at(at, 16), data.little(at + 16, 8)
            if size < 24:
                break
            if name == FILE_PROPERTIES:
                stated = _properties(data, at + 24)
            elif name == STREAM_PROPERTIES:
                streams += 1
                if data.at(at + 24, 16) == AUDIO:
                    rates.append(data.little(at + 24 + 54 + 4, 4))
                    numbers.append(data.little(at + 24 + 48, 2) & 0x7F)
            elif name == DATA:
                stated.first_packet = stated.first_packet or at + 50
                cut |= _is_cut(data, at, size, stated)
            if name != DATA or not stated.broadcast:
                cut |= at + size > data.size
            at += size
            if name == DATA and stated.broadcast:
                break
        cut |= header_end > data.size
    except EndOfFileError:
        cut = True
    except TooManyStepsError:
        pass
    start_s = _start_s(data, stated, numbers[track - 1]) if 1 <= track <= len(numbers) else 0.0
    recorded_at = utc(stated.created / UNITS - SINCE_1601_S, start_s)
    if streams != 1 or not 1 <= track <= len(rates) or stated.broadcast:  # the duration is that of the longest stream
        return Facts(cut=cut, recorded_at=recorded_at)
    seconds = max(0.0, stated.duration / UNITS - stated.preroll_ms / 1000)
    return Facts(int(seconds * rates[track - 1]), rates[track - 1], cut, recorded_at, SLACK_S)


def _properties(data: Reader, body: int) -> _Properties:
    return _Properties(
        created=data.little(body + 24, 8),
        packets=data.little(body + 32, 8),
        duration=data.little(body + 40, 8),
        preroll_ms=data.little(body + 56, 8),
        broadcast=bool(data.little(body + 64, 4) & BROADCAST),
        packet_bytes=data.little(body + 72, 4),
    )


def _is_cut(data: Reader, at: int, size: int, stated: _Properties) -> bool:
    """Return whether the file ends within the packets of its data object."""
    first = at + 50
    if stated.broadcast or size <= 50:  # neither the size nor the number of packets is known
        ended = data.at(data.size - 12, 4) == END_OF_STREAM
        rest = data.size - first - (12 if ended else 0)
        return bool(stated.packet_bytes) and rest % stated.packet_bytes != 0
    return first + stated.packets * stated.packet_bytes > data.size


def _start_s(data: Reader, stated: _Properties, number: int) -> float:
    """Return the presentation time of the first payload of a stream; 0 if there is none."""
    with contextlib.suppress(EndOfFileError, TooManyStepsError):
        for packet in range(min(stated.packets, MAX_PACKETS) if stated.created else 0):
            for stream, time_ms in _payloads(data, stated.first_packet + packet * stated.packet_bytes):
                if stream == number:
                    return max(0, time_ms - stated.preroll_ms) / 1000
    return 0.0


def _payloads(data: Reader, at: int) -> Iterator[tuple[int, int]]:
    """Yield the number of the stream and the presentation time in ms of each payload in a packet."""
    if (first := data.little(at, 1)) & 0x80:  # error correction
        at += 1 + (first & 15)
    lengths, widths = data.little(at, 1), data.little(at + 1, 1)
    at += 2 + sum(WIDTHS[lengths >> shift & 3] for shift in (5, 1, 3)) + 6
    several = bool(lengths & 1)
    count, size_width = 1, 0
    if several:
        flags, at = data.little(at, 1), at + 1
        count, size_width = flags & 0x3F, WIDTHS[flags >> 6]
    for _ in range(count):
        data.step()
        stream, at = data.little(at, 1) & 0x7F, at + 1 + WIDTHS[widths >> 4 & 3]
        width = WIDTHS[widths >> 2 & 3]
        offset, at = data.little(at, width), at + width
        width = WIDTHS[widths & 3]
        replicated, at = data.little(at, width), at + width
        # A single byte of replicated data means that the offset is the presentation time.
        yield stream, offset if replicated == 1 else data.little(at + 4, 4)
        if not several:
            return
        at += replicated
        at += size_width + data.little(at, size_width)
