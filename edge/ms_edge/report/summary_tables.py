"""A summary as a table: text with bars, CSV, JSON and XLSX."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from ms_edge.output.writers import csv_line, printable
from ms_edge.output.xlsx import save, workbook_class
from ms_edge.report.summary import WIDTH_S, Group, Summary

BAR = 24  # characters
SHORT_S = 600  # groups below this need two decimals of a minute
BLOCKS, PLAIN_BLOCKS = "█▒▓░·", "#-=:."  # in the order of the labels that occur; the second in ASCII
SOURCES = {
    "time-pattern": "their names (--time-pattern)",
    "recorded_at": "recorded_at",
    "file-time": "the times of the files (UTC) minus their durations",
    "no-time": "nothing",
}


def text(summary: Summary, *, ascii_only: bool = False) -> str:
    """Return a table for people: minutes and shares of the labels that occur, with a bar.

    A line below the table says what could not be classified, and what the times were taken from.
    """
    labels = [label for label in summary.labels if summary.total.seconds.get(label)]
    marks = dict(zip(labels, _marks(len(labels), ascii_only), strict=True))
    groups = summary.groups
    rows = [(name, group, _bar(group, marks)) for name, group in groups.items()]
    rows += [("total", summary.total, _bar(summary.total, marks))]
    timed = summary.by in WIDTH_S
    width = max(len(summary.by), *(len(name) for name, _, _ in rows)) if timed else 0
    widths = {label: max(14, len(label) + 2) for label in labels}
    digits = 2 if all(group.duration_s < SHORT_S for group in groups.values()) else 1
    counts = [name for name in ("errors", "warnings") if getattr(summary.total, name)]
    head = f"{'MINUTES':>9}{''.join(f'{marks[label]} {label.upper()}'.rjust(widths[label] + 1) for label in labels)}"
    head += "".join(f"{name.upper():>10}" for name in counts)
    lines = [_line(timed, summary.by.upper(), width, head, "")]
    for name, group, bar in rows:
        cells = f"{group.duration_s / 60:>9.{digits}f}"
        cells += "".join(
            f"{group.seconds.get(label, 0) / 60:.{digits}f} {group.share(label):>6.1%}".rjust(widths[label] + 1)
            for label in labels
        )
        cells += "".join(f"{getattr(group, name).total():>10}" for name in counts)
        lines.append(_line(timed, printable(name), width, cells, bar))
    return "\n".join(lines) + "\n\n" + "".join(f"{note}\n" for note in notes(summary))


def _line(timed: bool, name: str, width: int, cells: str, bar: str) -> str:
    """Join the cells of a row: a time comes first, and a path, which may be long, last."""
    row = f"{name:<{width}}  {cells}  {bar}" if timed else f"{cells}  {bar:<{BAR}}  {name}"
    return row.rstrip()


def _marks(count: int, ascii_only: bool) -> str:
    blocks = PLAIN_BLOCKS if ascii_only else BLOCKS
    return (blocks + "abcdefghijklmnopqrstuvwxyz" * (count // 26 + 1))[:count]


def _bar(group: Group, marks: Mapping[str, str]) -> str:
    """Return BAR characters that the labels share; a border between two is at the nearest one."""
    bar, before, until = "", 0, 0.0
    for label, mark in marks.items():
        until += group.share(label)
        bar += mark * (round(until * BAR) - before)
        before = round(until * BAR)
    return bar


def notes(summary: Summary) -> list[str]:
    """Return sentences about what a table of seconds does not show."""
    total = summary.total
    found = [f"{_count(total.recordings, 'recording')}{_codes(total.errors, ', failed')}"]
    if total.warnings:
        found.append(_codes(total.warnings, "warnings").lstrip())
    if summary.by in WIDTH_S:
        sources = [f"{said} for {total.times[source]:,}" for source, said in SOURCES.items() if source in total.times]
        if sources:
            found.append(f"times from {', '.join(sources)}")
    if summary.undivided:
        found.append(
            f"{_count(summary.undivided, 'recording')} without a timeline (classify --timeline) counted in the "
            f"{summary.by} in which it began, although it lasts longer"
        )
    if summary.single_channels:
        found.append(f"{_count(summary.single_channels, 'record')} of single channels: minutes of each channel count")
    return [f"{note}." for note in found]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _codes(codes: Mapping[str, int], what: str) -> str:
    """Return how often each code occurs, as in `warnings: 2 truncated, 1 damaged`; "" if none does."""
    return f"{what}: {', '.join(f'{count:,} {code}' for code, count in sorted(codes.items()))}" if codes else ""


def columns(summary: Summary) -> list[str]:
    """Return the names of the columns of CSV and XLSX. New columns go last."""
    minutes = [f"minutes_{label}" for label in summary.labels]
    shares = [f"share_{label}" for label in summary.labels]
    codes = ["error_codes", "warning_codes", *(["times"] if summary.by in WIDTH_S else [])]
    codes += ["path"] if summary.each else []
    return [summary.by, "recordings", "errors", "warnings", "minutes", *minutes, *shares, *codes]


def row(summary: Summary, group: Group, name: str | None = None) -> list[str | int | float]:
    """Return the cells of a group, as `columns` names them. Shares are from 0 to 1."""
    minutes = [round(group.seconds.get(label, 0.0) / 60, 4) for label in summary.labels]
    shares = [round(group.share(label), 4) for label in summary.labels]
    codes = [group.errors, group.warnings, *([group.times] if summary.by in WIDTH_S else [])]
    counts = [group.recordings, group.errors.total(), group.warnings.total()]
    listed = [" ".join(f"{code}:{count}" for code, count in sorted(each.items())) for each in codes]
    listed += [group.path] if summary.each else []
    return [name or group.name, *counts, round(group.duration_s / 60, 4), *minutes, *shares, *listed]


def csv_text(summary: Summary) -> str:
    """Return comma-separated values with a header row and one row per group."""
    rows = (row(summary, group) for group in summary.groups.values())
    return csv_line(columns(summary)) + "".join(map(csv_line, rows))


def json_text(summary: Summary) -> str:
    """Return a JSON object: `by`, a list of the `groups`, and the `total` of all. Times are in seconds."""
    groups = [
        {summary.by: group.name, **({"path": group.path} if summary.each else {}), **_facts(summary, group)}
        for group in summary.groups.values()
    ]
    facts = {"by": summary.by, "groups": groups, "total": _facts(summary, summary.total), "notes": notes(summary)}
    return json.dumps(facts, indent=2) + "\n"


def _facts(summary: Summary, group: Group) -> dict[str, Any]:
    labels = [label for label in summary.labels if label in group.seconds]
    return {
        "recordings": group.recordings,
        "duration_s": round(group.duration_s, 3),
        "seconds": {label: round(group.seconds[label], 3) for label in labels},
        "share": {label: round(group.share(label), 6) for label in labels},
        "errors": dict(sorted(group.errors.items())),
        "warnings": dict(sorted(group.warnings.items())),
        **({"times": dict(sorted(group.times.items()))} if summary.by in WIDTH_S else {}),
    }


def xlsx(summary: Summary, file: BinaryIO) -> None:
    """Write a workbook: the table with a row for the total, and a sheet of notes.

    Raises DeviceError if openpyxl is not installed.
    """
    book = workbook_class()()
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    sheet = book.active
    sheet.title = "summary"
    names = columns(summary)
    _append(sheet, names)
    for group in summary.groups.values():
        _append(sheet, row(summary, group))
    _append(sheet, row(summary, summary.total, "total"))
    for cell in (*sheet[1], *sheet[sheet.max_row]):
        cell.font = Font(bold=True)
    for number, name in enumerate(names, 1):
        form = "0.0%" if name.startswith("share_") else "0.00" if name.startswith("minutes") else None
        letter = get_column_letter(number)
        sheet.column_dimensions[letter].width = 40 if number == 1 else len(name) + 3
        for cell in sheet[letter][1:] if form else ():
            cell.number_format = form
    sheet.freeze_panes = "B2"
    if summary.groups:
        sheet.auto_filter.ref = f"A1:{get_column_letter(len(names))}{sheet.max_row - 1}"
    about = book.create_sheet("notes")
    for note in notes(summary):
        _append(about, [note])
    save(book, file)


def _append(sheet: Any, cells: Sequence[str | int | float]) -> None:
    """Append a row. Text stays text, also if it begins with = or holds what XML cannot."""
    sheet.append([None if isinstance(cell, str) else cell for cell in cells])
    for cell, value in zip(sheet[sheet.max_row], cells, strict=True):
        if isinstance(value, str):
            cell.value = printable(value)
            cell.data_type = "s"
