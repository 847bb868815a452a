"""What the user named, one path after the other: files, directories, lists. Nothing is read ahead, nothing sorted but within
a directory, so that a million files need no more memory than one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import IO

from ms_edge.errors import AudioError, UsageError
from ms_edge.opening import EXTENSIONS, STDIN
from ms_edge.results import Failure

MAX_NAME = 1 << 16  # bytes of a path in a list: sixteen times what Linux opens


@dataclass
class Inputs:
    """Paths as given, a file that lists more (`-`: standard input), and how directories among them are read.

    The list is opened at once, so that one that cannot be is known before the head of a table has been printed, and only
    once, as it may be a FIFO: so inputs can be iterated once.

    `shard` = (i, n), i from 1 to n, takes the stable n-th part of all files that a hash of their paths gives to i.
    """

    paths: Sequence[str]
    files_from: str | None = None
    null_separated: bool = False
    recursive: bool = False
    pattern: str | None = None  # of names in directories; None: those with an extension of audio
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        self._list = None if self.files_from is None else _open(self.files_from)

    def __iter__(self) -> Iterator[str | Failure]:
        """Yield each file, and a Failure for each directory that holds none and for standard input the second time."""
        stdin_is_taken = self.files_from == STDIN
        for given in self._given():
            if given == STDIN and stdin_is_taken:
                yield Failure(STDIN, "cannot-open", f"{STDIN}: standard input can be read only once.")
                continue
            stdin_is_taken |= given == STDIN
            for found in self._expanded(given):
                if _in_shard(found if isinstance(found, str) else found.path, self.shard):
                    yield found

    def _given(self) -> Iterator[str]:
        yield from self.paths
        if self._list is not None:
            with self._list:
                yield from _names(self._list, str(self.files_from), b"\0" if self.null_separated else b"\n")

    def _expanded(self, path: str) -> Iterator[str | Failure]:
        if path == STDIN or not os.path.isdir(path):
            yield path
            return
        empty = True
        try:
            for file in self._walk(path):
                empty = False
                yield file
        except AudioError as error:
            yield Failure(path, error.code, error.message)
            return
        if empty:
            deeper = "" if self.recursive else " (-r looks in the directories within)"
            yield Failure(path, "no-audio", f"{path}: the directory holds no audio files{deeper}.")

    def _walk(self, directory: str) -> Iterator[str | Failure]:
        # A stack, not recursion: a tree may be deeper than Python's.
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

    def _wanted(self, name: str) -> bool:
        if self.pattern is not None:
            return fnmatch(name, self.pattern)
        return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def parse_shard(text: str) -> tuple[int, int]:
    """Read `I/N`. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError("usage", f"A shard is given as I/N, with I from 1 to N, as in 2/8, not {text[:40]!r}.")
    return int(found[1]), int(found[2])


def _entries(directory: str) -> list[tuple[str, bool]]:
    """The names in a directory, sorted, and whether each is a directory itself."""
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise AudioError(
            "cannot-open", f"{directory}: {(error.strerror or 'the directory cannot be listed').lower()}."
        ) from None


def _in_shard(path: str, shard: tuple[int, int]) -> bool:
    index, count = shard
    if count == 1:
        return True
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest()) % count == index - 1


def _open(listing: str) -> IO[bytes]:
    # Without a buffer: what has come is used at once, and no lock of standard input is held by a thread that waits for more.
    try:
        if listing == STDIN:
            return open(0, "rb", buffering=0, closefd=False)
        return open(listing, "rb", buffering=0)
    except OSError as error:
        raise _unreadable(listing, error) from None


def _names(file: IO[bytes], listing: str, separator: bytes) -> Iterator[str]:
    rest = b""
    try:
        while chunk := file.read(MAX_NAME):
            *names, rest = (rest + chunk).split(separator)
            yield from _decoded(names, separator)
            if len(rest) > MAX_NAME:
                raise UsageError(
                    "usage",
                    f"{listing}: a path in it is longer than {MAX_NAME:,} bytes; -0 is for lists that hold NUL.",
                )
    except OSError as error:
        raise _unreadable(listing, error) from None
    yield from _decoded([rest], separator)


def _decoded(names: list[bytes], separator: bytes) -> Iterator[str]:
    for name in names:
        if name := name.rstrip(b"\r") if separator == b"\n" else name:
            yield os.fsdecode(name)


def _unreadable(listing: str, error: OSError) -> UsageError:
    return UsageError(
        "usage", f"{listing}: the list of files cannot be read ({(error.strerror or str(error)).lower()})."
    )
