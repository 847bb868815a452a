"""JSON Lines files that grow while others read them: records are added, and none is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from ms_edge.errors import UsageError
from ms_edge.output.destination import place
from ms_edge.output.journal import EarlierRecords, begins_with_a_record, claimed, lock, parts
from ms_edge.output.writers import JsonLines, Result, Results, is_as_written
from ms_edge.results import Failure

SYNC_S = 1.0  # at most so many seconds of results are written again after a power failure
BLOCK = 1 << 16


class GrowingFile:
    """A file of record lines to which lines are added, and which this process locks.

    Half a line at the end, which a killed process has left, is removed. Raises OSError if the file
    cannot be opened or written, and UsageError if it holds something else than records or if another
    process writes it.
    """

    def __init__(self, path: str) -> None:
        self.path = place(path)
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise UsageError(f"{path}: is no regular file, so nothing can be added to it; give another name.")
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags, 0o666)
        try:
            os.lseek(self._descriptor, _end_of_blanks(self._descriptor), os.SEEK_SET)
            if not begins_with_a_record(self._descriptor):
                raise UsageError(f"{path}: is no file of records, so nothing is added to it; give another name.")
            if not lock(self._descriptor):
                raise UsageError(f"{path}: another process is writing it; end that one, or give another name.")
            self._status = os.fstat(self._descriptor)
            self._end = _end_of_lines(self._descriptor, self._status.st_size)
            rest = _read(self._descriptor, self._end, self._status.st_size)
            if is_as_written(rest + b"\n"):  # an editor has removed the last line end
                self._write(self._end + len(rest), b"\n")
                self._end += len(rest) + 1
            os.ftruncate(self._descriptor, self._end)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._synced, self._synced_at = True, 0.0

    def append(self, lines: bytes) -> int:
        """Write lines at the end, and return the offset of the first.

        Raises UsageError if another program has removed or replaced the file, and OSError if the disk
        does not take all of the lines; then none of them remains.
        """
        self._require_same_file()
        offset = self._end
        try:
            self._write(offset, lines)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, offset)
            raise
        self._end += len(lines)
        return offset

    def blank(self, lines: dict[int, str]) -> None:
        """Overwrite lines, given by their offsets, with spaces: readers of JSON Lines skip empty lines.

        Who reads a long line meanwhile may see the beginning of it and spaces, or the reverse.
        """
        for offset, line in lines.items():
            self._write(offset, b" " * (len(line) - 1) + b"\n")

    def _write(self, offset: int, content: bytes) -> None:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        self._synced = False
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _require_same_file(self) -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path), self._status):
                return
        raise UsageError(f"{self.path}: another program removed or replaced it; start this command again.")

    def sync(self, *, every_s: float = 0.0) -> None:
        """Write to disk what is not, unless that was done in the last `every_s` seconds."""
        now = time.monotonic()
        if not self._synced and now - self._synced_at >= every_s:
            os.fsync(self._descriptor)
            self._synced, self._synced_at = True, now

    def close(self) -> None:
        """Write everything to disk and release the lock."""
        try:
            self.sync()
        finally:
            os.close(self._descriptor)


def _end_of_blanks(descriptor: int) -> int:
    """Return the offset of the first byte of a file that is no white space."""
    end = 0
    while block := os.read(descriptor, BLOCK):
        end += len(block) - len(block.lstrip())
        if not block.isspace():
            break
    return end


def _end_of_lines(descriptor: int, size: int) -> int:
    """Return the offset after the last line end of a file of `size` bytes."""
    end = size
    while end:
        start = max(0, end - BLOCK)
        os.lseek(descriptor, start, os.SEEK_SET)
        found = os.read(descriptor, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _read(descriptor: int, start: int, end: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while start < end and (part := os.read(descriptor, end - start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


class GrowingOutput:
    """The results of a run that does not end: one record per recording, in a file that others may read.

    A result is in the file as soon as it is written. If the file has a record of an earlier state of
    the recording, a blank line takes its place. The records of earlier runs stay: see `done`.

    `expected` are the fields `settings`, `model` and `provider` of the records of this run.

    Raises OSError if the file cannot be written. Raises UsageError if it holds something else than
    records, if another run writes it, or if an interrupted run of `classify` has left results beside
    it.
    """

    def __init__(self, path: str, writer: JsonLines, expected: dict[str, Any]) -> None:
        self.writer, self._expected = writer, expected
        #: paths whose files were gone when they were to be classified: they have no record
        self.vanished: set[str] = set()
        part, kept = parts(place(path))
        if os.path.lexists(kept) or (os.path.isfile(part) and os.path.getsize(part)):
            left = kept if os.path.lexists(kept) else part
            raise UsageError(f"{left}: is of an interrupted run of classify; run that again with --resume first.")
        # `classify -o FILE` locks FILE.part and replaces FILE, which must not happen meanwhile.
        self._part, self._claim = part, claimed(part)
        try:
            self._file = GrowingFile(path)
        except BaseException:
            self._release()
            raise
        self._index = EarlierRecords(self._file.path, failures=True)
        self._file.blank(self._index.outdated())

    def done(self, path: str) -> bool:
        """Return whether the file has valid records of a recording in its present state."""
        return self._index.valid(path, self._expected, timeline=self.writer.timeline) is not None

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input."""
        return given

    def write(self, results: Results | str) -> Results | str:
        """Add the records of a recording, and blank those of its earlier state.

        Nothing is written of a recording that was removed before it was read.
        """
        assert not isinstance(results, str)
        path = results.path if isinstance(results, Failure) else results[0].path
        if isinstance(results, Failure) and not os.path.lexists(path):
            self.vanished.add(path)
            return results
        before = self._index.of_path(path)
        each: tuple[Result, ...] = (results,) if isinstance(results, Failure) else results
        lines = [self.writer.record(result) for result in each]
        if list(before.values()) == lines:  # it failed for the same reason in an earlier run
            return results
        offset = self._file.append("".join(lines).encode("ascii"))
        for result, line in zip(each, lines, strict=True):
            channel = None if isinstance(result, Failure) else result.channel
            self._index.add(path, channel, offset)
            offset += len(line)
        self._file.blank(before)
        self._file.sync(every_s=SYNC_S)
        return results

    def sync(self) -> None:
        """Write what is not on disk to disk, at most once in SYNC_S."""
        self._file.sync(every_s=SYNC_S)

    def finish(self) -> None:
        """Close the file."""
        self._index.close()
        self._file.close()
        self._release()

    def abandon(self) -> str:
        """Close the file, and return a clause that names it."""
        self.finish()
        return f"{self._file.path} holds the results so far, and the same command goes on from there"

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            os.remove(self._part)
        os.close(self._claim)
