"""What a WAV file's header says, and where it contradicts itself or the file.

libsndfile decodes; it also forgives without a word. This walks the chunks once, so that nothing is forgiven in silence.
RIFF: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0; RF64: EBU Tech 3306.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEADER = 1 << 20  # bytes before the samples, and chunks in a file: far over what any recorder writes
MAX_CHUNKS = 1000
MAX_PADDING = 4096  # zeros after the last chunk, up to a block of a disk
ENDLESS = 0x7FFF_F000  # from here on a 32-bit size means "a pipe, I could not know"
FORMATS_OF_WHOLE_BYTES = (1, 3)  # PCM and float, whose frame size follows from channels and bits
BLOCK_CODINGS = (0x02, 0x11, 0x31)  # ADPCM of Microsoft and IMA, and GSM: the header says the size of their blocks
G721, NMS = 0x40, 0x38  # whose blocks have a fixed size
NMS_BYTES = {2: 42, 3: 62, 4: 82}  # of a block of 160 samples, by bits for each
MPEG_CODINGS = (0x50, 0x55)  # MP2 and MP3


@dataclass(frozen=True)
class Header:
    """Where a WAV file's samples begin, and what is wrong with what it says of them.

    `open_ended`: their size is not declared, so they go on to the end. `contradictory`: the header holds a chunk twice,
    fields that exclude one another, or bytes after the samples that belong to nothing. `cut`: the file ends before its
    samples do. `block`: bytes and samples of one block, of codings that have such. `coding`: the tag of the format chunk.
    """

    data_offset: int
    data_bytes: int  # as declared
    open_ended: bool
    contradictory: bool
    cut: bool
    block: tuple[int, int] | None
    coding: int


def is_wav(start: bytes) -> bool:
    """True where these first 40 bytes begin a RIFF, RIFX or RF64 WAVE file, or a Wave64 one."""
    return (start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE") or (
        start[:4] == b"riff" and start[24:28] == b"wave"
    )


def read_header(read_at: Callable[[int, int], bytes], size: int | None) -> Header | None:
    """Walk the chunks of a WAV file of `size` bytes (None: a stream), reading with `read_at(offset, count)`.

    None where it is no RIFF WAVE file or holds no samples; libsndfile will say what is wrong with it.
    """
    start = read_at(0, 12)
    if start[:4] not in (b"RIFF", b"RIFX", b"RF64") or start[8:12] != b"WAVE":
        return None
    order = ">" if start[:4] == b"RIFX" else "<"
    long_data_size: int | None = None
    contradictory, formats, offset = False, 0, 12
    block: tuple[int, int] | None = None
    coding = 0
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
            fields = read_at(body, min(length, 20))
            contradictory |= formats > 1 or _impossible(fields[:16], order)
            if formats == 1:  # libsndfile uses the first
                block, coding = _block(fields, order), int.from_bytes(fields[:2], "big" if order == ">" else "little")
        elif name == b"ds64":
            sizes = read_at(body, 16)
            long_data_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else None
        offset = body + length + length % 2
        if offset > MAX_HEADER and size is None:
            return None
    else:
        return None
    if length == 0xFFFF_FFFF and long_data_size is not None:
        length = long_data_size
    endless = ENDLESS <= length <= 0xFFFF_FFFF or length >= 1 << 62
    open_ended = cut = False
    if size is None:
        open_ended = endless or length == 0
    elif length == 0:
        open_ended = not _chunks(read_at, order, body, size)
    elif length >= size - body:
        cut = length > size - body
        open_ended, cut = endless and cut, cut and not endless
    else:
        contradictory |= not _chunks(read_at, order, body + length + length % 2, size)
    return Header(body, length, open_ended, contradictory, cut, block, coding)


def _block(fields: bytes, order: str) -> tuple[int, int] | None:
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
    """Whether a format chunk's frame size is not that of its channels and bits, or its byte rate not that of its frames."""
    if len(fields) < 16:
        return True
    tag, channels, rate, byte_rate, frame_bytes, bits = struct.unpack(order + "HHIIHH", fields)
    if tag not in FORMATS_OF_WHOLE_BYTES:
        return False
    return bool(frame_bytes != channels * ((bits + 7) // 8) or byte_rate != rate * frame_bytes)


def _chunks(read_at: Callable[[int, int], bytes], order: str, offset: int, size: int) -> bool:
    """Whether what lies between offset and the end is whole chunks (no second `data`), or at most a little padding."""
    for _ in range(MAX_CHUNKS):
        head = read_at(offset, 8)
        if len(head) < 8:
            return not any(head)
        if head[:4] == b"data" or not all(32 <= byte < 127 for byte in head[:4]):
            return not any(head) and size - offset <= MAX_PADDING and not any(read_at(offset, MAX_PADDING))
        offset += 8 + struct.unpack(order + "I", head[4:])[0]
        offset += offset % 2
        if offset > size + 1:
            return False
    return False
