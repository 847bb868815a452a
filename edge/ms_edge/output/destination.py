"""Where results go: standard output, one file that is moved into place when it is whole, or a tree of small ones."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import IO

from ms_edge.audio.opening import STDIN
from ms_edge.errors import UsageError
from ms_edge.output.writers import Format
from ms_edge.results import Classification, Failure

Result = Classification | Failure

NAME_ERRORS = (  # what is wrong with one name, not with the disk
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EILSEQ,
)

# How the documents of every format begin: see `is_answer`.
ANSWER = re.compile(
    rb"\Z|LABEL +PROBABILITY| +START +END"  # text
    rb'|{"schema": "ms-edge/|\[\n'  # jsonl, json
    rb"|path[,\t]"  # csv, tsv
    rb"|\d+\.\d{6}\t\d+\.\d{6}\t"  # audacity
    rb"|SPEAKER |;; "  # rttm
    rb'|File type = "ooTextFile"|WEBVTT\n'  # textgrid, webvtt
)
ANSWER_BYTES = 64  # from the beginning of a file: enough for each of them


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

    def checked(self, given: str | Failure) -> str | Failure:
        """Return an input that may be read, or a Failure in its place; raise UsageError if the results would replace it."""
        return given

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

    `part` is a file that is open and empty, and its name, to be used instead. Raises OSError where it cannot be written.
    """

    def __init__(
        self, path: str, form: Format, labels: Sequence[str], timeline: bool, part: tuple[int, str] | None = None
    ) -> None:
        self.path = place(path)
        opened: int | str
        if _is_special(path):
            opened, self.part, mode = self.path, self.path, "w"
        elif part:
            (opened, self.part), mode = part, "w"
        else:  # short: FILE.part could be too long where FILE is not
            unique = f"ms-edge-{os.urandom(8).hex()}.part"
            opened = self.part = os.path.join(os.path.dirname(self.path), unique)
            mode = "x"
        self._replaced = _identity(self.path)
        # Names that are not Unicode come out as the bytes they were.
        file = open(opened, mode, encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        self._status = os.fstat(file.fileno())
        super().__init__(form, labels, timeline, file)

    def checked(self, given: str | Failure) -> str | Failure:
        """Return an input that may be read, a Failure if it is the part of this run (a directory may hold it).

        Raises UsageError if it is the file that is to be replaced.
        """
        path = given if isinstance(given, str) else given.path
        if self.part == self.path or (found := _identity(path)) is None:
            return given
        if found == _identity(self.path):
            raise UsageError(f"{self.path}: is a recording or an input, and not replaced by answers.")
        if found in map(_identity, self.beside()):
            return Failure(path, "cannot-open", f"{path}: is what this run writes.")
        return given

    def beside(self) -> Sequence[str]:
        """The files beside its place that this output writes."""
        return (self.part,)

    def finish(self) -> None:
        """Move the file into place, on disk for good; but nothing takes the place of a track that may be there.

        Raises UsageError if a file that is no answer has come to its place, or the part has gone, since the run began.
        """
        super().finish()
        if self.part == self.path:
            self.file.close()
        elif self.form.single and not os.fstat(self.file.fileno()).st_size:
            self.discard()
        else:
            os.fsync(self.file.fileno())
            if not self._has_part():
                raise UsageError(
                    f"{self.part}: another program removed or replaced it, and with it the answers of this run."
                )
            if _identity(self.path) not in (None, self._replaced) and not is_answer(self.path):
                raise UsageError(
                    f"{self.path}: another program put a file there that is no answer, and it is not replaced."
                )
            if os.name == "nt":  # where no open file can be moved
                self.file.close()
            os.replace(self.part, self.path)
            self.file.close()  # not before: who then holds the lock of a part finds that its name has gone

    def abandon(self) -> str:
        """Leave what there is beside the place of the file."""
        if not self._any:
            self.discard()
            return ""
        kept = self.part != self.path and self._has_part()
        with contextlib.suppress(OSError):  # of what a full disk did not take
            self.file.close()
        return f"{self.part} holds what was done" if kept else ""

    def discard(self) -> None:
        """Leave nothing."""
        if self.part != self.path and self._has_part():
            with contextlib.suppress(OSError):
                if os.name == "nt":
                    self.file.close()
                os.remove(self.part)
        with contextlib.suppress(OSError):
            self.file.close()

    def _has_part(self) -> bool:
        """Whether the part still has its name: another file may have got it."""
        try:
            return os.path.samestat(os.lstat(self.part), self._status)
        except OSError:
            return False


class TreeOutput:
    """One document for each input, in a directory that mirrors where the inputs lie: a/b.wav goes to DIR/a/b.wav.SUFFIX.

    A document replaces another answer, and nothing else: a file that begins like no answer may be an input that is named only
    later. `inputs` are those that are known (files, the list of files, the model): none of them is replaced, whatever it holds.
    """

    def __init__(
        self, directory: str, form: Format, labels: Sequence[str], timeline: bool, inputs: Sequence[str] = ()
    ) -> None:
        self.directory, self.form, self.labels, self.timeline = directory, form, labels, timeline
        self._inputs = inputs
        self._identities: set[tuple[int, int] | None] | None = None  # of the inputs, as soon as they are needed
        os.makedirs(directory, exist_ok=True)

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input: whether a file may be replaced is looked at when it is about to be."""
        return given

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
                reason = f"{str(reason)[:1].lower()}{str(reason)[1:]}"
                return Failure(
                    result.path,
                    "cannot-write",
                    f"{result.path}: its answer cannot be written in {self.directory} ({reason}).",
                )
        return result

    def _write(self, result: Result) -> None:
        path = os.path.join(self.directory, f"{mirrored(result.path)}.{self.form.suffix}")
        if os.path.lexists(path) and not self._may_replace(path):
            raise FileExistsError(errno.EEXIST, f"{path} exists and is an input or no answer of ms-edge")
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

    def _may_replace(self, path: str) -> bool:
        if os.path.isdir(path) or not os.path.exists(path):  # which the system refuses; a link to what is to be made
            return True
        if self._identities is None:
            self._identities = set(map(_identity, self._inputs))
        return is_answer(path) and _identity(path) not in self._identities

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


def is_answer(path: str) -> bool:
    """Whether a file begins like one that ms-edge wrote, in whatever format, or is empty: no recording does."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return ANSWER.match(file.read(ANSWER_BYTES)) is not None
    except OSError:
        return False


def is_same_file(path: str, other: str) -> bool:
    """Whether both are there and are one file; `-` is what standard input is redirected from."""
    found = _identity(path)
    return found is not None and found == _identity(other)


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file, of what a link leads to; None where there is none."""
    try:
        found = os.stat(0 if path == STDIN else path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
