"""The recordings of a run, one path after the other, from files, directories and lists.

Nothing is read ahead, and only the names of one directory are sorted, so a million files need no
more memory than one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import IO

from ms_edge.audio.containers import EXTENSIONS, NOT_READ
from ms_edge.audio.opening import STDIN
from ms_edge.errors import AudioError, UsageError, reason
from ms_edge.results import Failure

MAX_NAME = 1 << 16  # bytes of a path in a list: sixteen times the longest path of Linux
TYPES = 6  # suffixes that a sentence names


@dataclass
class Inputs:
    """Paths, a list of further paths, and how to read directories.

    `files_from` is a file with one path per line (`-`: standard input), or NUL-separated paths. The
    constructor opens the list, so that an error comes before any output. The list may be a
    FIFO, so inputs can be iterated only once.

    `shard` = (i, n), with i from 1 to n, selects one of n parts of all files. A hash of the path
    decides which part a file is in.
    """

    paths: Sequence[str]
    files_from: str | None = None
    null_separated: bool = False
    recursive: bool = False
    pattern: str | None = None  # of names in directories; None: the extensions of audio files
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        self._list = None if self.files_from is None else _open(self.files_from)
        self._list_may_wait = self._list is not None and not _is_regular(self._list.fileno())
        # Descriptors for multiprocessing.connection.wait, which cannot wait for a file on Windows.
        self.pending = [self._list.fileno()] if self._list and self._list_may_wait and os.name != "nt" else []
        self.tell: Callable[[str], None] = lambda sentence: None  # called for each skipped file
        self._skipped, self._skipped_in = Skipped(), ""  # in the last directory of `_directories`
        self._directories = 0  # with recordings and skipped files

    def may_wait(self) -> bool:
        """Return whether standard input may be one of the inputs, and reading it may never end."""
        return (STDIN in self.paths or self.files_from not in (None, STDIN)) and stdin_may_wait()

    def skipped(self) -> str:
        """Return a sentence about the skipped files, or "" if there are none.

        It leaves out directories without recordings: their error records say what they contain.
        """
        where = self._skipped_in if self._directories == 1 else f"{self._directories:,} directories"
        return f"{where}: skipped {self._skipped}." if self._directories else ""

    def __iter__(self) -> Iterator[str | Failure | None]:
        """Yield each file. Yield a Failure for a directory without files and for a second `-`.

        Yield None if the next name of a list has not arrived yet; `pending` then says what to wait
        for.
        """
        stdin_is_taken = self.files_from == STDIN
        for given in self._given():
            if given is None:
                yield None
                continue
            if given == STDIN and stdin_is_taken:
                yield Failure(STDIN, "cannot-open", f"{STDIN}: standard input can be read only once.")
                continue
            stdin_is_taken |= given == STDIN
            for found in self._expanded(given):
                if _in_shard(found if isinstance(found, str) else found.path, self.shard):
                    yield found

    def _given(self) -> Iterator[str | None]:
        yield from self.paths
        if self._list is not None:
            separator = b"\0" if self.null_separated else b"\n"
            with self._list:
                yield from _names(self._list, str(self.files_from), separator, self._has_come)

    def _has_come(self) -> bool:
        """Return whether the list can be read without waiting."""
        assert self._list
        if not self._list_may_wait:
            return True
        if sys.platform == "win32":
            import msvcrt
            from _winapi import PeekNamedPipe

            try:
                return PeekNamedPipe(msvcrt.get_osfhandle(self._list.fileno()), 0)[0] > 0
            except OSError:  # the end of the pipe, or a console, whose reading Ctrl-C interrupts
                return True
        from multiprocessing.connection import wait

        return bool(wait(self.pending, 0))

    def _expanded(self, path: str) -> Iterator[str | Failure]:
        if path == STDIN or not os.path.isdir(path):
            yield path
            return
        empty, skipped = True, Skipped()
        try:
            for file in self._walk(path, skipped):
                empty = False
                yield file
        except AudioError as error:
            yield Failure(path, error.code, error.message)
            return
        if empty:
            instead = f" that are read, but {skipped}" if skipped else ""
            deeper = "" if self.recursive else "; -r looks in the directories within"
            yield Failure(path, "no-audio", f"{path}: the directory holds no audio files{instead}{deeper}.")
        elif skipped:
            self._skipped.update(skipped)
            self._skipped_in, self._directories = path, self._directories + 1

    def _walk(self, directory: str, skipped: Skipped) -> Iterator[str | Failure]:
        # A stack instead of recursion: a tree may be deeper than Python's recursion limit.
        open_directories = [(directory, iter(_entries(directory)))]
        while open_directories:
            directory, entries = open_directories[-1]
            name, is_directory = next(entries, (None, False))
            if name is None:
                open_directories.pop()
                continue
            path = os.path.join(directory, name)
            if is_directory:
                if self.recursive and not name.startswith("."):
                    try:
                        open_directories.append((path, iter(_entries(path))))
                    except AudioError as error:
                        yield Failure(path, error.code, error.message)
            elif self._wanted(name) and not os.path.isdir(path):
                yield path
            elif self.pattern is None and is_skipped(name) and os.path.isfile(path):
                skipped.add(name)
                self.tell(f"{path}: skipped; its suffix is not that of a format that ms-edge reads.")
            elif self.recursive and not name.startswith(".") and os.path.isdir(path):  # it may lead back to here
                skipped.links += 1
                self.tell(f"{path}: skipped; links to directories are not followed.")

    def _wanted(self, name: str) -> bool:
        if self.pattern is not None:
            return fnmatch(name, self.pattern)
        return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


class Skipped:
    """Counts of files that are not read because of their suffixes, and of links to directories.

    `str` makes a clause of it.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self.links = 0

    def add(self, name: str) -> None:
        """Count a file."""
        suffix = os.path.splitext(name)[1].lower()
        if not 2 <= len(suffix) <= 6 or suffix[1:].isdecimal():  # `talk.2026` has no suffix
            suffix = ""
        self._counts[suffix] = self._counts.get(suffix, 0) + 1

    def update(self, other: Skipped) -> None:
        """Add the counts of another object."""
        for suffix, count in other._counts.items():
            self._counts[suffix] = self._counts.get(suffix, 0) + count
        self.links += other.links

    def __bool__(self) -> bool:
        return bool(self._counts or self.links)

    def __str__(self) -> str:
        media = {suffix: count for suffix, count in self._counts.items() if suffix in NOT_READ}
        others = {suffix: count for suffix, count in self._counts.items() if suffix not in NOT_READ}
        clauses = []
        if media:
            advice = "convert them to WAV or FLAC first"
            clauses.append(f"{_files(media)} whose format is not read ({_by_type(media)}; {advice})")
        if others:
            clauses.append(f"{_files(others, 'other ' if media else '')} ({_by_type(others)})")
        if self.links:
            clauses.append("1 link to a directory" if self.links == 1 else f"{self.links:,} links to directories")
        return " and ".join(clauses)


