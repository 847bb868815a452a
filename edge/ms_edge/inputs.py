"""What the user named, one path after the other: files, directories, lists. Nothing is read ahead, nothing sorted but within
a directory, so that a million files need no more memory than one.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import IO

from ms_edge.audio import EXTENSIONS, STDIN
from ms_edge.errors import AudioError, UsageError
from ms_edge.results import Failure


@dataclass(frozen=True)
class Inputs:
    """Paths as given, a file that lists more (`-`: standard input), and how directories among them are read.

    `shard` = (i, n), i from 1 to n, takes the stable n-th part of all files that a hash of their paths gives to i.
    """

    paths: Sequence[str]
    files_from: str | None = None
    null_separated: bool = False
    recursive: bool = False
    pattern: str | None = None  # of names in directories; None: those with an extension of audio
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.files_from not in (None, STDIN):  # now, not after the head of a table has been printed
            _open(str(self.files_from)).close()

    def __iter__(self) -> Iterator[str | Failure]:
        """Yield each file, and a Failure for each directory that holds none."""
        for given in self._given():
            for found in self._expanded(given):
                if _in_shard(found if isinstance(found, str) else found.path, self.shard):
                    yield found

    def _given(self) -> Iterator[str]:
        yield from self.paths
        if self.files_from is not None:
            yield from _listed(self.files_from, b"\0" if self.null_separated else b"\n")

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
        try:
            with os.scandir(directory) as entries:
                names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            raise AudioError(
                "cannot-open", f"{directory}: {(error.strerror or 'the directory cannot be listed').lower()}."
            ) from None
        for name, is_directory in names:
            path = os.path.join(directory, name)
            if is_directory:
                if self.recursive and not name.startswith("."):
                    try:
                        yield from self._walk(path)
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
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError("usage", f"A shard is given as I/N, with I from 1 to N, as in 2/8, not {text!r}.")
    return int(index), int(count)


def _in_shard(path: str, shard: tuple[int, int]) -> bool:
    index, count = shard
    if count == 1:
        return True
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest()) % count == index - 1


def _listed(listing: str, separator: bytes) -> Iterator[str]:
    if listing == STDIN:
        yield from _names(sys.stdin.buffer, separator)
    else:
        with _open(listing) as file:
            yield from _names(file, separator)


def _open(listing: str) -> IO[bytes]:
    try:
        return open(listing, "rb")
    except OSError as error:
        raise UsageError(
            "usage", f"{listing}: the list of files cannot be read ({(error.strerror or str(error)).lower()})."
        ) from None


def _names(chunks: Iterable[bytes], separator: bytes) -> Iterator[str]:
    if separator == b"\n":
        for line in chunks:
            if name := line.rstrip(b"\r\n"):
                yield os.fsdecode(name)
        return
    rest = b""
    for chunk in chunks:  # cut at line ends, which may be anywhere in a name
        *names, rest = (rest + chunk).split(separator)
        yield from (os.fsdecode(name) for name in names if name)
    if rest:
        yield os.fsdecode(rest)
