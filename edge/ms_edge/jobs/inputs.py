"""What the user named, one path after the other: files, directories, lists. Nothing is read ahead, nothing sorted but within
a directory, so that a million files need no more memory than one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import IO

from ms_edge.audio.opening import EXTENSIONS, STDIN
from ms_edge.errors import AudioError, UsageError, reason
from ms_edge.results import Failure

MAX_NAME = 1 << 16  # bytes of a path in a list: sixteen times what Linux opens
# Suffixes of audio and video that is not read.
NOT_READ = frozenset(
    (  # noqa: SIM905
        ".3g2 .3ga .3gp .aa .aac .aax .ac3 .adts .alac .amr .ape .asf .avi .awb .dff .divx .dsf .dss .dts .dv .eac3 .ec3 "
        ".f4a .f4v .flv .g722 .g729 .gsm .m2ts .m4a .m4b .m4p .m4r .m4v .mka .mkv .mlp .mov .mp1 .mp2 .mp4 .mpa .mpc .mpe "
        ".mpeg .mpg .mpga .mpp .mts .mxf .ofr .ogm .ogv .oma .qcp .qt .ra .rm .rmvb .shn .sph .spx .tak .thd .ts .tta .vob "
        ".voc .vox .weba .webm .wma .wmv .wtv .wv"
    ).split()
)
TYPES = 6  # suffixes that are named in a sentence


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
        self.tell: Callable[[str], None] = lambda sentence: None  # is called of each file that a directory's walk skips
        self._skipped, self._skipped_in, self._directories = Skipped(), "", 0  # the last directory, and how many

    def skipped(self) -> str:
        """Return a sentence about the files that were skipped so far in directories that hold recordings too; "" without any.

        The record of a directory that holds none says itself what it holds instead.
        """
        where = self._skipped_in if self._directories == 1 else f"{self._directories:,} directories"
        return f"{where}: skipped {self._skipped}." if self._directories else ""

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
            elif self._wanted(name):
                if not os.path.isdir(path):
                    yield path
            elif self.pattern is None and is_skipped(name) and os.path.isfile(path):
                skipped.add(name)
                self.tell(f"{path}: skipped; its name is not that of a format that is read.")

    def _wanted(self, name: str) -> bool:
        if self.pattern is not None:
            return fnmatch(name, self.pattern)
        return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


class Skipped:
    """Counts, by suffix, files of a directory that are not read because of their names. As text it is a clause about them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Count a file."""
        suffix = os.path.splitext(name)[1].lower()
        if not 2 <= len(suffix) <= 6 or suffix[1:].isdecimal():  # as in `talk.2026`: no type, and of no bounded number
            suffix = ""
        self._counts[suffix] = self._counts.get(suffix, 0) + 1

    def update(self, other: Skipped) -> None:
        """Count what another one has counted."""
        for suffix, count in other._counts.items():
            self._counts[suffix] = self._counts.get(suffix, 0) + count

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        media = {suffix: count for suffix, count in self._counts.items() if suffix in NOT_READ}
        others = {suffix: count for suffix, count in self._counts.items() if suffix not in NOT_READ}
        clauses = []
        if media:
            advice = "convert them to WAV or FLAC first"
            clauses.append(f"{_files(media)} whose format is not read ({_by_type(media)}; {advice})")
        if others:
            clauses.append(f"{_files(others, 'other ' if media else '')} ({_by_type(others)})")
        return " and ".join(clauses)


def is_skipped(name: str) -> bool:
    """Whether to report a file that is not read because of its name: not a hidden one, nor an unfinished output."""
    return not name.startswith(".") and not name.endswith(".part")


def _files(counts: dict[str, int], kind: str = "") -> str:
    total = sum(counts.values())
    return f"{total:,} {kind}file{'' if total == 1 else 's'}"


def _by_type(counts: dict[str, int]) -> str:
    """`6 .m4a, 3 .wma`: the most frequent suffixes first, the rare ones together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in ordered[:TYPES]]
    if rest := sum(count for _, count in ordered[TYPES:]):
        named.append(f"{rest:,} of other types")
    return ", ".join(named)


def parse_shard(text: str) -> tuple[int, int]:
    """Read `I/N`. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"A shard is given as I/N, with I from 1 to N, as in 2/8, not {text[:40]!r}.")
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