def is_skipped(name: str) -> bool:
    """Return whether to report a file that is not read. Hidden files and *.part are not."""
    return not name.startswith(".") and not name.endswith(".part")


def _files(counts: dict[str, int], kind: str = "") -> str:
    total = sum(counts.values())
    return f"{total:,} {kind}file{'' if total == 1 else 's'}"


def _by_type(counts: dict[str, int]) -> str:
    """Return counts as in `6 .m4a, 3 .wma`: the most frequent suffixes, and the rest together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in ordered[:TYPES]]
    if rest := sum(count for _, count in ordered[TYPES:]):
        named.append(f"{rest:,} of other types")
    return ", ".join(named)


def parse_shard(text: str) -> tuple[int, int]:
    """Parse `I/N`. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"A shard is given as I/N, with I from 1 to N, as in 2/8, not {text[:40]!r}.")
    return int(found[1]), int(found[2])


def _entries(directory: str) -> list[tuple[str, bool]]:
    """Return the sorted names in a directory, each with whether it is a directory."""
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise AudioError("cannot-open", f"{directory}: {reason(error)}.") from None


def _in_shard(path: str, shard: tuple[int, int]) -> bool:
    index, count = shard
    if count == 1:
        return True
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest()) % count == index - 1


def _open(listing: str) -> IO[bytes]:
    # Without a buffer, each name is used as soon as it has arrived.
    try:
        if listing == STDIN:
            return open(0, "rb", buffering=0, closefd=False)
        return open(listing, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(listing, error) from None


def stdin_may_wait() -> bool:
    """Return whether standard input is a pipe or a terminal, so that reading it may never end."""
    return not _is_regular(0)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _names(
    file: IO[bytes], listing: str, separator: bytes, has_come: Callable[[], bool] = lambda: True
) -> Iterator[str | None]:
    """Yield the names in a list, and None while reading would wait."""
    rest = b""
    try:
        while True:
            while not has_come():
                yield None
            if not (chunk := file.read(MAX_NAME)):
                break
            *names, rest = (rest + chunk).split(separator)
            yield from _decoded(names, separator)
            if len(rest) > MAX_NAME:
                raise UsageError(
                    f"{listing}: a path in it is longer than {MAX_NAME:,} bytes; -0 is for lists that hold NUL."
                )
    except OSError as error:
        raise _unreadable(listing, error) from None
    yield from _decoded([rest], separator)


def _decoded(names: list[bytes], separator: bytes) -> Iterator[str]:
    for name in names:
        if name := name.rstrip(b"\r") if separator == b"\n" else name:
            yield os.fsdecode(name)


def _unreadable(listing: str, error: OSError) -> UsageError:
    return UsageError(f"{listing}: the list of files cannot be read ({reason(error)}).")
