"""Where results go: standard output, one file that is moved into place when it is whole, or a tree of small ones."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import IO

from ms_edge.errors import UsageError
from ms_edge.opening import STDIN
from ms_edge.results import Classification, Failure
from ms_edge.writers import Format

Result = Classification | Failure

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
            unique = f"ms-edge-{os.urandom(8).hex()}.part"
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
    from pathlib import PurePath

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
