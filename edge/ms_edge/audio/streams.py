"""File objects in the form that libsndfile needs.

A `Stream` can only be read forward, although libsndfile seeks. A `Section` is a part of a longer
file. A `Stream` also corrects the one WAV header that libsndfile cannot read: samples whose
declared size is 0 or all ones, which a program that writes to a pipe leaves.
"""

from __future__ import annotations

import io
import os
import struct
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import IO

from ms_edge.audio.riff import MAX_HEADER, Header, read_header

# The longest stream in bytes. libsndfile counts the samples of codings with blocks in 31 bits,
# which is 18 hours of telephone audio or more.
LONGEST, LONGEST_IN_BLOCKS = 1 << 62, 1 << 29
HELD = 1 << 16  # bytes read from a file at a time, if libsndfile asks for fewer
WAIT_S = 0.01


class Stream:
    """A file object that can only be read forward, in the form that libsndfile needs.

    A read is only shorter than requested at the end of the stream. `start` holds the bytes that
    were read before libsndfile opened the stream, and, while `opening`, all bytes, because
    libsndfile reads some of them twice. If the size of WAV samples is not declared, the header is
    rewritten to the one form that libsndfile reads to the end (RIFF size 8, data size 0). A
    callback of libsndfile cannot raise an exception: an error ends the stream and is kept in
    `error`.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.error: BaseException | None = None
        self.received = 0
        self._source = source
        self._raw = source if isinstance(source, io.FileIO) else None
        self.start = b""
        self.opening = True
        self._header: Header | None = None
        self._ended = False
        self._position = 0
        self._length = LONGEST

    def read_header(self, size: int | None) -> Header | None:
        """Read the header of a WAV file of `size` bytes, or of a stream (None), up to the samples.

        Returns None if it is not WAV. Corrects a data size that was not known to the writer.
        """
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
            # The bytes after the samples are not inspected: the stream reaches them only after the
            # samples.
            self._length = header.data_offset + header.data_bytes
            if header.block:
                self._length = min(self._length, LONGEST_IN_BLOCKS)
        return header

    def read_at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes of a file that can seek, from an offset; fewer at the end."""
        self._source.seek(offset)
        return _read_fully(self._source, min(count, MAX_HEADER))

    def _peek(self, offset: int, count: int) -> bytes:
        """Return `count` bytes of a stream from an offset, and keep them in `start`."""
        missing = min(offset + count, 2 * MAX_HEADER) - len(self.start)
        if missing > 0:
            self.start += _read_fully(self._source, missing)
        return self.start[offset : offset + count]

    def frames_left(self, frames: int) -> int | None:
        """Return how many frames can follow `frames` frames, once the stream has ended.

        libsndfile invents samples at the end of a stream whose coding has blocks. Returns None if
        libsndfile is correct.
        """
        if not (self._ended and self._header and self._header.block):
            return None
        size, samples = self._header.block
        return max(0, (self.received - self._header.data_offset) // size * samples - frames)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move within the bytes that are in memory, or to the end. libsndfile needs no more."""
        target = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence] + offset
        if target <= len(self.start) or target == self._length:
            self._position = target
        return self._position

    def tell(self) -> int:
        """Return the position in bytes from the beginning."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer and return the number of bytes: fewer at the end or after an error."""
        wanted = min(len(buffer), self._length - self._position)
        got = self.start[self._position : self._position + wanted]
        if self._raw and not got and not self.opening:
            return self._straight(memoryview(buffer)[:wanted])  # slices of a buffer of cffi are copies
        try:
            if len(got) < wanted:
                fresh = _read_fully(self._source, wanted - len(got))
                self.received = max(self.received, len(self.start)) + len(fresh)
                self._ended = len(got) + len(fresh) < wanted
                if self.opening:
                    self.start += fresh
                got += fresh
        except BaseException as error:  # also KeyboardInterrupt: libsndfile would print it and continue
            self.error = error
            return 0
        buffer[: len(got)] = got
        self._position += len(got)
        return len(got)

    def _straight(self, buffer: memoryview) -> int:
        """Fill the buffer as `readinto` does, without a copy in between."""
        assert self._raw
        filled = 0
        try:
            while filled < len(buffer):
                count = self._raw.readinto(buffer[filled:])
                if count is None:  # as in `_read_fully`
                    time.sleep(WAIT_S)
                    continue
                if not count:
                    self._ended = True
                    break
                filled += count
        except BaseException as error:  # also KeyboardInterrupt: libsndfile would print it and continue
            self.error = error
            return 0
        self.received = max(self.received, len(self.start)) + filled
        self._position += filled
        return filled


class Section:
    """Sections of a file object that can seek, in the form that libsndfile needs: as one file.

    `stretches` are the sections as (start, end) offsets. libsndfile is told that the file has
    `length` bytes; 0 for the sum of the sections. As with `Stream`, a read is only shorter than
    requested at the end, and an error is kept in `error`.
    """

    def __init__(self, source: IO[bytes], stretches: Sequence[tuple[int, int]], length: int = 0) -> None:
        self.error: BaseException | None = None
        # While libsndfile opens the file, zeros stand for the bytes that a too large `length`
        # promises.
        self.opening = True
        self._source = source
        self._raw = source if isinstance(source, io.FileIO) else None
        self._stretches = stretches
        self._ends = list(accumulate(end - start for start, end in stretches))
        self._length = length or self._ends[-1]
        self._position = 0
        self._held, self._held_at = memoryview(b""), 0  # a buffer, because libmpg123 reads a few bytes at a time

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset, at most to the end. One before the beginning changes nothing, as in a file."""
        target = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence] + offset
        if target >= 0:
            self._position = min(target, max(self._length, self._ends[-1]))
        return self._position

    def tell(self) -> int:
        """Return the position in bytes from the beginning of the first section.

        Bytes between the sections are not counted.
        """
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer and return the number of bytes: fewer at the end or after an error."""
        at, count = self._position - self._held_at, len(buffer)
        if 0 <= at <= len(self._held) - count:  # most calls, if libsndfile asks for few bytes
            buffer[:] = self._held[at : at + count]
            self._position += count
            return count
        try:
            count = self._filled(buffer)
        except BaseException as error:  # also KeyboardInterrupt: libsndfile would print it and continue
            self.error = error
            return 0
        if self.opening and count < (promised := min(len(buffer), self._length - self._position)):
            buffer[count:promised] = bytes(promised - count)
            count = promised
        self._position += count
        return count

    def _filled(self, buffer: memoryview) -> int:
        """Fill the buffer from the current position, and return the number of bytes."""
        count = len(buffer)
        if self._raw and count >= HELD and self._position + count <= self._ends[0]:
            # The usual case, many samples of a file, without a copy in between.
            self._raw.seek(self._stretches[0][0] + self._position)
            if self._raw.readinto(buffer) == count:
                return count
        self._held, self._held_at = memoryview(self._bytes(max(count, HELD))), self._position
        count = min(count, len(self._held))
        buffer[:count] = self._held[:count]
        return count

    def _bytes(self, count: int) -> bytes:
        """Return `count` bytes from the current position; fewer at the end."""
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
    """Read `count` bytes; fewer only at the end. Wait if the source is non-blocking."""
    pieces = []
    while count:
        piece = source.read(count)
        if piece is None:  # another process has made the shared source non-blocking
            time.sleep(WAIT_S)
            continue
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
