"""Read references: segments with labels that people made, in the formats of the usual programs."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import unquote

from ms_edge.audio.containers import RECORDINGS
from ms_edge.errors import UsageError, reason

Part = tuple[float, float, str]  # start and end in seconds, label
Named = tuple[str | None, Part]  # the name of the recording (None: that of the file), and a part of it

SPEECH, MUSIC, BOTH, NEITHER = "speech", "music", "speech+music", "neither"
# What labels mean, in lower case and with - for spaces and underscores. Others are neither.
MEANINGS = {
    **dict.fromkeys(("speech", "s", "male", "female", "clean-speech", "speech-with-noise"), SPEECH),
    **dict.fromkeys(("music", "m", "fg-music", "bg-music", "foreground-music", "background-music"), MUSIC),
    **dict.fromkeys(("bgvl-music", "similar", "singing"), MUSIC),  # OpenBMAT's classes of music, and songs
    **dict.fromkeys(("speech-with-music", "speech-over-music", "both"), BOTH),
    **dict.fromkeys(("", "neither", "none", "other", "silence", "noise", "uncertain"), NEITHER),
    **dict.fromkeys(("nonspeech", "non-speech", "no-speech", "nonmusic", "non-music", "no-music"), NEITHER),
}
# Names of columns of CSV files, in lower case.
STARTS, ENDS, LABELS = ("start_s", "start", "onset", "begin"), ("end_s", "end", "stop", "offset"), ("label", "labels")
NAMES = ("path", "file", "filename", "recording")


def read_references(path: str) -> dict[str, list[Part]]:
    """Return the parts of each recording, by the recording's stem.

    `path` is a file, or a directory of which all files with a known suffix are read, also those in
    directories in it. RTTM files and CSV files with a column of paths may hold many recordings; any
    other file is for the recording of its name.

    Raises UsageError for what cannot be read, and if two files are for recordings of one stem.
    """
    if not os.path.isdir(path):
        return _read_file(path)
    found: dict[str, list[Part]] = {}
    origin: dict[str, str] = {}
    for file in _files(path):
        for stem, parts in _read_file(file).items():
            if stem in found:
                raise UsageError(f"--reference: {origin[stem]} and {file} are both for {stem}; keep one of them.")
            found[stem], origin[stem] = parts, file
    if not found:
        raise UsageError(f"--reference: {path} holds no reference; their suffixes are {', '.join(READERS)}.")
    return found


def stem_of(path: str) -> str:
    """Return the file name of a recording without its suffix, if it has that of an audio format."""
    name = os.path.basename(path)
    return os.path.splitext(name)[0] if name.lower().endswith(RECORDINGS) else name


def meaning(label: str, overrides: Mapping[str, str]) -> tuple[str, bool]:
    """Return the classes of a label, joined by `+` (empty: neither), and whether the label is known.

    `overrides` are meanings by label. Labels that are joined by `+` have the meanings of all.
    """
    if label in overrides:
        return _classes([overrides[label]]), True
    names = [re.sub(r"[\s_]+", "-", name.strip().lower()) for name in label.split("+")]
    return _classes([MEANINGS.get(name, NEITHER) for name in names]), all(name in MEANINGS for name in names)


def _classes(meanings: list[str]) -> str:
    return "+".join(name for name in (SPEECH, MUSIC) if any(name in each.split("+") for each in meanings))


def _files(directory: str) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        raise UsageError(f"--reference: {error.filename} cannot be read ({reason(error)}).")

    for folder, folders, names in os.walk(directory, onerror=unreadable):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names) if _suffix(name) and name[0] != ".")


def _suffix(path: str) -> str:
    """Return the suffix of a reference, in lower case; empty if it has none that is known."""
    return next((suffix for suffix in READERS if path.lower().endswith(suffix)), "")


def _read_file(path: str) -> dict[str, list[Part]]:
    suffix = _suffix(path)
    if not suffix:
        if not os.path.exists(path):
            raise UsageError(f"--reference: {path} does not exist.")
        raise UsageError(f"--reference: {path}: no format has this suffix; the suffixes are {', '.join(READERS)}.")
    own = stem_of(os.path.basename(path)[: -len(suffix)])
    found: dict[str, list[Part]] = {}
    paths: dict[str, str] = {}  # by stem; names without a folder may mean any of them
    try:
        for name, part in READERS[suffix](_text(path)):
            if not (math.isfinite(part[0]) and math.isfinite(part[1]) and part[1] >= part[0]):
                raise ValueError(f"a segment from {part[0]:g} to {part[1]:g} s")
            stem = own if name is None else stem_of(name)
            full = os.path.normpath(name or "")
            if name is not None and os.path.dirname(full) and paths.setdefault(stem, full) != full:
                raise UsageError(
                    f"--reference: {path}: {paths[stem]} and {full} are both named {stem}; keep one of them."
                )
            found.setdefault(stem, []).append(part)
    except ValueError as error:
        raise UsageError(f"--reference: {path} is not readable as {suffix}: {error}.") from None
    return found or {own: []}


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(f"--reference: {path} cannot be read ({reason(error)}).") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # Praat writes UTF-16, too
        return data.decode("utf-16")  # UnicodeDecodeError is a ValueError
    return data.decode("utf-8-sig", "surrogateescape")  # names of recordings may hold any bytes


def _audacity(text: str) -> Iterator[Named]:
    """Read a label track of Audacity: start, end and label between tabs.

    Lines that begin with a backslash hold the frequencies of the label before.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("\\"):
            start, end, label = (*line.split("\t", 2), "", "")[:3]
            yield None, _part(start, end, label, number)


