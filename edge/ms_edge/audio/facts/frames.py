"""Facts about streams of frames without a container: AAC, AC-3, DTS, TrueHD, AMR, MP3.

Sources: ISO/IEC 13818-7, 6.2 (ADTS); ISO/IEC 14496-3, 1.7.2 (LOAS); ATSC A/52:2018, 5.3, 5.4 and
annex E (AC-3, E-AC-3); ETSI TS 102 114, 5.3 and 7.4 (DTS); Dolby, MLP bitstream description (TrueHD);
RFC 4867, 5 (AMR files).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ms_edge.audio.facts.reader import BLOCK, Facts, Reader, TooManyStepsError
from ms_edge.audio.mpeg import before_tags, mpeg_parts
from ms_edge.audio.parts import MOST_CUT_OFF

ADTS_RATES_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
AC3_RATES_HZ = (48_000, 44_100, 32_000)
AC3_KBIT_S = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
DTS_RATES_HZ = (0, 8_000, 16_000, 32_000, 0, 0, 11_025, 22_050, 44_100, 0, 0, 12_000, 24_000, 48_000, 0, 0)
# The bytes of an AMR frame by its type, with the byte that states it.
AMR_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 6, 6, 1, 1, 1, 1, 1)
AMR_WB_BYTES = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
MAX_FRAME = 1 << 13  # bytes of a frame of AAC
HEAD = 16  # bytes that a frame's size is determined from

# From the first bytes of a frame to its size in bytes, its samples and its rate; None for no frame.
Parse = Callable[[bytes], tuple[int, int, int] | None]


@dataclass(frozen=True)
class _Coding:
    parse: Parse
    sync: bytes  # the first byte of every frame
    slack_frames: int  # a decoder may give fewer frames than there are


def _adts(head: bytes) -> tuple[int, int, int] | None:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or (rate := head[2] >> 2 & 15) > 12:
        return None
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return (size, 1024 * ((head[6] & 3) + 1), ADTS_RATES_HZ[rate]) if size >= 7 else None


def _latm(head: bytes) -> tuple[int, int, int] | None:
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    return ((head[1] & 31) << 8 | head[2]) + 3, 1024, 0  # the rate is within the frame


def _truehd(head: bytes) -> tuple[int, int, int] | None:
    # The head of a frame has 4 bytes. Where fewer are left, the file ends within a frame.
    size = 2 * ((head[0] & 15) << 8 | head[1]) if len(head) >= 4 else 4
    return (size, 0, 0) if size >= 4 else None


def _ac3(head: bytes) -> tuple[int, int, int] | None:
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    rate = head[4] >> 6
    if head[5] >> 3 > 10:  # E-AC-3
        size = 2 * (((head[2] & 7) << 8 | head[3]) + 1)
        if rate == 3:
            blocks, hz = 6, AC3_RATES_HZ[head[4] >> 4 & 3] // 2 if head[4] >> 4 & 3 < 3 else 0
        else:
            blocks, hz = (1, 2, 3, 6)[head[4] >> 4 & 3], AC3_RATES_HZ[rate]
        # Only the first independent substream has samples of its own.
        own = head[2] >> 6 != 1 and not head[2] >> 3 & 7
        return (size, 256 * blocks * own, hz) if hz else None
    code = head[4] & 63
    if rate == 3 or code >= 2 * len(AC3_KBIT_S):
        return None
    hz = AC3_RATES_HZ[rate]
    words = AC3_KBIT_S[code // 2] * 96_000 // hz + (code & 1 if rate == 1 else 0)
    return 2 * words, 1536, hz


def _dts(head: bytes) -> tuple[int, int, int] | None:
    if head[:4] == b"\x64\x58\x20\x25" and len(head) >= 10:  # an extension (DTS-HD)
        bits = int.from_bytes(head[5:10], "big")
        size = (bits >> 1 & 0xFFFFF if bits >> 37 & 1 else bits >> 9 & 0xFFFF) + 1
        return size, 0, 0
    if len(head) < 9 or head[:4] != b"\x7f\xfe\x80\x01":
        return None
    bits = int.from_bytes(head[4:9], "big")
    blocks, size = (bits >> 26 & 127) + 1, (bits >> 12 & 0x3FFF) + 1
    rate = DTS_RATES_HZ[head[8] >> 2 & 15]
    return (size, 32 * blocks, rate) if size >= 96 and rate else None


def _amr(sizes: tuple[int, ...], speech: int, samples: int, rate: int) -> Parse:
    """Return a function that parses frames. Those from type `speech` on hold a pause.

    Their samples do not count, because a decoder may leave out pauses.
    """

    def parse(head: bytes) -> tuple[int, int, int] | None:
        if not head or head[0] & 0x83:
            return None
        kind = head[0] >> 3 & 15
        return sizes[kind], samples if kind < speech else 0, rate

    return parse


CODINGS = (
    _Coding(_adts, b"\xff", 2),  # FAAC ends with an empty frame
    _Coding(_ac3, b"\x0b", 1),
    _Coding(_latm, b"\x56", 2),
    _Coding(_dts, b"\x7f", 1),
)
AMR = {  # by the first bytes of the file
    b"#!AMR\n": _Coding(_amr(AMR_BYTES, 8, 160, 8_000), b"", 0),
    b"#!AMR-WB\n": _Coding(_amr(AMR_WB_BYTES, 9, 320, 16_000), b"", 0),
}


def facts(data: Reader) -> Facts | None:
    """Return what the frames of a file add up to; None if it is no such file."""
    for magic, coding in AMR.items():
        if data.at(0, len(magic)) == magic:
            return _walk(data, coding, len(magic), data.size)
    if data.at(4, 3) == b"\xf8\x72\x6f":
        return _walk(data, _Coding(_truehd, b"", 0), 0, data.size)
    end = before_tags(data.at, 0, data.size)
    for coding in CODINGS:
        if first := coding.parse(data.at(0, HEAD)):
            following = data.at(first[0], min(HEAD, max(0, end - first[0])))
            if first[0] >= end or coding.parse(following) or _begins_frame(following, coding):
                return _walk(data, coding, 0, end)
    if found := _mpeg(data):
        return found
    for coding in CODINGS:  # the recording of a station begins within a frame
        if (begin := _next(data, coding, 0, min(end, MAX_FRAME))) is not None:
            return _walk(data, coding, begin, end)
    return None


def _mpeg(data: Reader) -> Facts | None:
    parts, warnings = mpeg_parts(data.at, 0, data.size)
    if not parts:
        return None
    rate = parts[0].sample_rate_hz
    samples = sum(part.samples for part in parts if part.sample_rate_hz == rate)
    return Facts(samples, rate, "truncated" in warnings, slack_s=MOST_CUT_OFF / rate)


def _walk(data: Reader, coding: _Coding, at: int, end: int) -> Facts:
    """Follow the frames between two offsets, and search for the next one where they stop.

    Samples of frames with another rate are counted in those of the first frame.
    """
    samples, most, rate, cut = 0, 0, 0, False
    try:
        while at < end:
            block, i = data.at(at, min(BLOCK, end - at)), 0
            last = at + len(block) >= end
            while i < len(block) and (last or i + HEAD <= len(block)):
                data.step()
                found = coding.parse(block[i : i + HEAD])
                if found is None:
                    if (following := _next(data, coding, at + i + 1, end)) is None:
                        cut |= _begins_frame(block[i:], coding)
                        i = end - at
                    else:
                        i = following - at
                    break
                size, count, hz = found
                i += size
                rate = rate or hz
                samples += count if hz in (0, rate) else count * rate // hz
                most = max(most, count)
                cut = at + i > end
            if not i:  # the file was shortened meanwhile
                break
            at += i
    except TooManyStepsError:
        return Facts(cut=cut)
    if cut:
        samples -= most  # of the incomplete frame
    return Facts(max(0, samples), rate, cut, slack_s=coding.slack_frames * most / rate) if rate else Facts(cut=cut)


def _next(data: Reader, coding: _Coding, at: int, end: int) -> int | None:
    """Return the offset of the next frame that another one follows; None if there is none."""
    if not coding.sync:
        return None
    while at < end:
        block = data.at(at, min(BLOCK, end - at))
        i = -1
        while (i := block.find(coding.sync, i + 1)) >= 0:
            data.step()
            head = block[i : i + HEAD]
            found = coding.parse(head if len(head) == HEAD else data.at(at + i, HEAD))
            if found and at + i + found[0] < end and coding.parse(data.at(at + i + found[0], HEAD)):
                return at + i
        if not block:
            break
        at += len(block)
    return None


def _begins_frame(rest: bytes, coding: _Coding) -> bool:
    """Return whether the last bytes of a file are the beginning of a frame's head."""
    return 0 < len(rest) < HEAD and bool(coding.sync) and rest.startswith(coding.sync)
