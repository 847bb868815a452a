"""Where results are written: standard output, one file (atomically), or a directory of files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, TextIO, cast

from ms_edge.audio.containers import RECORDINGS
from ms_edge.audio.opening import STDIN
from ms_edge.errors import UsageError
from ms_edge.output.writers import Results, UnwritableError, Writer
from ms_edge.results import Failure

NAME_ERRORS = (  # errors of one file name, not of the disk
    errno.ENAMETOOLONG,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EILSEQ,
)

# The beginnings of the documents of every format: see `is_answer`.
ANSWER = re.compile(
    rb"\Z|LABEL +PROBABILITY| +START +END"  # text
    rb'|{"schema": "ms-edge/|\[\n'  # jsonl, json
    rb"|path[,\t]"  # csv, tsv
    rb"|\d+\.\d{6}\t\d+\.\d{6}\t"  # audacity
    rb'|<\?xml version="1.0" encoding="UTF-8"\?>\n<ANNOTATION_DOCUMENT AUTHOR="ms-edge"'  # elan
    rb'|REM COMMENT "ms-edge"\n|Selection\tView\tChannel\t'  # cue, raven
    rb"|SPEAKER |;; |1\n\d+:\d\d:\d\d,\d{3} --> "  # rttm, srt
    rb'|File type = "ooTextFile"|WEBVTT\n'  # textgrid, webvtt
    rb"|<!DOCTYPE html>\n<!-- ms-edge report -->"  # ms-edge report
    rb"|PK\x03\x04.{26}docProps/app\.xml",  # xlsx, as openpyxl writes it and Excel does not
    re.DOTALL,
)
ANSWER_BYTES = 128  # enough of a file to recognise each of them


class Output:
    """One document in a stream, by default standard output. The results of each input are flushed."""

    def __init__(self, writer: Writer, file: TextIO | None = None) -> None:
        self.writer = writer
        self.file = file or sys.stdout
        self._any = self._classified = False
        self.file.write(writer.begin())

    def write(self, results: Results | str) -> Results | str:
        """Write the results of an input, or the record lines of an earlier run unchanged. Return them."""
        text = results if isinstance(results, str) else self.writer.records(results)
        self.file.write((self.writer.between if self._any else "") + text)
        self.file.flush()
        self._any = True
        self._classified |= not isinstance(results, Failure)
        return results

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input if it may be read, otherwise a Failure.

        Raises UsageError if the output would replace it.
        """
        return given

    def finish(self) -> None:
        """End the document. Call it after the last result."""
        self.writer.end(self.file)
        self.file.flush()

    def abandon(self) -> str:
        """End an incomplete document. Return a clause that says where the results are, or ""."""
        self.file.flush()
        return ""


