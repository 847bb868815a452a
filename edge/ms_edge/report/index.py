"""The page that lists the pages of many recordings, with totals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from ms_edge.output.writers import duration, printable
from ms_edge.report.document import document, json_of, text
from ms_edge.report.drawing import share_bar
from ms_edge.report.page import SIGNS, least_sure, swatch, totals
from ms_edge.results import Classification, Failure

COLUMNS = (
    "<thead><tr>"
    + "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Recording", "Label", "Probability", "Duration", "Shares", "Least sure segment", "Notes")
    )
    + "</tr></thead>"
)


class Row(NamedTuple):
    """What the index says about one recording. `address` is that of its page, relative to the index."""

    path: str
    address: str = ""
    label: str = "error"
    probability: float = 0.0
    duration_s: float = 0.0
    seconds: dict[str, float] = {}  # noqa: RUF012
    least_sure: float | None = None  # the smallest probability of a segment
    notes: str = ""  # warnings, or the reason of a failure

    @classmethod
    def of(cls, found: Classification | Failure, address: str = "") -> Row:
        """Return the row of a result."""
        if isinstance(found, Failure):
            return cls(found.path, notes=found.message.removeprefix(f"{found.path}: "))
        path = found.path if found.channel is None else f"{found.path} (channel {found.channel})"
        doubtful = least_sure(found)
        least = round(doubtful[0].probability, 4) if doubtful else None
        notes = ", ".join(found.warnings)
        probability = round(found.probability, 4)
        return cls(path, address, found.label, probability, found.duration_s, found.seconds, least, notes)


def index_page(rows: Sequence[Row]) -> str:
    """Return the page that lists recordings, in the order of `rows`."""
    # What all paths begin with is said once: names fit into their column then.
    folder = os.path.commonprefix([row.path for row in rows if row.address]).rpartition("/")[0]  # noqa: RUF071
    names = [printable(row.path.removeprefix(f"{folder}/" if folder else "")) for row in rows]
    failed = sum(not row.address for row in rows)
    total_s = sum(row.duration_s for row in rows)
    seconds: dict[str, float] = {}
    for row in rows:
        for label, value in row.seconds.items():
            seconds[label] = seconds.get(label, 0.0) + value
    count = f"{len(rows):,} recording{'' if len(rows) == 1 else 's'}"
    return document(
        text("index.html"),
        [text("common.js"), text("index.js")],
        title=escape(f"{count} · ms-edge"),
        heading=escape(count),
        summary=escape(duration(total_s)) + (f" · {failed:,} could not be classified" if failed else ""),
        totals=totals(seconds, total_s),
        labels="".join(f"<option>{escape(label)}</option>" for label in sorted({row.label for row in rows})),
        columns=COLUMNS,
        folder=escape(printable(folder)),
        rows="".join(map(_row, rows, names)),  # for browsers without JavaScript; with it, they are mere text
        data=json_of(
            {
                "signs": SIGNS,
                "rows": [[name, *row[1:7], printable(row.notes)] for row, name in zip(rows, names, strict=True)],
            }
        ),
    )


def _row(row: Row, name: str) -> str:
    cells = [f'<a href="{escape(row.address)}">{escape(name)}</a>' if row.address else escape(name)]
    cells.append(f"{swatch(row.label)}{escape(row.label)}")
    if row.address:
        least = "" if row.least_sure is None else f"{row.least_sure:.0%}"
        cells += [f"{row.probability:.1%}", escape(duration(row.duration_s)), share_bar(row.seconds), least]
    else:
        cells += [""] * 4
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, escape(printable(row.notes)))) + "</tr>"
