"""`--resume`: a JSON Lines file whose own records say what is done, and finding them again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from ms_edge.audio.opening import file_facts
from ms_edge.errors import UsageError
from ms_edge.output.destination import FileOutput, place
from ms_edge.output.writers import Format, is_as_written
from ms_edge.results import SCHEMA

OUR_START = f'{{"schema": "{SCHEMA}"'.encode()
LOCKED_BYTE = 0x7FFFFFFE  # on Windows, where nobody else may read what is locked: the last that can be


class ResumableOutput(FileOutput):
    """A JSON Lines file, written as FILE.part, that with `resume` goes on where an earlier run ended, however it ended.

    The records themselves tell what is done: a record stands if it is as it was written, and the file (size, time of change),
    the model and the settings are what they were. What an interrupted run left in FILE.part is kept in FILE.resume until FILE
    is whole. FILE.part is locked while it is written: two runs never share one.

    Raises OSError where it cannot be written, UsageError where something that is not ours has one of these names, or another
    run has FILE.part.
    """

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool, *, resume: bool) -> None:
        path = place(path)
        if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe
            self._earlier: list[EarlierRecords] = []
            super().__init__(path, form, labels, timeline)
            return
        part, self._kept = parts(path)
        descriptor = _claimed(part)
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
        super().__init__(path, form, labels, timeline, (descriptor, part))

    def beside(self) -> Sequence[str]:
        """FILE.part and FILE.resume."""
        return parts(self.path)

    def done(self, path: str, settings: dict[str, Any], model: str, provider: str) -> str | None:
        """The record line of an earlier run that still stands for this path, if there is one."""
        if not self._earlier:
            return None
        facts = _facts(path)
        expected = {"settings": settings, "model": model, "provider": provider}
        for earlier in self._earlier:
            line, record = earlier.find(path)
            if (
                record
                and ("segments" in record) == self.timeline
                and record["file"] == facts
                and all(record.get(key) == value for key, value in expected.items())
            ):
                return line
        return None

    def finish(self) -> None:
        """Move the file into place and forget the interrupted runs."""
        super().finish()
        for earlier in self._earlier:
            earlier.close()
        if self.part != self.path:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._kept)


class EarlierRecords:
    """Finds records by path in a JSON Lines file, holding 16 bytes for each."""

    def __init__(self, name: str) -> None:
        self._file = open(name, "rb")  # noqa: SIM115
        keys, offsets = array("Q"), array("Q")
        offset = 0
        for line in self._file:
            if line.endswith(b"\n") and (record := _record(line)) is not None:
                keys.append(_key(record["path"]))
                offsets.append(offset)
            offset += len(line)
        unsorted = np.frombuffer(keys, np.uint64) if keys else np.empty(0, np.uint64)
        order = unsorted.argsort(kind="stable")
        self._keys = unsorted[order]
        self._offsets = (np.frombuffer(offsets, np.uint64) if offsets else np.empty(0, np.uint64))[order]

    def find(self, path: str) -> tuple[str, dict[str, Any] | None]:
        """The last line about that path, and its record."""
        key = np.uint64(_key(path))
        for at in range(int(np.searchsorted(self._keys, key, "right")) - 1, -1, -1):
            if self._keys[at] != key:
                break
            self._file.seek(int(self._offsets[at]))
            line = self._file.readline()
            record = _record(line)
            if record and record["path"] == path:
                return line.decode("ascii"), record
        return "", None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _facts(path: str) -> dict[str, int | str] | None:
    try:
        return file_facts(os.stat(path))
    except (OSError, ValueError):
        return None


def _record(line: bytes) -> dict[str, Any] | None:
    """A record that may stand: of a file that was classified, and as it was written; None for every other line."""
    if not is_as_written(line):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and isinstance(record.get("path"), str) and record.get("file"):
        return record
    return None


def _key(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def parts(path: str) -> tuple[str, str]:
    """The names beside a FILE of what is being written, and of what earlier runs left: FILE.part and FILE.resume."""
    return f"{path}.part", f"{path}.resume"


def _claimed(part: str) -> int:
    """Open FILE.part to write it, for this run alone.

    Raises UsageError if another run writes it, or if it is not ours.
    """
    while True:
        descriptor = _opened(part)
        try:
            if not _lock(descriptor):
                raise UsageError(f"{part}: another run is writing it; wait for it, or give -o another name.")
            # The run that had the lock may have moved it into place between our opening and our locking it.
            if os.path.samestat(os.lstat(part), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(name: str) -> int:
    """Open FILE.part or FILE.resume to read and write it; it is made where there is none.

    What is there is not changed, and no FIFO waited for. Raises UsageError if no earlier run can have left it: if it is a link,
    a FIFO or a device, has another name, or holds something else than records.
    """
    flags = os.O_RDWR
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Before it is opened: of a device that may do something already.
            if _is_plain(os.lstat(name)):
                descriptor = os.open(name, flags)
                if _is_plain(os.fstat(descriptor)) and _begins_with_a_record(descriptor):
                    return descriptor
                os.close(descriptor)
        except FileNotFoundError:  # its run has just ended
            continue
        raise UsageError(f"{name}: is not what an earlier run left; rename it, or give -o another name.")


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1  # 0: its run has just removed it


def _begins_with_a_record(descriptor: int) -> bool:
    """Whether a file begins with a record, or the beginning of one, or is empty."""
    start = os.read(descriptor, len(OUR_START))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return OUR_START.startswith(start)


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed or this process ends, however it ends; false if another process has locked it.

    Where the file system has no locks, nothing is locked. No other part of this process may open the file: to close it would
    unlock it. (`flock` has no such rule; but worker processes share its locks, and end a little later than a run that is killed.)
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
    """Add the whole lines of a part to FILE.resume, on disk for good."""
    os.lseek(part, 0, os.SEEK_SET)
    with open(part, "rb", closefd=False) as file, open(_opened(name), "ab") as kept:
        for line in file:
            if line.endswith(b"\n"):  # the last one may be torn
                kept.write(line)
        kept.flush()
        os.fsync(kept.fileno())
