"""What a WAV file's header says, and where it contradicts itself or the file.

libsndfile decodes; it also forgives without a word. This walks the chunks once, so that nothing is forgiven in silence,
and mends the one thing libsndfile does not read: samples whose declared size is what a pipe left, 0 or all ones.
RIFF: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0; RF64: EBU Tech 3306.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_HEADER = 1 << 20  # bytes before the samples, and chunks in a file: far over what any recorder writes
MAX_CHUNKS = 1000
MAX_PADDING = 4096  # zeros after the last chunk, up to a block of a disk
MAX_OGG_PAGE = 27 + 255 + 255 * 255
ENDLESS = 0x7FFF_F000  # from here on a 32-bit size means "a pipe, I could not know"
FORMATS_OF_WHOLE_BYTES = (1, 3)  # PCM and float, whose frame size follows from channels and bits
BLOCK_CODINGS = (0x02, 0x11, 0x31)  # ADPCM and GSM: libsndfile counts their samples in 31 bits, so
LONGEST, LONGEST_IN_BLOCKS = 1 << 62, 1 << 29  # bytes of a stream; the latter are 18 hours of telephone and more


@dataclass(frozen=True)
class Header:
    """Where a WAV file's samples begin, and what is wrong with what it says of them.

    `open_ended`: their size is not declared, so they go on to the end. `contradictory`: the header holds a chunk twice,
    fields that exclude one another, or bytes after the samples that belong to nothing. `cut`: the file ends before its
    samples do. `block`: bytes and samples of one block, of codings that have such.
    """

    data_offset: int
    data_bytes: int  # as declared
    open_ended: bool
    contradictory: bool
    cut: bool
    block: tuple[int, int] | None


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
            block = _block(fields, order)
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
    if size is None:
        return Header(body, length, endless or length == 0, contradictory, cut=False, block=block)
    rest = size - body
    if length == 0:
        return Header(body, length, not _chunks(read_at, order, body, size), contradictory, cut=False, block=block)
    if length >= rest:
        return Header(
            body, length, endless and length > rest, contradictory, cut=length > rest and not endless, block=block
        )
    tail = body + length + length % 2
    return Header(body, length, False, contradictory or not _chunks(read_at, order, tail, size), cut=False, block=block)


def _block(fields: bytes, order: str) -> tuple[int, int] | None:
    if len(fields) < 20 or struct.unpack(order + "H", fields[:2])[0] not in BLOCK_CODINGS:
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


def ogg_is_cut(read_at: Callable[[int, int], bytes], size: int) -> bool:
    """Whether an Ogg file ends without the page that says so (RFC 3533, section 6): libsndfile does not tell."""
    end = read_at(max(0, size - MAX_OGG_PAGE), MAX_OGG_PAGE)
    page = end.rfind(b"OggS")
    if page < 0 or len(end) < page + 27 or len(end) < page + 27 + end[page + 26]:
        return True
    body = sum(end[page + 27 : page + 27 + end[page + 26]])
    return not end[page + 5] & 4 or len(end) < page + 27 + end[page + 26] + body


class Stream:
    """A descriptor that can only be read forward, for libsndfile: as long as it wants, never short before its end.

    `start` holds the bytes already read of it; while `opening`, all of them, since libsndfile looks at some twice. An
    undeclared size of WAV samples is rewritten to the one form that libsndfile reads to the end (RIFF size 8, data size 0).
    A callback of libsndfile cannot raise: what goes wrong ends the stream, and `error` holds it. `frames_left` is what can
    have come of what has come, once the stream has ended: of codings in blocks libsndfile invents the rest.
    """

    def __init__(self, descriptor: int) -> None:
        self.error: BaseException | None = None
        self._descriptor = descriptor
        self.start = b""
        self.opening = True
        self._header: Header | None = None
        self._ended = False
        self._received = 0
        self._position = 0
        self._length = LONGEST

    def read_header(self, size: int | None) -> Header | None:
        """Read up to the samples of a WAV file of `size` bytes, or stream (None); mend sizes that are those of a pipe."""
        self._header = header = read_header(self._peek if size is None else self.read_at, size)
        if size is not None:
            self.start = self.read_at(0, header.data_offset if header else 40)
        if header and header.open_ended and header.data_offset <= MAX_HEADER:
            at, kept = header.data_offset, bytearray(self.start[: header.data_offset])
            kept[:4] = b"RIFX" if kept[:4] == b"RIFX" else b"RIFF"
            kept[4:8] = struct.pack(">I" if kept[:4] == b"RIFX" else "<I", 8)
            kept[at - 4 : at] = bytes(4)
            self.start = bytes(kept) + self.start[at:]
            self._length = LONGEST_IN_BLOCKS if header.block else LONGEST
        elif header:
            # What follows the samples is not looked for: it cannot be reached without hearing them first.
            self._length = header.data_offset + header.data_bytes
        return header

    def read_at(self, offset: int, count: int) -> bytes:
        """Bytes of a file, wherever they are."""
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        return _read_fully(self._descriptor, min(count, MAX_HEADER))

    def _peek(self, offset: int, count: int) -> bytes:
        missing = min(offset + count, 2 * MAX_HEADER) - len(self.start)
        if missing > 0:
            self.start += _read_fully(self._descriptor, missing)
        return self.start[offset : offset + count]

    def frames_left(self, frames: int) -> int | None:
        """How many frames there can be after so many; None where libsndfile knows."""
        if not (self._ended and self._header and self._header.block):
            return None
        size, samples = self._header.block
        return max(0, (self._received - self._header.data_offset) // size * samples - frames)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move within what is at hand; libsndfile asks for no more of a file it reads forward."""
        target = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence] + offset
        if target <= len(self.start) or target == self._length:
            self._position = target
        return self._position

    def tell(self) -> int:
        """Bytes from the beginning."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer; only the end of the stream, or an error, leaves it short."""
        wanted = min(len(buffer), self._length - self._position)
        got = self.start[self._position : self._position + wanted]
        try:
            if len(got) < wanted:
                fresh = _read_fully(self._descriptor, wanted - len(got))
                self._received = max(self._received, len(self.start)) + len(fresh)
                self._ended = len(got) + len(fresh) < wanted
                if self.opening:
                    self.start += fresh
                got += fresh
        except BaseException as error:  # also an interrupt: libsndfile would print it and go on
            self.error = error
            return 0
        buffer[: len(got)] = got
        self._position += len(got)
        return len(got)


def _read_fully(descriptor: int, count: int) -> bytes:
    pieces = []
    while count and (piece := os.read(descriptor, count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
