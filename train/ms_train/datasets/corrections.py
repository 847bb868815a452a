"""Segments that a person corrected in the page of `ms-edge report`, as a dataset."""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ms_edge.errors import AudioError, UsageError, reason
from ms_edge.timeline import OTHER, SILENCE
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.reading import file_digest, read_for_training, say_left_out
from ms_train.errors import DataError

COLUMNS = ("path", "start_s", "end_s", "label")


def corrections(names: str) -> Dataset:
    """Read one or more CSV files, with commas between their names, as `ms-edge report` saves them:
    `path`, `start_s`, `end_s`, `label` and other columns, in any order.

    Each line is one excerpt. Its label is `other` (none of the labels), one label, or several that
    are joined by `+`. Segments of silence are left out, because the runtime finds silence by its
    level. Paths are relative to the working directory, or else to the CSV file's folder. A line
    that cannot be used is named on stderr and left out. Raises DataError(`bad-data`) if a file
    cannot be read, or if no line is left.
    """
    paths = [Path(names)] if Path(names).exists() else [Path(name) for name in names.split(",")]
    rows = [(path, number, row) for path in paths for number, row in _rows(path)]
    spoken = [line for line in rows if line[2]["label"].strip() != SILENCE]
    digests: dict[Path, str] = {}
    found: dict[str, Recording] = {}
    left_out = []
    for path, number, row in spoken:
        try:
            recording = _recording(path, row, digests)
            if found.setdefault(recording.name, recording).label != recording.label:
                raise ValueError(f"{recording.name} has another label in an earlier line.")
        except (ValueError, AudioError) as error:
            left_out.append(f"{path}: line {number}: {error}")
    say_left_out(names, left_out, len(rows), "lines")
    if silent := len(rows) - len(spoken):
        tqdm.write(f"{names}: {silent} segments of silence left out; the level decides about silence.", file=sys.stderr)
    if not found:
        raise DataError("bad-data", f"{names}: no line can be used; correct segments in the page of ms-edge report.")
    counts = Counter(part for each in found.values() if each.label for part in each.label.split("+"))
    return Dataset("corrections", tuple(sorted(counts)), "independent", tuple(found.values()))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the lines of a file with their numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            reader = csv.DictReader(file, strict=True, restval="")
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise DataError(
                    "bad-data",
                    f"{path}: line 1: no column {missing[0]!r}; it names {', '.join(COLUMNS)}, as ms-edge report saves them.",
                )
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError("bad-data", f"{path}: cannot be read ({reason(error)}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("bad-data", f"{path}: is not CSV in UTF-8 ({error}).") from None


def _recording(table: Path, row: dict[str, str], digests: dict[Path, str]) -> Recording:
    """Return the excerpt of a line; `digests` holds the digests of files. Raises ValueError or
    AudioError.
    """
    name = row["path"].removeprefix("'")  # which the writer put before what a spreadsheet would run
    file = Path(name) if Path(name).exists() else table.parent / name
    start_s, end_s = (_seconds(row, column) for column in ("start_s", "end_s"))
    if start_s >= end_s:
        raise ValueError(f"start_s {row['start_s']} is not before end_s {row['end_s']}.")
    label = row["label"].strip()
    if not label:
        raise ValueError("no label.")
    digest = digests.get(file) or digests.setdefault(file, file_digest(file))
    return Recording(
        name=f"{Path(name).as_posix()}#t={start_s:.10g},{end_s:.10g}",
        label=None if label == OTHER else "+".join(sorted(label.split("+"))),
        source=name,
        sha256=hashlib.sha256(f"{digest} {start_s!r} {end_s!r}".encode()).hexdigest(),
        read=partial(read_for_training, file, start_s=start_s, end_s=end_s),
        excerpt_of=digest,
    )


def _seconds(row: dict[str, str], column: str) -> float:
    try:
        seconds = float(row[column])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{column} {row[column]!r} is not a number of seconds.")
    return seconds


def is_corrections(data: str) -> bool:
    """Return whether --data names corrections."""
    return data.startswith("corrections:")


def require_known_labels(dataset: Dataset, labels: tuple[str, ...]) -> None:
    """Raise UsageError if a segment has a label that a network with these labels does not know."""
    for recording in dataset.recordings:
        unknown = set(recording.label.split("+") if recording.label else ()) - set(labels)
        if unknown:
            raise UsageError(
                f"{recording.name}: has the label {recording.label}, and the network knows {', '.join(labels)}, "
                f"{'+'.join(labels)} and {OTHER}; correct the label."
            )
