"""Facts about FLAC: whether its frames contradict its header, where the last one ends, and gaps.

libFLAC checks the CRC of every frame. It does not check whether the header states another sample
rate, other bits or a smaller length than the frames do, and it puts silence in the place of missing
frames without a word.

Source: RFC 9639 (STREAMINFO, 8.2; frame headers, 9.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ms_edge.audio.facts.reader import BLOCK, Facts, Reader
from ms_edge.audio.riff import ReadAt

MAX_BLOCKS = 1000  # of metadata
TAIL = 1 << 16  # bytes of tags that may follow the last frame
MAX_TAIL = 1 << 20
HEADER = 16  # bytes of the longest frame header
LEAST_SAMPLES = 16  # of the longest frame
FIXED = b"\xff\xf8"  # a frame header begins so if all frames but the last have the same number of samples
BITS = (0, 8, 12, 0, 16, 20, 24, 32)  # of a sample; 0 if only the header of the file states it
RATES_HZ = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)


class _Frame(NamedTuple):
    rate_hz: int  # 0 if only the header of the file states it
    channels: int
    bits: int  # likewise
    start: int  # in samples
    samples: int


def facts(data: Reader) -> Facts:
    """Return what the first and the last frame of a FLAC file state."""
    info, at = data.at(8, 34), 4
    if len(info) < 34:
        return Facts()
    for _ in range(MAX_BLOCKS):
        head = data.at(at, 4)
        at += 4 + int.from_bytes(head[1:], "big")
        if len(head) < 4 or head[0] & 0x80:
            break
    fixed, largest = int.from_bytes(info[:2], "big"), int.from_bytes(info[7:10], "big")
    rate, channels = int.from_bytes(info[10:13], "big") >> 4, (info[12] >> 1 & 7) + 1
    bits = (int.from_bytes(info[12:14], "big") >> 4 & 31) + 1
    head = data.at(at, HEADER)
    first = _frame(head, fixed)
    if first is None or not rate:
        return Facts()
    count = min(largest + TAIL, MAX_TAIL)
    tail = data.at(max(at, data.size - count), count)
    samples, i = first.samples, len(tail)
    while (i := tail.rfind(head[:2], 0, i)) >= 0:
        last = _frame(tail[i : i + HEADER], fixed)
        if last and (last.rate_hz, last.channels, last.start >= first.start) == (first.rate_hz, first.channels, True):
            samples = last.start + last.samples - first.start
            break
    longest = int.from_bytes(info[2:4], "big")
    contradictory = first.rate_hz not in (0, rate) or first.channels != channels or first.bits not in (0, bits)
    contradictory |= longest < max(LEAST_SAMPLES, fixed, first.samples)  # FFmpeg refuses less than the least
    same = head[:2] == FIXED and info[:2] == info[2:4] and first.start == 0
    return Facts(samples, rate, contradictory=contradictory, frame_samples=fixed if same else 0)


def silent_frames(block: NDArray[Any], start: int, frame_samples: int) -> list[int]:
    """Return the numbers of the frames that begin in a block of decoded samples and are silent in it.

    `block` is (n, channels), and its first sample is number `start` of the file.
    """
    first = -start % frame_samples
    if block[first::frame_samples, 0].all():  # the usual case, in a fifth of the time
        return []
    quiet = np.flatnonzero(~block[first::frame_samples].any(axis=1)).tolist()
    return [
        (start + first) // frame_samples + index
        for index in quiet
        if not block[first + index * frame_samples : first + (index + 1) * frame_samples].any()
    ]


def any_missing(read_at: ReadAt, size: int, numbers: set[int]) -> bool:
    """Return whether a file of `size` bytes lacks one of the frames with these numbers."""
    missing, at = numbers.copy(), 0
    while at < size and missing and (piece := read_at(at, BLOCK)):  # nothing, if the file has shrunk
        i = -1
        while (i := piece.find(FIXED, i + 1)) >= 0:
            head = piece[i : i + HEADER]
            if len(head) > 4 and _number(head)[0] in missing and _frame(head, 1):
                missing.discard(_number(head)[0])
        at += max(1, len(piece) - HEADER)
    return bool(missing)


def _number(head: bytes) -> tuple[int, int]:
    """Return the number in a frame header, which is coded like a character in UTF-8, and where it ends."""
    width = max(1, 8 - (head[4] ^ 0xFF).bit_length())
    number = head[4] & (0x7F if width == 1 else 0xFF >> width + 1)
    for byte in head[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    return number, 4 + width


def _frame(head: bytes, fixed: int) -> _Frame | None:
    """Return what the header of a frame states; None if its check sum is wrong.

    `fixed` is the number of samples of every frame but the last, if all have the same.
    """
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    number, at = _number(head)
    block, rate, channels = head[2] >> 4, head[2] & 15, head[3] >> 4
    if block == 0 or rate == 15 or channels > 10:
        return None
    samples = 192 if block == 1 else 576 << block - 2 if block < 6 else 256 << max(0, block - 8)
    if block in (6, 7):
        width = block - 5
        samples, at = int.from_bytes(head[at : at + width], "big") + 1, at + width
    if rate < 12:
        rate_hz = RATES_HZ[rate]
    else:
        width = 1 if rate == 12 else 2
        rate_hz, at = int.from_bytes(head[at : at + width], "big") * (1000, 1, 10)[rate - 12], at + width
    if len(head) <= at or _crc8(head[:at]) != head[at]:
        return None
    start = number if head[1] & 1 else number * fixed
    return _Frame(rate_hz, channels + 1 if channels < 8 else 2, BITS[head[3] >> 1 & 7], start, samples)


def _crc8(head: bytes) -> int:
    """Return the check sum of a frame header: polynomial x^8 + x^2 + x + 1, from 0."""
    crc = 0
    for byte in head:
        crc = CRC8[crc ^ byte]
    return crc


def _crc8_of_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


CRC8 = bytes(map(_crc8_of_byte, range(256)))
