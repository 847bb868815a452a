"""Facts about ASF: WMA and WMV.

Source: Microsoft, Advanced Systems Format Specification 1.20 (file properties, stream properties
and data objects).
"""

from __future__ import annotations

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
SLACK_S = 0.25  # durations include a frame that no decoder gives, of at most 2,048 samples at 8 kHz


@dataclass
class _Properties:
    created: int = 0
    packets: int = 0
    duration: int = 0
    preroll_ms: int = 0
    broadcast: bool = False
    packet_bytes: int = 0


def facts(data: Reader, track: int) -> Facts:
    """Return what the objects state about the audio track with this number, from 1."""
    stated, rates, streams, cut = _Properties(), [], 0, False
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
            elif name == DATA:
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
    recorded_at = utc(stated.created / UNITS - SINCE_1601_S)
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
