"""Where results go: standard output, one file that is moved into place when it is whole, or a tree of small ones."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sys
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import PurePath
from typing import IO, Any

import numpy as np

from ms_edge.audio import STDIN, file_facts
from ms_edge.errors import UsageError
from ms_edge.results import SCHEMA, Classification, Failure
from ms_edge.writers import Format, json_text

Result = Classification | Failure

OUR_START = f'{{"schema": "{SCHEMA}"'.encode()
NAME_ERRORS = (  # what is wrong with one name, not with the disk
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EILSEQ,
)


class Output:
    """Results as one document in one stream (here: standard output), each flushed as soon as it is there."""

    def __init__(self, form: Format, labels: Sequence[str], timeline: bool, file: IO[str] | None = None) -> None:
        self.form, self.labels, self.timeline = form, labels, timeline
        self.file = file or sys.stdout
        self._any = False
        self.file.write(form.begin(labels, timeline))

    def write(self, result: Result | str) -> Result | str:
        """Write a result, or a record line of an earlier run as it stands; returns what has become of it."""
        text = result if isinstance(result, str) else self.form.record(result, self.timeline, self.labels)
        self.file.write((self.form.between if self._any else "") + text)
        self._any = True
        self.file.flush()
        return result

    def finish(self) -> None:
        """All results are written."""
        self.file.write(self.form.end)
        self.file.flush()

    def abandon(self) -> str:
        """Some results will not come; returns a clause on where those are that came, if it needs saying."""
        self.file.flush()
        return ""


class FileOutput(Output):
    """One file, written beside its place under a name that nothing else has, and moved there when it is whole.

    Raises OSError where it cannot be written.
    """

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool, part: str | None = None) -> None:
        self.path = place(path)
        if _is_special(path):
            self.part, mode = self.path, "w"
        elif part:
            self.part, mode = part, "w"
        else:  # short: FILE.part could be too long where FILE is not
            unique = f"ms-edge-{secrets.token_hex(8)}.part"
            self.part, mode = os.path.join(os.path.dirname(self.path), unique), "x"
        # Names that are not Unicode come out as the bytes they were.
        file = open(self.part, mode, encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        super().__init__(form, labels, timeline, file)

    def write(self, result: Result | str) -> Result | str:
        """Write a result; raises UsageError where the file is to replace the recording that it is about."""
        if isinstance(result, Classification) and is_same_file(result.path, self.path):
            raise UsageError("usage", f"{self.path}: is a recording, and not replaced by answers.")
        return super().write(result)

    def finish(self) -> None:
        """Move the file into place, on disk for good; but nothing takes the place of a track that may be there."""
        super().finish()
        if self.part == self.path:
            self.file.close()
        elif self.form.single and not os.fstat(self.file.fileno()).st_size:
            self.discard()
        else:
            os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.part, self.path)

    def abandon(self) -> str:
        """Leave what there is beside the place of the file."""
        if not self._any:
            self.discard()
            return ""
        with contextlib.suppress(OSError):  # of what a full disk did not take
            self.file.close()
        return f"{self.part} holds what was done" if self.part != self.path else ""

    def discard(self) -> None:
        """Leave nothing."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self.part != self.path:
            with contextlib.suppress(OSError):
                os.remove(self.part)


