"""Read the header of a WAV file, and find where it contradicts itself or the file.

libsndfile decodes the samples but ignores such contradictions silently. This module walks the
chunks once so that the user gets a warning. Sources: Microsoft and IBM, Multimedia Programming
Interface and Data Specifications 1.0 (RIFF); EBU Tech 3306 (RF64).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

ReadAt = Callable[[int, int], bytes]  # (offset, count) -> at most `count` bytes of a file

# Far above what any recorder writes: the bytes before the samples, and the chunks of a file.
MAX_HEADER = 1 << 20
MAX_CHUNKS = 1000
MAX_PADDING = 4096  # zeros after the last chunk, which fill a block of a disk
ENDLESS = 0x7FFF_0000  # a 32-bit size from here on means that the writer did not know the size
MOST_PER_BYTE = 64  # samples of all channels that a byte of any coding can hold
FORMATS_OF_WHOLE_BYTES = (1, 3, 6, 7)  # PCM, float, A-law, mu-law: channels and bits give the frame size
LOGARITHMIC = (6, 7)  # A-law and mu-law: always 8 bits
EXTENSIBLE = 0xFFFE  # the chunk continues with the valid bits, the speakers and the tag of the samples
ADPCM = {0x02: (7, 2), 0x11: (4, 1)}  # Microsoft, IMA: bytes of a block's header per channel, and samples in it
GSM = 0x31
BLOCK_CODINGS = (0x02, 0x11, GSM)  # Microsoft ADPCM, IMA ADPCM and GSM: the header has the block size
G721, NMS = 0x40, 0x38  # codings with a fixed block size
G721_BITS = 4  # of a sample
NMS_BYTES = {2: 42, 3: 62, 4: 82}  # bits per sample: bytes of a block of 160 samples
MPEG_CODINGS = (0x50, 0x55)  # MP2 and MP3


class Header(NamedTuple):
    """Where the samples of a WAV file begin, and what is wrong with its header.

    `open_ended`: the header does not declare the size of the samples, so they continue to the end.
    `contradictory`: the header has a chunk twice, fields that exclude one another, or bytes after
    the samples that belong to no chunk. `cut`: the file ends before its samples do. `block`: the
    bytes and the samples of one block, for codings that have blocks. `coding`: the tag in the
    format chunk, and `sample_rate_hz` the rate in it. `bext`: the offset of the body of the chunk
    that states when the recording began (EBU Tech 3285); 0 if there is none.
    """

    data_offset: int
    data_bytes: int  # as declared
    open_ended: bool
    contradictory: bool
    cut: bool
    block: tuple[int, int] | None
    coding: int
    sample_rate_hz: int
    bext: int


def is_wav(start: bytes) -> bool:
    """Return whether these first 40 bytes begin a RIFF, RIFX, RF64 or Wave64 WAVE file."""
    return (start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE") or (
        start[:4] == b"riff" and start[24:28] == b"wave"
    )


def read_header(read_at: ReadAt, size: int | None) -> Header | None:
    """Read the header of a WAV file of `size` bytes, or of a stream (None).

    `read_at(offset, count)` reads the bytes. Returns None if this is not a RIFF WAVE file or has no
    samples; libsndfile then reports the error.
    """
    start = read_at(0, 12)
    if start[:4] not in (b"RIFF", b"RIFX", b"RF64") or start[8:12] != b"WAVE":
        return None
    order = ">" if start[:4] == b"RIFX" else "<"
    sizes = b""
    contradictory, formats, offset = False, 0, 12
    block: tuple[int, int] | None = None
    coding = rate = bext = 0
    for _ in range(MAX_CHUNKS):
        head = read_at(offset, 8)
        if len(head) < 8:
            return None
        name, length = head[:4], struct.unpack(order + "I", head[4:])[0]
        body = offset + 8
        if name == b"data":
            break
        if name == b"fmt ":
            formats += 1
            fields = read_at(body, min(length, 40))
            contradictory |= formats > 1 or _impossible(fields, order)
            if formats == 1:  # libsndfile uses the first one
                block = _block(fields, order)
                coding, rate = struct.unpack(order + "H2xI", fields[:8].ljust(8, b"\0"))
        elif name == b"ds64":
            sizes = read_at(body, min(length, 24))
            contradictory |= offset > 12
        elif name == b"bext":
            bext = body
        offset = body + length + length % 2
        if offset > MAX_HEADER and size is None:
            return None
    else:
        return None
    if start[:4] == b"RF64":
        length, wrong = _long_size(sizes, length)
        contradictory |= wrong
    open_ended, cut, extra, late_bext = _compare_with_file(read_at, order, body, length, size)
    return Header(body, length, open_ended, contradictory or extra, cut, block, coding, rate, bext or late_bext)


def _long_size(sizes: bytes, length: int) -> tuple[int, bool]:
    """Return the size of the samples of RF64, and whether the header contradicts itself.

    `sizes` is the start of the `ds64` chunk, and `length` the size in 32 bits.
    """
    if len(sizes) < 24:
        return length, True
    long, samples = struct.unpack("<8xQQ", sizes)
    known = length != 0xFFFF_FFFF
    total = length if known else long
    return total, bool(samples > MOST_PER_BYTE * total or (known and long not in (0, length)))


def _compare_with_file(
    read_at: ReadAt, order: str, body: int, length: int, size: int | None
) -> tuple[bool, bool, bool, int]:
    """Compare the samples with the file.

    `body` is the offset of the samples and `length` their declared size, in a file of `size` bytes.
    Returns whether the samples are `open_ended`, are `cut`, or have other bytes after them, and the
    offset of the body of a `bext` chunk after them, or 0.
    """
    endless = ENDLESS <= length <= 0xFFFF_FFFF or length >= 1 << 62
    if size is None:
        return endless or length == 0, False, False, 0
    if length and length >= size - body:
        short = length > size - body
        return endless and short, short and not endless, False, 0
    chunks, bext = chunks_after(read_at, order, body + length + length % 2, size)
    if not chunks and length % 2:  # many writers forget the pad byte
        chunks, bext = chunks_after(read_at, order, body + length, size)
    return length == 0 and not chunks, False, length > 0 and not chunks, bext


def _block(fields: bytes, order: str) -> tuple[int, int] | None:
    """Return the bytes and the samples of a block, as a format chunk states them.

    Returns None for a coding without blocks.
    """
    if len(fields) < 16:
        return None
    coding, channels, bits = struct.unpack(order + "HH10xH", fields[:16])
    if coding == G721 and channels == 1:
        return 60, 120
    if coding == NMS and channels == 1 and bits in NMS_BYTES:
        return NMS_BYTES[bits], 160
    if coding not in BLOCK_CODINGS or len(fields) < 20:
        return None
    size, samples = struct.unpack(order + "H4xH", fields[12:20])
    return (size, samples) if size and samples else None


def _impossible(fields: bytes, order: str) -> bool:
    """Return whether the fields of a format chunk contradict each other.

    The frame size must follow from the channels and bits, the byte rate from the frame size, and the
    samples of an ADPCM block from its size. An extensible header has no more valid bits than bits.
    G.721 has 4 bits, and its byte rate is that of 4 bits and perhaps of headers of blocks.
    """
    if len(fields) < 16:
        return True
    tag, channels, rate, byte_rate, frame_bytes, bits = struct.unpack(order + "HHIIHH", fields[:16])
    if tag in ADPCM and channels and bits == 4 and len(fields) >= 20:
        header, samples = ADPCM[tag]
        held = (frame_bytes // channels - header) * 2 + samples
        return bool(frame_bytes % channels or held != struct.unpack(order + "H", fields[18:20])[0])
    if tag == G721:
        return not (bits == G721_BITS and bits * rate <= 8 * byte_rate < (bits + 1) * rate)
    if tag == EXTENSIBLE:
        if len(fields) < 40:
            return True
        extra, valid_bits, tag = struct.unpack(order + "HH4xH", fields[16:26])
        if extra < 22 or valid_bits > bits:
            return True
    if tag not in FORMATS_OF_WHOLE_BYTES or (tag in LOGARITHMIC and bits != 8):
        return tag in LOGARITHMIC
    return bool(frame_bytes != channels * ((bits + 7) // 8) or byte_rate != rate * frame_bytes)


def chunks_after(read_at: ReadAt, order: str, offset: int, size: int) -> tuple[bool, int]:
    """Return whether the bytes from `offset` to the end are whole chunks or a little padding.

    A second `data` chunk is not allowed. Also returns the offset of the body of a `bext` chunk, or 0.
    """
    bext = 0
    for _ in range(MAX_CHUNKS):
        head = read_at(offset, 8)
        if len(head) < 8:
            return not any(head), bext
        if head[:4] == b"data" or not all(32 <= byte < 127 for byte in head[:4]):
            padding = not any(head) and size - offset <= MAX_PADDING and not any(read_at(offset, MAX_PADDING))
            return padding, bext
        if head[:4] == b"bext":
            bext = offset + 8
        length = struct.unpack(order + "I", head[4:])[0]
        offset += 8 + length + length % 2  # `offset` is odd if the samples have no pad byte
        if offset > size + 1:
            return False, bext
    return False, bext
