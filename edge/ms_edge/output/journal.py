"""`--resume`: the records of a JSON Lines file say which recordings are done.

An interrupted run leaves FILE.part. The next run with --resume copies the records that are still
valid.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from ms_edge.audio.opening import file_facts
from ms_edge.audio.source import MAX_CHANNELS
from ms_edge.errors import UsageError
from ms_edge.output.destination import FileOutput, place
from ms_edge.output.records import record_of
from ms_edge.output.writers import Writer, is_as_written
from ms_edge.results import SCHEMA

OUR_START = f'{{"schema": "{SCHEMA}"'.encode()
MOST_NEW = 1 << 16  # records that are added to an index before it is sorted again
LOCKED_BYTE = 0x7FFFFFFE  # the last possible one: others cannot read a byte locked on Windows


class ResumableOutput(FileOutput):
    """A JSON Lines file that, with `resume`, continues where an earlier run ended.

    The file is written as FILE.part, which is locked: two runs never write the same one. A record
    of an earlier run is used again if the line is unchanged and the recording (size, modification
    time), the model and the settings are the same. If each channel has a record, all of them must
    be there. Records that an interrupted run left in FILE.part are kept in FILE.resume until FILE
    is complete.

    Raises OSError if the file cannot be written. Raises UsageError if another run writes FILE.part,
    or if FILE.part or FILE.resume was not left by an earlier run.
    """

    def __init__(self, path: str, writer: Writer, *, resume: bool) -> None:
        path = place(path)
        self._asked = array("Q")  # keys of the paths that `done` was asked for
        if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe
            self._earlier: list[EarlierRecords] = []
            super().__init__(path, writer)
            return
        part, self._kept = parts(path)
        descriptor = claimed(part)
        try:
            if os.path.lexists(self._kept):
                os.close(_opened(self._kept))
            if resume and os.fstat(descriptor).st_size:
                _keep(descriptor, self._kept)
            os.ftruncate(descriptor, 0)
            earlier = (self._kept, path) if resume else ()
            self._earlier = [EarlierRecords(name) for name in earlier if os.path.isfile(name)]
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            with contextlib.suppress(OSError):  # Windows removes no open file
                if not os.fstat(descriptor).st_size:
                    os.remove(part)
            os.close(descriptor)
            raise
        super().__init__(path, writer, (descriptor, part))

    def beside(self) -> Sequence[str]:
        """Return FILE.part and FILE.resume."""
        return parts(self.path)

    def done(self, path: str, settings: dict[str, Any], model: str, provider: str) -> str | None:
        """Return the valid record lines of an earlier run for this path; None if one is missing.

        `settings`, `model` (SHA-256) and `provider` are those of this run.
        """
        if self._earlier:
            self._asked.append(_key(path, None))
        expected = {"settings": settings, "model": model, "provider": provider}
        for earlier in self._earlier:
            if lines := earlier.valid(path, expected, timeline=self.writer.timeline):
                return lines
        return None

    def left_out(self) -> int:
        """Return the number of recordings that the earlier run has records of and this run was not given."""
        earlier = [one.paths for one in self._earlier]
        return len(np.setdiff1d(np.concatenate(earlier), np.array(self._asked, np.uint64))) if earlier else 0

    def finish(self) -> None:
        """Rename the complete file and remove FILE.resume."""
        super().finish()
        for earlier in self._earlier:
            earlier.close()
        if self.part != self.path:
            with contextlib.suppress(OSError):  # there is none, or its name is longer than a name may be
                os.remove(self._kept)


class EarlierRecords:
    """An index by path and channel of the records in a JSON Lines file: 24 bytes of memory per record.

    Failures are left out, so that they are tried again, unless `failures` is set. `paths` are the keys
    of the recordings' paths, uint64 (n,), without repetitions.
    """

    def __init__(self, name: str, *, failures: bool = False) -> None:
        self._file = open(name, "rb")  # noqa: SIM115
        self._failures = failures
        keys, offsets, paths = array("Q"), array("Q"), array("Q")
        offset = 0
        for line in self._file:
            if line.endswith(b"\n") and (record := self._record(line)) is not None:
                keys.append(_key(record["path"], record.get("channel")))
                offsets.append(offset)
                paths.append(_key(record["path"], None))
            offset += len(line)
        self.paths = np.unique(np.array(paths, np.uint64))
        self._keys = self._offsets = np.empty(0, np.uint64)
        self._merge(keys, offsets)
        self._new: dict[int, int] = {}  # what `add` has added, until it is merged

    def _merge(self, keys: array[int], offsets: array[int]) -> None:
        """Add keys and offsets to the sorted arrays. Where keys are equal, later records stay last."""
        together = np.concatenate([self._keys, np.array(keys, np.uint64)])
        order = together.argsort(kind="stable")
        self._keys = together[order]
        self._offsets = np.concatenate([self._offsets, np.array(offsets, np.uint64)])[order]

    def add(self, path: str, channel: int | None, offset: int) -> None:
        """Add a record that has been written at an offset of the file."""
        self._new[_key(path, channel)] = offset
        if len(self._new) >= MOST_NEW:
            self._merge(array("Q", self._new.keys()), array("Q", self._new.values()))
            self._new.clear()

    def find(self, path: str, channel: int | None) -> tuple[str, dict[str, Any] | None]:
        """Return the last record line of a path and channel, and its record; ("", None) if none."""
        for _, line, record in self.all(path, channel):
            return line, record
        return "", None

    def all(self, path: str, channel: int | None) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield the offset, the line and the record of each record of a path and channel, the last one first."""
        key = _key(path, channel)
        offsets = [self._new[key]] if key in self._new else []
        first, end = (int(np.searchsorted(self._keys, np.uint64(key), side)) for side in ("left", "right"))
        for offset in (*offsets, *map(int, self._offsets[first:end][::-1])):
            self._file.seek(offset)
            line = self._file.readline()
            record = self._record(line)
            if record and (record["path"], record.get("channel")) == (path, channel):
                yield offset, line.decode("ascii"), record

    def of_path(self, path: str) -> dict[int, str]:
        """Return the record lines of a path, in whatever channel, by their offsets."""
        channels = (None, *range(1, MAX_CHANNELS + 1))
        return {offset: line for channel in channels for offset, line, _ in self.all(path, channel)}

    def outdated(self) -> dict[int, str]:
        """Return the record lines, by their offsets, that have a later one of their path and channel."""
        found: dict[int, str] = {}
        for at in np.flatnonzero(self._keys[1:] == self._keys[:-1]):
            self._file.seek(int(self._offsets[at]))
            if record := self._record(self._file.readline()):
                _, *others = self.all(record["path"], record.get("channel"))
                found |= {offset: line for offset, line, _ in others}
        return found

    def valid(self, path: str, expected: dict[str, Any], *, timeline: bool) -> str | None:
        """Return the record lines of a path; None if one is missing or is of an earlier state of the file.

        `expected` are fields that the records must have, among them `settings`.
        """
        expected = {"file": _facts(path), **expected}
        channels, lines = expected["settings"]["channels"], ""
        channel = None if channels == "mix" else 1 if channels == "each" else int(channels)
        while True:
            line, record = self.find(path, channel)
            if not (record and record.get("file")) or ("segments" in record) != timeline:
                return None
            if any(record.get(key) != value for key, value in expected.items()):
                return None
            lines += line
            if channel is None or channels != "each" or channel == record.get("channels"):
                return lines
            channel += 1

    def _record(self, line: bytes) -> dict[str, Any] | None:
        """Return the record in a line; None for a line that is not as it was written, or is not indexed."""
        if not is_as_written(line):
            return None
        try:
            record = record_of(line)
        except ValueError:
            return None
        return record if self._failures or record.get("file") else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _facts(path: str) -> dict[str, int | str] | None:
    try:
        return file_facts(os.stat(path))
    except (OSError, ValueError):
        return None