class ResumableOutput(FileOutput):
    """A JSON Lines file, written as FILE.part, that with `resume` goes on where an earlier run ended, however it ended.

    The records themselves tell what is done: a record stands if the file (size, time of change), the model and the
    settings are what they were. What an interrupted run left in FILE.part is kept in FILE.resume until FILE is whole.
    Raises OSError where it cannot be written, UsageError where something that is not ours has one of these names.
    """

    def __init__(self, path: str, form: Format, labels: Sequence[str], timeline: bool, *, resume: bool) -> None:
        path = place(path)
        part, self.kept = f"{path}.part", f"{path}.resume"
        for name in (part, self.kept):
            _require_ours(name)
        if resume and os.path.exists(part):
            with open(self.kept, "ab") as kept, open(part, "rb") as file:
                for line in file:
                    if line.endswith(b"\n"):  # the last one may be torn
                        kept.write(line)
                kept.flush()
                os.fsync(kept.fileno())
            os.remove(part)
        earlier = (self.kept, path) if resume else ()
        self._earlier = [EarlierRecords(name) for name in earlier if os.path.isfile(name)]
        super().__init__(path, form, labels, timeline, part)

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
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.kept)


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
            if record and record["path"] == path and _is_as_written(line, record):
                return line.decode("ascii"), record
        return "", None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TreeOutput:
    """One document for each input, in a directory that mirrors where the inputs lie: a/b.wav goes to DIR/a/b.wav.SUFFIX."""

    def __init__(self, directory: str, form: Format, labels: Sequence[str], timeline: bool) -> None:
        self.directory, self.form, self.labels, self.timeline = directory, form, labels, timeline
        os.makedirs(directory, exist_ok=True)

    def write(self, result: Result | str) -> Result | str:
        """Write one whole document and move it into place; returns the result, or a Failure where its name cannot be had."""
        assert not isinstance(result, str)
        try:
            self._write(result)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            reason = error.strerror if isinstance(error, OSError) else "not a usable file name"
            if isinstance(error, OSError) and error.errno not in NAME_ERRORS:
                raise
            if isinstance(result, Classification):
                return Failure(
                    result.path,
                    "cannot-write",
                    f"{result.path}: its answer cannot be written in {self.directory} ({str(reason).lower()}).",
                )
        return result

    def _write(self, result: Result) -> None:
        path = os.path.join(self.directory, f"{mirrored(result.path)}.{self.form.suffix}")
        if isinstance(result, Failure) and self.form.timeline_only:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)  # what an earlier run said is no longer true
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        output = FileOutput(path, self.form, self.labels, self.timeline)
        try:
            output.write(result)
            output.finish()
        except BaseException:
            output.discard()
            raise

    def finish(self) -> None:
        """Nothing is left to do: each document is whole."""

    def abandon(self) -> str:
        """Nothing to clear away: each document is whole."""
        return ""


def mirrored(path: str) -> str:
    """Where below a directory the result of an input belongs: its path as given, but its full path below `@` where it begins
    at the root or leads upwards, and `@stdin`. No two files share a place: names that begin with @ get another one.
    """
    if path == STDIN:
        return "@stdin"
    pure = PurePath(path)
    if pure.is_absolute() or os.pardir in pure.parts:
        if os.pardir in pure.parts:  # what is above a link is not what its name says
            pure = PurePath(os.path.realpath(pure.parent), pure.name)
        return os.path.join("@" + "".join(filter(str.isalnum, pure.drive)), *pure.parts[1:])
    return f"@{pure}" if str(pure).startswith("@") else str(pure)


def place(path: str) -> str:
    """Where to write what is to be at a path: what a link points to; a device or a pipe as it is."""
    return path if _is_special(path) else os.path.realpath(path)


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def is_same_file(path: str, other: str) -> bool:
    """Whether both are there and are one file; `-` is what standard input is redirected from."""
    try:
        return os.path.samestat(os.stat(0 if path == STDIN else path), os.stat(other))
    except (OSError, ValueError):
        return False


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


def _is_as_written(line: bytes, record: dict[str, Any]) -> bool:
    """Whether a line is as we write it; another tool may have written the file anew."""
    try:
        return json_text(record).encode("ascii") == line
    except (ValueError, RecursionError):
        return False


def _key(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _require_ours(name: str) -> None:
    if os.path.exists(name):
        with open(name, "rb") as file:
            start = file.read(len(OUR_START)).rstrip(b"\0")  # a torn write may leave zeros
        if not OUR_START.startswith(start):
            raise UsageError("usage", f"{name}: is not what an earlier run left; rename it, or give -o another name.")
