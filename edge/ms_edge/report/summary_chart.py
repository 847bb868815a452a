"""A summary as a chart, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, BinaryIO

from ms_edge.errors import DeviceError
from ms_edge.output.writers import printable
from ms_edge.report.summary import NO_TIME, WIDTH_S, Group, Summary

Bars = Sequence[tuple[str, Group]]

COLOURS = {
    "speech": "#2a78d6",
    "music": "#e08a1e",
    "speech+music": "#7b4fc9",
    "other": "#7a8288",
    "silence": "#d8dde0",
    "uncertain": "#b23a6b",
}
MORE_COLOURS = ("#2e8b57", "#8c564b", "#17becf", "#bcbd22")  # labels of other models
HATCHES = {"speech+music": "///", "uncertain": "..."}  # so that these are not told by colour alone
MOST_BARS = 40  # files or folders below each other
MOST_NAME = 60  # characters of a path
MOST_SPAN = 1000  # hours or days on an axis of time; beyond, the bars stand without gaps
MOST_TICKS, TICK_STEPS = 40, (1, 2, 3, 6, 12, 24, 168, 720)


def chart(summary: Summary, file: BinaryIO, form: str) -> None:
    """Write a picture in the format `form` (png or svg): a bar per group, in the colours of its labels.

    Hours and days stand side by side, files and folders below each other: the MOST_BARS longest ones.
    Raises DeviceError if matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise DeviceError(
            "no-report",
            "A chart needs matplotlib, which is not installed (pip install matplotlib, or ms-edge with its extra report).",
        ) from None
    timed = summary.by in WIDTH_S
    bars = list(summary.groups.items()) if timed else _longest(summary)
    unit, unit_s = _unit(bars)
    # The same input gives the same bytes; text of an SVG stays text.
    with rc_context({"svg.hashsalt": "ms-edge", "svg.fonttype": "none"}):
        size = (min(max(8.0, 1.5 + 0.2 * len(bars)), 16.0), 4.5) if timed else (9.0, 1.6 + 0.28 * max(len(bars), 2))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        at = _positions([name for name, _ in bars], WIDTH_S[summary.by]) if timed else list(range(len(bars)))
        labels = [label for label in summary.labels if summary.total.seconds.get(label)]
        _draw(axes, bars, at, labels, unit_s, timed)
        names = [_name(name, group) for name, group in bars]
        if timed:
            step = next((step for step in TICK_STEPS if len(bars) <= MOST_TICKS * step), len(bars))
            axes.set_xticks(at[::step], names[::step], rotation=90)
            axes.set_ylabel(unit)
        else:
            axes.set_yticks(at, names)
            axes.invert_yaxis()
            left = len(summary.groups) - len(bars)
            axes.set_xlabel(f"{unit} (without {left:,} shorter {summary.by}s)" if left else unit)
        axes.spines[["top", "right"]].set_visible(False)
        if labels:
            figure.legend(loc="outside upper center", ncols=min(len(labels), 6), frameon=False)
        figure.savefig(file, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)


def _draw(axes: Any, bars: Bars, at: Sequence[float], labels: Sequence[str], unit_s: float, timed: bool) -> None:
    """Draw a bar at each position `at`, made of a piece for each label."""
    before = [0.0] * len(bars)
    for number, label in enumerate(labels):
        lengths = [group.seconds.get(label, 0.0) / unit_s for _, group in bars]
        look = {
            "label": label,
            "color": COLOURS.get(label, MORE_COLOURS[number % len(MORE_COLOURS)]),
            "hatch": HATCHES.get(label),
            "edgecolor": "white",
            "linewidth": 0,
        }
        if timed:
            axes.bar(at, lengths, bottom=before, width=0.9, **look)
        else:
            axes.barh(at, lengths, left=before, height=0.8, **look)
        before = [start + length for start, length in zip(before, lengths, strict=True)]
    axes.margins(**{"x" if timed else "y": 0.01})


def _unit(bars: Bars) -> tuple[str, int]:
    """Return the unit of the axis, and its seconds."""
    longest_s = max((group.duration_s for _, group in bars), default=0.0)
    return ("hours", 3600) if longest_s >= 3 * 3600 else ("minutes", 60)


def _positions(names: Sequence[str], width_s: int) -> list[float]:
    """Return where the hours (days) stand on the axis: with gaps where nothing was recorded.

    What has no time stands last.
    """
    moments = [datetime.fromisoformat(name) for name in names if name != NO_TIME]
    at = [(moment - moments[0]).total_seconds() / width_s for moment in moments]
    if at and at[-1] > MOST_SPAN:
        at = [float(number) for number in range(len(at))]
    return [*at, *([at[-1] + 2 if at else 0.0] * (len(names) - len(at)))]


def _longest(summary: Summary) -> Bars:
    """Return the MOST_BARS longest groups, in their order."""
    groups = summary.groups
    longest = set(sorted(groups, key=lambda name: -round(groups[name].duration_s))[:MOST_BARS])
    return [(name, group) for name, group in groups.items() if name in longest]


def _name(name: str, group: Group) -> str:
    """Return the name of a bar, with the number of failures; a `$` is escaped for matplotlib."""
    short = printable("no time" if name == NO_TIME else name)
    if len(short) > MOST_NAME:
        short = f"…{short[-MOST_NAME:]}"
    failed = group.errors.total()
    return (f"{short} ({failed} failed)" if failed else short).replace("$", r"\$")