class FileOutput(Output):
    """One file, written under another name in the same directory and renamed when complete.

    `part` is an open, empty file and its name, to be used instead of a unique name. A device or a
    pipe is written directly. Raises OSError if the file cannot be written.
    """

    def __init__(self, path: str, writer: Writer, part: tuple[int, str] | None = None) -> None:
        self.path = place(path)
        opened: int | str
        if _is_special(path):
            opened, self.part, mode = self.path, self.path, "w"
        elif part:
            (opened, self.part), mode = part, "w"
        else:
            opened = self.part = unique_part(self.path)
            mode = "x"
        self._replaced = _identity(self.path)
        # Names of recordings that are not Unicode are written as their original bytes.
        file = cast(TextIO, open(opened, mode, encoding="utf-8", errors="surrogateescape", newline=""))  # noqa: SIM115
        self._status = os.fstat(file.fileno())
        super().__init__(writer, file)

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input, or a Failure if this run writes it (a directory may contain it).

        Raises UsageError if it is the file that the results would replace.
        """
        path = given if isinstance(given, str) else given.path
        if self.part == self.path or (found := _identity(path)) is None:
            return given
        if found == _identity(self.path):
            raise UsageError(f"{self.path}: is a recording or an input, and not replaced; give -o another name.")
        if found in map(_identity, self.beside()):
            return Failure(path, "cannot-open", f"{path}: is an output of this run.")
        return given

    def beside(self) -> Sequence[str]:
        """Return the other files that this output writes."""
        return (self.part,)

    def finish(self) -> None:
        """Write the file to disk and rename it. The empty track of a failure is removed.

        Raises UsageError if another program has removed the incomplete file or has put a file in
        its place that is not a result of ms-edge.
        """
        super().finish()
        if self.part == self.path:
            self.file.close()
        elif self.writer.single and not self._classified:
            self.discard()
        else:
            os.fsync(self.file.fileno())
            if not self._has_part():
                raise UsageError(
                    f"{self.part}: another program removed or replaced it, so the results of this run are lost.",
                )
            if _identity(self.path) not in (None, self._replaced) and not is_answer(self.path):
                raise UsageError(
                    f"{self.path}: another program put a file there that is not a result of ms-edge; it is not replaced.",
                )
            if os.name == "nt":  # Windows renames no open file
                self.file.close()
            os.replace(self.part, self.path)
            self.file.close()  # not before: this releases the lock for the next run

    def abandon(self) -> str:
        """Keep the incomplete file if it has results, and return a clause that names it."""
        if not self._any:
            self.discard()
            return ""
        kept = self.part != self.path and self._has_part()
        try:
            self.writer.end(self.file)
        except OSError:  # a full disk did not take the last results
            if self.writer.binary:  # nothing can be read in a part of a workbook
                self.discard()
                return ""
        with contextlib.suppress(OSError):
            self.file.close()
        return f"{self.part} holds the results so far" if kept else ""

    def discard(self) -> None:
        """Remove the incomplete file."""
        if self.part != self.path and self._has_part():
            with contextlib.suppress(OSError):
                if os.name == "nt":
                    self.file.close()
                os.remove(self.part)
        with contextlib.suppress(OSError):
            self.file.close()

    def _has_part(self) -> bool:
        """Return whether the name of the incomplete file still belongs to it."""
        try:
            return os.path.samestat(os.lstat(self.part), self._status)
        except OSError:
            return False


class TreeOutput:
    """One document per input and writer, in a directory that mirrors the inputs.

    The document of a/b.wav is DIR/a/b.wav.SUFFIX. A document replaces only a file that begins like
    a result of ms-edge: any other file may be an input that is named later. `inputs` are the known
    inputs (recordings, the list of files, the model). They are never replaced.
    """

    def __init__(self, directory: str, writers: Sequence[Writer], inputs: Sequence[str] = ()) -> None:
        self.directory, self.writers = directory, writers
        self._inputs = frozenset(inputs)
        self._identities: set[tuple[int, int] | None] | None = None  # computed when needed
        self._documents: set[str] = set()  # that a directory of inputs contains
        os.makedirs(directory, exist_ok=True)
        self._inside = os.path.join(os.path.realpath(directory), "")

    def checked(self, given: str | Failure) -> str | Failure:
        """Return the input, or a Failure if it is a document in the output directory.

        `write` checks whether a document would replace an input.
        """
        if isinstance(given, Failure) or given.lower().endswith(RECORDINGS) or given in self._inputs:
            return given
        with contextlib.suppress(ValueError):  # no file can have the name
            if os.path.realpath(given).startswith(self._inside) and is_answer(given) and os.path.getsize(given):
                self._documents.add(given)
                return Failure(given, "cannot-open", f"{given}: is an output of this run or an earlier one.")
        return given

    def write(self, results: Results | str) -> Results | str:
        """Write each document atomically. Return the results, or a Failure if that is impossible."""
        assert not isinstance(results, str)
        input_path = results.path if isinstance(results, Failure) else results[0].path
        if input_path in self._documents:  # a document of a document would have another one, and so on
            return results
        try:
            for writer in self.writers:
                self._write(input_path, results, writer)
        except UnwritableError as error:
            return Failure(input_path, "cannot-write", error.message)
        except (OSError, ValueError) as error:  # ValueError: no file can have the name
            reason = error.strerror if isinstance(error, OSError) else "not a usable file name"
            if isinstance(error, OSError) and error.errno not in NAME_ERRORS:
                raise
            if not isinstance(results, Failure):
                reason = f"{str(reason)[:1].lower()}{str(reason)[1:]}"
                message = f"{input_path}: its result cannot be written in {self.directory} ({reason})."
                return Failure(input_path, "cannot-write", message)
        return results

    def _write(self, input_path: str, results: Results, writer: Writer) -> None:
        path = os.path.join(self.directory, f"{mirrored(input_path)}.{writer.suffix}")
        if os.path.lexists(path) and not self._may_replace(path):
            raise FileExistsError(errno.EEXIST, f"{path} exists and is an input or not a result of ms-edge")
        if isinstance(results, Failure) and writer.timeline_only:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)  # the track of an earlier run is outdated
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        output = FileOutput(path, writer)
        try:
            output.write(results)
            output.finish()
        except BaseException:
            output.discard()
            raise

    def _may_replace(self, path: str) -> bool:
        # The system refuses to replace a directory. The target of a link may not exist yet.
        if os.path.isdir(path) or not os.path.exists(path):
            return True
        if self._identities is None:
            self._identities = set(map(_identity, self._inputs))
        return is_answer(path) and _identity(path) not in self._identities

    def finish(self) -> None:
        """Do nothing: each document is complete."""

    def abandon(self) -> str:
        """Return "": each document is complete."""
        return ""


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing, which is renamed to `path` if the `with` block ends without an exception.

    Otherwise it is removed. It has another name in the same directory. A device or a pipe is
    written directly. Raises OSError if the file cannot be written.
    """
    path = place(path)
    if _is_special(path):
        with open(path, "wb") as file:
            yield file
        return
    part = unique_part(path)
    try:
        with open(part, "xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


def unique_part(path: str) -> str:
    """Return a new name for an incomplete file in the directory of `path`.

    It is short: FILE.part could be too long where FILE is not.
    """
    return os.path.join(os.path.dirname(path), f"ms-edge-{os.urandom(8).hex()}.part")


def mirrored(path: str) -> str:
    """Return the path of an input's document relative to the output directory, without its suffix.

    It is the path of the input as given. A path that is absolute or contains `..` becomes its full
    path below `@`, and standard input becomes `@stdin`. Another name that begins with @ gets a
    second one, so that no two inputs have the same document.
    """
    if path == STDIN:
        return "@stdin"
    from pathlib import PurePath

    pure = PurePath(path)
    if pure.is_absolute() or os.pardir in pure.parts:
        if os.pardir in pure.parts:  # the parent of a link's target is not the link's
            pure = PurePath(os.path.realpath(pure.parent), pure.name)
        return os.path.join("@" + "".join(filter(str.isalnum, pure.drive)), *pure.parts[1:])
    return f"@{pure}" if str(pure).startswith("@") else str(pure)


def place(path: str) -> str:
    """Return the path to write to: the target of a link; a device or a pipe as given."""
    return path if _is_special(path) else os.path.realpath(path)


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def is_answer(path: str) -> bool:
    """Return whether a file is empty or begins like a result of ms-edge, as no recording does."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return ANSWER.match(file.read(ANSWER_BYTES)) is not None
    except OSError:
        return False


def require_no_recording(output: str, inputs: Iterable[str]) -> None:
    """Raise UsageError if writing `output` would replace an input or a recording (`-o *.wav`)."""
    if os.path.isfile(output) and any(is_same_file(path, output) for path in inputs):
        raise UsageError(f"{output}: is an input and is not replaced; give another name.")
    target = place(output)
    if target.lower().endswith(RECORDINGS):
        link = f" leads to {target}, which" if os.path.islink(output) else ""
        raise UsageError(
            f"{output}:{link} has the suffix of a recording, and no output replaces one; give another name."
        )


def is_same_file(path: str, other: str) -> bool:
    """Return whether two paths lead to the same file. `-` is the file behind standard input."""
    found = _identity(path)
    return found is not None and found == _identity(other)


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file that a path leads to; None if there is none."""
    try:
        found = os.stat(0 if path == STDIN else path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