def _textgrid(text: str) -> Iterator[Named]:
    """Read all interval tiers of a Praat TextGrid, long or short: both hold the same values in order."""
    values = iter(re.findall(r'"(?:[^"]|"")*"|<exists>|(?<![\w.])-?\d+(?:\.\d*)?(?:[eE]-?\d+)?', _unindexed(text)))
    try:
        if not next(values).startswith('"ooTextFile') or next(values) != '"TextGrid"':
            raise ValueError("it does not begin as a TextGrid")
        next(values), next(values)
        tiers = int(next(values)) if next(values) == "<exists>" else 0
        for _ in range(tiers):
            kind, _name, _start, _end = next(values), next(values), next(values), next(values)
            for number in range(1, int(next(values)) + 1):
                if kind == '"IntervalTier"':
                    start, end, label = next(values), next(values), next(values)[1:-1].replace('""', '"')
                    yield None, _part(start, end, label, number, "interval")
                else:
                    next(values), next(values)
    except StopIteration:
        raise ValueError("it ends too early") from None


def _unindexed(text: str) -> str:
    """Remove the numbers of items and intervals, but not what is in quotes."""
    return re.sub(r'("(?:[^"]|"")*")|\[\d*\]', lambda found: found[1] or "", text)


def _rttm(text: str) -> Iterator[Named]:
    """Read the lines of an RTTM file (NIST RT-09 evaluation plan, appendix A) that are segments.

    The label is the name of the speaker, or the type of the line if that has no name. Lines without a
    time describe speakers.
    """
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if len(fields) < 8:
            raise ValueError(f"line {number} has {len(fields)} fields, and needs at least 8")
        if fields[3] == "<NA>":
            continue
        start_s, length_s, label = _part(fields[3], fields[4], fields[7], number)
        label = fields[0] if label == "<NA>" else label
        name = unquote(fields[1], errors="surrogateescape")
        yield name, (start_s, start_s + length_s, unquote(label))


def _csv(text: str) -> Iterator[Named]:
    """Read a table with a start, an end and a label in each row, and perhaps the path of the recording.

    Cells are separated by commas, tabs or semicolons. Without a header, the first three columns are
    start, end and label. The header may occur again where files were joined. A path that begins with
    an apostrophe was written so for spreadsheets.
    """
    text = text.lstrip("\r\n")
    first = text.partition("\n")[0]
    separator = max(",\t;", key=first.count)
    try:
        head, rows = [], list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    names: dict[str, int] = {"start": 0, "end": 1, "label": 2}
    if rows and not _is_number(rows[0][0]):
        head = [cell.strip().lower() for cell in rows.pop(0)]
        wanted = {"start": STARTS, "end": ENDS, "label": LABELS, "name": NAMES}
        names = {key: head.index(name) for key, some in wanted.items() for name in some if name in head}
        if missing := [wanted[key][0] for key in ("start", "end", "label") if key not in names]:
            raise ValueError(f"its header has no column {' and no column '.join(missing)}")
    for number, row in enumerate(rows, 2 if head else 1):
        if not any(cell.strip() for cell in row) or (head and [cell.strip().lower() for cell in row] == head):
            continue
        cells = {key: row[column] if column < len(row) else "" for key, column in names.items()}
        if head and not cells["start"] and not cells["end"]:  # the row of a recording without segments
            continue
        name = cells["name"].removeprefix("'") if "name" in cells else None
        yield name, _part(cells["start"], cells["end"], cells["label"], number)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _part(start: str, end: str, label: str, number: int, place: str = "line") -> Part:
    try:
        return float(start), float(end), label.strip()
    except ValueError:
        raise ValueError(f"{place} {number} has no start, end and label") from None


READERS: dict[str, Callable[[str], Iterable[Named]]] = {
    ".labels.txt": _audacity,
    ".txt": _audacity,
    ".textgrid": _textgrid,
    ".rttm": _rttm,
    ".csv": _csv,
    ".tsv": _csv,
}
