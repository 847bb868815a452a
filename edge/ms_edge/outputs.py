"""Where results go: standard output, one file that is moved into place when it is whole, or a tree of small ones."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import IO, Any

import numpy as np

from ms_edge.audio import STDIN, file_facts
from ms_edge.errors import UsageError
from ms_edge.results import Classification, Failure
from ms_edge.writers import Format

Result = Classification | Failure


class Output:
    """Results as one document in one stream (here: standard output), each flushed as soon as it is there."""

    def __init__(self, form: Format, labels: Sequence[str], timeline: bool, file: IO[str] | None = None) -> None:
        self.form, self.labels, self.timeline = form, labels, timeline
        self.file = file or sys.stdout
        self._any = False
        self.file.write(form.begin(labels, timeline))

    def write(self, result: Result | str) -> None:
        """Write a result, or a record line of an earlier run as it stands."""
        text = result if isinstance(result, str) else self.form.record(result, self.timeline, self.labels)
        self.file.write((self.form.between if self._any else "") + text)
        self._any = True
        self.file.flush()

    def finish(self) -> None:
        """All results are written."""
        self.file.write(self.form.end)
        self.file.flush()

    def abandon(self) -> str:
        """Some results will not come; returns a sentence on what is there."""
        self.file.flush()
        return "the records printed so far are complete"


class FileOutput(Output):
    """One file, written beside its place as FILE.part and moved there when it is whole."""

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool) -> None:
        self.path, self.part = path, f"{path}.part"
        try:
            if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
                self.part = path  # a device or a pipe is written as it is
            # Names that are not Unicode come out as the bytes they were.
            file = open(self.part, "w", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        except OSError as error:
            raise _unwritable(path, error) from None
        super().__init__(form, labels, timeline, file)

    def finish(self) -> None:
        """Move the file into place, on disk for good."""
        super().finish()
        if self.part != self.path:
            os.fsync(self.file.fileno())
        self.file.close()
        if self.part != self.path:
            os.replace(self.part, self.path)

    def abandon(self) -> str:
        """Leave what there is in FILE.part."""
        self.file.close()
        return f"{self.part} holds what was done"


class ResumableOutput(FileOutput):
    """A JSON Lines file that goes on where an earlier run of the same command ended, however it ended.

    The records themselves tell what is done: a record stands if the file (size, time of change), the model and the
    settings are what they were. What an interrupted run left in FILE.part is kept in FILE.resume until FILE is whole.
    """

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool) -> None:
        self.kept = f"{path}.resume"
        try:
            if os.path.exists(f"{path}.part"):
                with open(self.kept, "ab") as kept, open(f"{path}.part", "rb") as part:
                    for line in part:
                        if line.endswith(b"\n"):  # the last one may be torn
                            kept.write(line)
                    kept.flush()
                    os.fsync(kept.fileno())
                os.remove(f"{path}.part")
        except OSError as error:
            raise _unwritable(path, error) from None
        self._earlier = [EarlierRecords(name) for name in (self.kept, path) if os.path.isfile(name)]
        super().__init__(path, form, labels, timeline)

    def done(self, path: str, settings: dict[str, Any], model: str, provider: str) -> str | None:
        """The record line of an earlier run that still stands for this path, if there is one."""
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
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.kept)

    def abandon(self) -> str:
        """Leave what there is for --resume."""
        self.file.close()
        return f"{self.part} holds what was done"


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


class TreeOutput:
    """One document for each input, in a directory that mirrors where the inputs lie: a/b.wav goes to DIR/a/b.wav.SUFFIX."""

    def __init__(self, directory: str, form: Format, labels: Sequence[str], timeline: bool) -> None:
        self.directory, self.form, self.labels, self.timeline = directory, form, labels, timeline

    def write(self, result: Result | str) -> None:
        """Write one whole document and move it into place."""
        assert not isinstance(result, str)
        if isinstance(result, Failure) and self.form.timeline_only:
            return
        path = os.path.join(self.directory, f"{mirrored(result.path)}.{self.form.suffix}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        output = FileOutput(path, self.form, self.labels, self.timeline)
        output.write(result)
        output.finish()

    def finish(self) -> None:
        """Nothing is left to do: each document is whole."""

    def abandon(self) -> str:
        """Nothing to clear away."""
        return f"what is in {self.directory} is complete"


def mirrored(path: str) -> str:
    """Where below a directory the result of an input belongs: its path as given, or its full path where that leads upwards."""
    if path == STDIN:
        return "stdin"
    normal = os.path.normpath(path)
    if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
        normal = os.path.splitdrive(os.path.abspath(normal))[1].lstrip(os.sep)
    return normal


def _facts(path: str) -> dict[str, int | str] | None:
    try:
        return file_facts(os.stat(path))
    except (OSError, ValueError):
        return None


def _record(line: bytes) -> dict[str, Any] | None:
    """A record that may stand: of a file that was classified."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and isinstance(record.get("path"), str) and record.get("file"):
        return record
    return None


def _key(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _unwritable(path: str, error: OSError) -> UsageError:
    return UsageError("usage", f"{path}: cannot be written ({(error.strerror or str(error)).lower()}).")
