"""Datasets from a CSV manifest: a line for each recording, or for each excerpt of one."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from functools import partial
from pathlib import Path

from ms_edge.arrays import Float32
from ms_edge.errors import AudioError, reason
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import file_digest, read_for_training, say_left_out
from ms_train.errors import DataError

COLUMNS = ("path", "label", "split", "start", "end")
SPLITS = ("train", "val", "test")


def manifest(path: Path) -> Dataset:
    """Read a CSV file with a header: `path` and `label`, and optionally `split`, `start` and `end`,
    in any order.

    Paths are relative to the CSV file's folder, `start` and `end` are seconds. A recording with an
    empty label has none of the labels (noise), and the labels are then `independent`. A line that
    cannot be used is named on stderr and left out. Raises DataError(`bad-data`) if the table cannot
    be read, has fewer than two labels, has one excerpt with two labels, or has one file in two
    parts.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = csv.reader(file, strict=True)
            header = [name.strip() for name in next(rows, [])]
            _require_columns(path, header)
            lines = [(rows.line_num, cells) for cells in rows if cells]
    except OSError as error:
        raise DataError("bad-data", f"{path}: cannot be read ({reason(error)}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("bad-data", f"{path}: is not CSV in UTF-8 ({error}).") from None
    digests: dict[str, str] = {}
    found: dict[str, tuple[int, Recording]] = {}
    first_of: dict[str, tuple[int, Recording]] = {}
    left_out = []
    for number, cells in lines:
        try:
            recording = _recording(path, number, header, cells, digests)
            _require_one_split(path, number, recording, first_of)
            if recording.name in found:
                other, same = found[recording.name]
                if same.label != recording.label:
                    raise DataError(
                        "bad-data",
                        f"{path}: line {number}: {recording.name} has another label than in line {other}; remove one.",
                    )
                raise ValueError(f"{recording.name} is in line {other} already.")
            found[recording.name] = number, recording
        except (ValueError, AudioError) as error:
            left_out.append(f"{path}: line {number}: {error}")
    say_left_out(str(path), left_out, len(lines), "lines")
    recordings = tuple(recording for _, recording in found.values())
    labels = tuple(sorted({recording.label for recording in recordings if recording.label is not None}))
    if len(labels) < 2:
        raise DataError(
            "bad-data",
            f"{path}: has {len(labels)} labels in {len(recordings)} usable lines; at least two labels are needed to tell apart.",
        )
    noise = any(recording.label is None for recording in recordings)
    return Dataset(path.stem, labels, "independent" if noise else "exclusive", recordings)


def _require_columns(path: Path, header: list[str]) -> None:
    if wrong := [name for name in header if name not in COLUMNS]:
        what = f"unknown column {wrong[0]!r}"
    elif twice := [name for name in header if header.count(name) > 1]:
        what = f"the column {twice[0]!r} twice"
    elif missing := [name for name in COLUMNS[:2] if name not in header]:
        what = f"no column {missing[0]!r}"
    else:
        return
    raise DataError(
        "bad-data",
        f"{path}: line 1: {what}; it names the columns, with commas between: path, label, split, start, end.",
    )


def _recording(manifest: Path, number: int, header: list[str], cells: list[str], digests: dict[str, str]) -> Recording:
    """Return the recording of a line; `digests` holds the digests of files by path.

    Raises ValueError or AudioError.
    """
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells; the header has {len(header)}.")
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    if not row["path"]:
        raise ValueError("no path.")
    split = row.get("split") or None
    if split and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; it is train, val, test or empty.")
    start_s, end_s = _seconds(row, "start") or 0.0, _seconds(row, "end")
    if end_s is not None and start_s >= end_s:
        raise ValueError(f"start {row['start'] if row.get('start') else 0} is not before end {row['end']}.")
    folder = Path(os.path.normpath(manifest.parent))
    file = Path(os.path.normpath(folder / row["path"]))
    digest = digests.get(str(file)) or digests.setdefault(str(file), file_digest(file))
    name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else Path(row["path"]).as_posix()
    whole = start_s == 0 and end_s is None
    if not whole:  # the syntax of W3C media fragments
        name += f"#t={start_s:.10g}" + ("" if end_s is None else f",{end_s:.10g}")
    return Recording(
        name=name,
        label=row["label"] or None,
        source=row["label"] or "none",
        sha256=digest if whole else hashlib.sha256(f"{digest} {start_s!r} {end_s!r}".encode()).hexdigest(),
        read=partial(_read, f"{manifest}: line {number}", file, start_s, end_s),
        split=split,
        excerpt_of=digest,
    )


def _seconds(row: dict[str, str], column: str) -> float | None:
    text = row.get(column)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{column} {text!r} is not a number of seconds.")
    return seconds


def _require_one_split(
    path: Path, number: int, recording: Recording, first_of: dict[str, tuple[int, Recording]]
) -> None:
    line, other = first_of.setdefault(str(recording.excerpt_of), (number, recording))
    if other.split != recording.split:
        here, there = (repr(split) if split else "no split" for split in (recording.split, other.split))
        raise DataError(
            "bad-data",
            f"{path}: line {number}: {recording.name} is in {here}, but line {line} has the same file in {there}; "
            "a file belongs to one part.",
        )


def _read(line: str, path: Path, start_s: float, end_s: float | None, sample_rate_hz: int) -> Float32:
    try:
        return read_for_training(path, sample_rate_hz, start_s, end_s)
    except AudioError as error:
        raise AudioError(error.code, f"{line}: {error}") from None
