"""The page that lists the pages of many recordings, with totals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from ms_edge.output.writers import duration, printable
from ms_edge.report.drawing import share_bar
from ms_edge.report.page import fill, least_sure, swatch
from ms_edge.results import Classification, Failure


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
            return cls(found.path, notes=found.message)
        path = found.path if found.channel is None else f"{found.path} (channel {found.channel})"
        doubtful = least_sure(found)
        least = round(doubtful[0].probability, 4) if doubtful else None
        notes = ", ".join(found.warnings)
        probability = round(found.probability, 4)
        return cls(path, address, found.label, probability, found.duration_s, found.seconds, least, notes)


def index_page(rows: Sequence[Row]) -> str:
    """Return the page that lists recordings, in the order of `rows`."""
    failed = sum(not row.address for row in rows)
    total_s = sum(row.duration_s for row in rows)
    count = f"{len(rows):,} recording{'' if len(rows) == 1 else 's'}"
    return fill(
        "index",
        title=escape(f"{count} · ms-edge"),
        heading=escape(count),
        summary=escape(duration(total_s)) + (f" · {failed:,} could not be classified" if failed else ""),
        totals=_totals(rows, total_s),
        labels="".join(f"<option>{escape(label)}</option>" for label in sorted({row.label for row in rows})),
        rows="".join(map(_row, rows)),
    )


def _totals(rows: Iterable[Row], total_s: float) -> str:
    seconds: dict[str, float] = {}
    for row in rows:
        for label, value in row.seconds.items():
            seconds[label] = seconds.get(label, 0.0) + value
    ordered = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    items = "".join(
        f"<li>{swatch(label)}{escape(label)} <strong>{escape(duration(value))}</strong> "
        f"<small>{value / total_s:.0%}</small></li>"
        for label, value in ordered.items()
    )
    return f'{share_bar(ordered)}<ul class="totals">{items}</ul>' if ordered else ""


def _row(row: Row) -> str:
    """Return one row. Its cells carry in `data-v` what they are sorted by."""
    name = escape(printable(row.path))
    if not row.address:
        cells = [f"<td>{name}</td>", f"<td>{swatch('error')}error</td>", *['<td data-v="-1"></td>'] * 4]
        return f"<tr>{''.join(cells)}<td>{escape(printable(row.notes))}</td></tr>"
    least = -1.0 if row.least_sure is None else row.least_sure
    cells = [
        f'<td><a href="{escape(row.address)}">{name}</a></td>',
        f"<td>{swatch(row.label)}{escape(row.label)}</td>",
        f'<td data-v="{row.probability}">{row.probability:.1%}</td>',
        f'<td data-v="{row.duration_s}">{escape(duration(row.duration_s))}</td>',
        f'<td data-v="{_share(row, "speech"):.4f}">{share_bar(row.seconds)}</td>',
        f'<td data-v="{least}">{"" if row.least_sure is None else f"{least:.0%}"}</td>',
        f"<td>{escape(printable(row.notes))}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _share(row: Row, label: str) -> float:
    """Return the share of a recording in which a label holds, alone or with others."""
    held = sum(value for name, value in row.seconds.items() if label in name.split("+"))
    return held / row.duration_s if row.duration_s else 0.0
