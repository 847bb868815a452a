"""File objects as libsndfile wants them: read forward though it likes to seek, or one stretch of a longer file.

Mends the one thing libsndfile does not read: WAV samples whose declared size is what a pipe left, 0 or all ones.
"""

from __future__ import annotations

import os
import struct
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import IO

from ms_edge.audio.riff import MAX_HEADER, Header, read_header

# Bytes of a stream. libsndfile counts the samples of codings in blocks in 31 bits: 18 hours of telephone and more.
LONGEST, LONGEST_IN_BLOCKS = 1 << 62, 1 << 29
HELD = 1 << 16  # bytes of a file that are read at once, where libsndfile asks for less
WAIT_S = 0.01


class Stream:
    """A file object that can only be read forward, for libsndfile: as long as it wants, never short before its end.

    `start` holds the bytes already read of it; while `opening`, all of them, since libsndfile looks at some twice. An
    undeclared size of WAV samples is rewritten to the one form that libsndfile reads to the end (RIFF size 8, data size 0).
    A callback of libsndfile cannot raise: what goes wrong ends the stream, and `error` holds it. `frames_left` is what can
    have come of what has come, once the stream has ended: of codings in blocks libsndfile invents the rest.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.error: BaseException | None = None
        self.received = 0
        self._source = source
        self.start = b""
        self.opening = True
        self._header: Header | None = None
        self._ended = False
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
            if header.block:
                self._length = min(self._length, LONGEST_IN_BLOCKS)
        return header

    def read_at(self, offset: int, count: int) -> bytes:
        """Bytes of a file, wherever they are."""
        self._source.seek(offset)
        return _read_fully(self._source, min(count, MAX_HEADER))

    def _peek(self, offset: int, count: int) -> bytes:
        missing = min(offset + count, 2 * MAX_HEADER) - len(self.start)
        if missing > 0:
            self.start += _read_fully(self._source, missing)
        return self.start[offset : offset + count]

    def frames_left(self, frames: int) -> int | None:
        """How many frames there can be after so many; None where libsndfile knows."""
        if not (self._ended and self._header and self._header.block):
            return None
        size, samples = self._header.block
        return max(0, (self.received - self._header.data_offset) // size * samples - frames)

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
                fresh = _read_fully(self._source, wanted - len(got))
                self.received = max(self.received, len(self.start)) + len(fresh)
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


class Section:
    """Stretches of a file object that can seek, as (start, end), for libsndfile, as one file.

    It may be told another `length` than theirs, in bytes. As with `Stream`, only their end or an error leaves a read short,
    and what goes wrong is kept in `error`.
    """

    def __init__(self, source: IO[bytes], stretches: Sequence[tuple[int, int]], length: int = 0) -> None:
        self.error: BaseException | None = None
        self.opening = True  # until then, zeros are where a length that is too large promises bytes
        self._source = source
        self._stretches = stretches
        self._ends = list(accumulate(end - start for start, end in stretches))
        self._length = length or self._ends[-1]
        self._position = 0
        self._held, self._held_at = b"", 0  # libmpg123 reads a few bytes at a time

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; what lies outside is not reached."""
        target = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence] + offset
        self._position = min(max(0, target), max(self._length, self._ends[-1]))
        return self._position

    def tell(self) -> int:
        """Bytes from the beginning of the first stretch, those between stretches not counted."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer."""
        count = len(buffer)
        at = self._position - self._held_at
        if at < 0 or at + count > len(self._held):
            try:
                self._held, self._held_at, at = self._bytes(max(count, HELD)), self._position, 0
            except BaseException as error:  # also an interrupt: libsndfile would print it and go on
                self.error = error
                return 0
            count = min(count, len(self._held))
        buffer[:count] = self._held[at : at + count]
        if self.opening and count < (promised := min(len(buffer), self._length - self._position)):
            buffer[count:promised] = bytes(promised - count)
            count = promised
        self._position += count
        return count

    def _bytes(self, count: int) -> bytes:
        """So many bytes from where it stands, fewer at the end."""
        at, pieces = self._position, []
        for index in range(bisect_right(self._ends, at), len(self._ends)):
            start, end = self._stretches[index]
            start = end - (self._ends[index] - at)
            self._source.seek(start)
            piece = _read_fully(self._source, min(count, end - start))
            pieces.append(piece)
            at += len(piece)
            count -= len(piece)
            if not count or len(piece) < end - start:
                break
        return b"".join(pieces)


def _read_fully(source: IO[bytes], count: int) -> bytes:
    pieces = []
    while count:
        piece = source.read(count)
        if piece is None:  # somebody made what we share non-blocking
            time.sleep(WAIT_S)
            continue
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
