"""Facts about WavPack, TTA and Monkey's Audio, and about FLV: blocks or frames that state their size.

Sources: WavPack 4 & 5 Binary File / Block Format (wavpack.com); TTA1 Format Description
(tausoft.org); Monkey's Audio SDK, MACLib.h (APE_DESCRIPTOR and APE_HEADER); Adobe, Video File Format
Specification 10.1, annex E (FLV).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable

from ms_edge.audio.facts.reader import EndOfFileError, Facts, Reader, TooManyStepsError, span
from ms_edge.audio.mpeg import before_tags

WAVPACK_RATES_HZ = (
    6_000, 8_000, 9_600, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000, 192_000, 0,
)  # fmt: skip
WAVPACK_FIRST, WAVPACK_DSD = 1 << 11, 1 << 31  # flags: the first block of its samples; samples of one bit
FLV_AUDIO, FLV_AAC = 8, 10
FLV_SCRIPT_BYTES = 1 << 14  # of the first tag, which describes the file
FLV_SLACK_S = 0.02  # times are in milliseconds
MAX_TTA_FRAMES = 1 << 22


def facts(data: Reader) -> Facts | None:
    """Return what the blocks of a file add up to; None if the file is of another kind."""
    start = data.at(0, 4)
    kinds: dict[bytes, Callable[[Reader], Facts]] = {b"wvpk": _wavpack, b"TTA1": _tta, b"MAC ": _monkey, b"FLV\1": _flv}
    if start not in kinds:
        return None
    try:
        return kinds[start](data)
    except EndOfFileError:
        return Facts(cut=True)
    except TooManyStepsError:
        return Facts()


def _wavpack(data: Reader) -> Facts:
    end, at, held, total, rate, cut, dsd = before_tags(data.at, 0, data.size), 0, 0, 0, 0, False, False
    while at < end and not cut:
        data.step()
        head = data.at(at, 32)
        if head[:4] != b"wvpk":
            cut = len(head) < 4  # else other bytes follow the last block
            break
        if len(head) < 32:
            raise EndOfFileError
        size, samples, flags = (int.from_bytes(head[i : i + 4], "little") for i in (4, 20, 24))
        if at == 0:
            total = int.from_bytes(head[12:16], "little")
            total = 0 if total == 0xFFFF_FFFF else total + (head[11] << 32) - head[11]  # as WavPack 5 counts
            rate, dsd = WAVPACK_RATES_HZ[flags >> 23 & 15], bool(flags & WAVPACK_DSD)
        at += size + 8
        cut = at > end
        held += samples if flags & WAVPACK_FIRST and not cut else 0
    return Facts(None if dsd or not rate else total or held, rate or None, cut or held < total)


def _tta(data: Reader) -> Facts:
    rate, samples = data.little(10, 4), data.little(14, 4)
    length = 256 * rate // 245
    frames = -(-samples // length) if length else 0
    if not 0 < frames <= MAX_TTA_FRAMES:
        return Facts()
    at = 22 + 4 * (frames + 1)
    for i in range(frames):
        data.step()
        at += data.little(22 + 4 * i, 4)
    return Facts(samples, rate, at > data.size)


def _monkey(data: Reader) -> Facts:
    if data.little(4, 2) < 3980:  # an older layout, which states no sizes
        return Facts()
    sizes = [data.little(8 + 4 * i, 4) for i in range(7)]
    at = sizes[0]  # of the header, after the descriptor
    blocks, last, frames, rate = (
        data.little(at + 4, 4),
        data.little(at + 8, 4),
        data.little(at + 12, 4),
        data.little(at + 20, 4),
    )
    samples = (frames - 1) * blocks + last if frames else 0
    return Facts(samples, rate or None, sum(sizes[:5]) + (sizes[5] << 32) + sizes[6] > data.size)


def _flv(data: Reader) -> Facts:
    first = at = data.number(5, 4) + 4
    times, cut = array("q"), False
    while at < data.size:
        data.step()
        head = data.at(at, 13)
        if len(head) < 13:
            raise EndOfFileError
        if at == first:
            cut = _flv_size(data.at(at, FLV_SCRIPT_BYTES)) > data.size
        size = int.from_bytes(head[1:4], "big")
        is_header = head[11] >> 4 == FLV_AAC and head[12] == 0
        if head[0] & 31 == FLV_AUDIO and size and not is_header:
            times.append(head[7] << 24 | int.from_bytes(head[4:7], "big"))
        at += 11 + size + 4
        cut |= at > data.size
    return Facts(int(span(times)) if times else None, 1000, cut, slack_s=FLV_SLACK_S)


def _flv_size(script: bytes) -> float:
    """Return the size of the whole file that its first tag states; 0 if it states none."""
    name = b"\0\x08filesize\0"
    at = script.find(name) + len(name)
    return float(struct.unpack(">d", script[at : at + 8])[0]) if at >= len(name) and len(script) >= at + 8 else 0.0