def _key(path: str, channel: int | None) -> int:
    text = path if channel is None else f"{path}\0{channel}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def parts(path: str) -> tuple[str, str]:
    """Return FILE.part, which a run writes, and FILE.resume, with records of interrupted runs."""
    return f"{path}.part", f"{path}.resume"


def claimed(part: str) -> int:
    """Open FILE.part for writing and lock it.

    Raises UsageError if another run writes it, or if no earlier run left it.
    """
    while True:
        descriptor = _opened(part)
        try:
            if not lock(descriptor):
                raise UsageError(f"{part}: another run is writing it; wait for it, or give -o another name.")
            # The run that had the lock may have renamed the file before we locked it.
            if os.path.samestat(os.lstat(part), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(name: str) -> int:
    """Open FILE.part or FILE.resume for reading and writing; create it if necessary.

    Raises UsageError if no earlier run can have left it: if it is a link, a FIFO or a device, if it
    has a second name, or if it contains something else than records.
    """
    flags = os.O_RDWR
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Checked before opening, because opening a device may have an effect.
            if _is_plain(os.lstat(name)):
                descriptor = os.open(name, flags)
                if _is_plain(os.fstat(descriptor)) and begins_with_a_record(descriptor):
                    return descriptor
                os.close(descriptor)
        except FileNotFoundError:  # the run that wrote it has just ended
            continue
        raise UsageError(f"{name}: was not left by an earlier run; rename it, or give -o another name.")


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1  # 0: just removed by its run


def begins_with_a_record(descriptor: int) -> bool:
    """Return whether a file is empty or begins with a record or a part of one."""
    start = os.read(descriptor, len(OUR_START))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return OUR_START.startswith(start)


def lock(descriptor: int) -> bool:
    """Lock a file until it is closed or this process ends.

    Return false if another process has locked it. If the file system has no locks, return true.
    This process must not open the file a second time, because closing it would release the lock.
    (`flock` locks have no such rule, but worker processes would share them, and workers end a
    little later than a run that is killed.)
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _keep(part: int, name: str) -> None:
    """Append the complete lines of FILE.part to FILE.resume and write them to disk."""
    os.lseek(part, 0, os.SEEK_SET)
    with open(part, "rb", closefd=False) as file, open(_opened(name), "ab") as kept:
        for line in file:
            if line.endswith(b"\n"):  # the last line may be incomplete
                kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
