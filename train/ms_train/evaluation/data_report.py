"""Show the result of `ms-train data check`: on a terminal, and as a page with a picture.

DIR: report.md, report.json (all numbers), classes.png; the same recordings give the same bytes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ms_edge.features.windows import SILENCE_DBFS
from ms_train.evaluation.data_check import CLIPPED_SHARE, PROPERTIES, SPEC, Check
from ms_train.files import atomic_write
from ms_train.plots import _figure, _save, printable
from ms_train.tables import markdown_table, text_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LIMITS = {"bandwidth": (0, 8.3), "pauses": (-0.02, 1)}
UNITS = {"loudness": "level in dB of full scale", "bandwidth": "bandwidth in kHz", "pauses": "share of pauses"}
HEAD = (
    "class",
    "recordings",
    "minutes",
    "seconds each",
    "level in dBFS",
    "bandwidth in kHz",
    "pauses",
    "clipped",
    "silence",
)


def rows(found: Check) -> list[list[str]]:
    """Return a row of cells for each class, under HEAD; a range is from the 10th to the 90th
    percentile.
    """
    return [
        [
            label,
            f"{len(mine):,}",
            f"{sum(each.seconds for each in mine) / 60:.1f}",
            _range([each.seconds for each in mine], ".1f"),
            _range([each.level_db for each in mine], ".0f"),
            _range([each.bandwidth_khz for each in mine], ".1f"),
            f"{np.mean([each.pauses for each in mine]):.0%}",
            f"{sum(each.clipped > CLIPPED_SHARE for each in mine)}",
            f"{np.average([each.silent for each in mine], weights=[each.seconds for each in mine]):.0%}",
        ]
        for label in found.classes
        if (mine := found.of(label))
    ]


def _range(values: Sequence[float], form: str) -> str:
    low, high = np.percentile(values, (10, 90))
    return f"{low:{form}} to {high:{form}}"


def text(found: Check) -> str:
    """Return the page for a terminal."""
    told = [["alone tells the class", "right", "guessing"]]
    told += [[name, _share(each.accuracy), _share(each.chance)] for name, each in found.shortcuts.items()]
    tables = [[[cell.upper() for cell in HEAD], *rows(found)], *([told] if found.shortcuts else [])]
    problems = [f"refused: {each}" for each in found.refused] + [f"warning: {each}" for each in found.warnings]
    return "\n\n".join([*map(text_table, tables), "\n".join(problems or ["nothing found that spoils a training"])])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


SCHEMA, FILES = "ms-train/data-check-1", ("report.md", "classes.png")


def write(found: Check, out: Path) -> None:
    """Write report.md, report.json and the picture into the folder `out`, which exists."""
    numbers = {
        "schema": SCHEMA,
        "data": found.data,
        "classes": list(found.classes),
        "refused": list(found.refused),
        "warnings": list(found.warnings),
        "shortcuts": {name: asdict(each) for name, each in found.shortcuts.items()},
        "recordings": [asdict(each) for each in found.recordings],
    }
    with atomic_write(out / "report.json") as partial:  # first: by it, the rest is known as a report
        partial.write_text(json.dumps(numbers, indent=2) + "\n", "ascii")
    picture(found, out / "classes.png")
    problems = [f"* **refused**: {each}" for each in found.refused] + [f"* {each}" for each in found.warnings]
    told = [[name, _share(each.accuracy), _share(each.chance)] for name, each in found.shortcuts.items()]
    minutes = sum(each.seconds for each in found.recordings) / 60
    page = [
        f"# Check of {found.data}",
        f"{len(found.recordings):,} recordings, {minutes:.1f} minutes, read as mono at {SPEC.sample_rate_hz:,} Hz.",
        "## What to look at",
        "\n".join(problems or ["Nothing was found that spoils a training."]),
        "## Classes",
        markdown_table(HEAD, rows(found)),
        "Ranges are from the 10th to the 90th percentile of the recordings. *Bandwidth*: the frequency above which the mean spectrum\n"
        "stays 60 dB below its maximum. *Pauses*: frames of 20 ms that are 20 dB below the level of the recording. *Silence*: frames\n"
        f"below {SILENCE_DBFS:g} dBFS.",
        "## Does one number tell the classes apart?",
        markdown_table(("alone tells the class", "right", "guessing"), told),
        "A logistic regression that sees only this number of a recording, on recordings that it was not fitted to; the mean over\n"
        "classes. What is far above guessing may be how the recordings were made, and not what they are of.",
        "![The classes](classes.png)",
    ]
    (out / "report.md").write_text("\n\n".join(page) + "\n", "utf-8")


def picture(check: Check, path: Path) -> None:
    """Draw minutes, lengths, mean spectra, and the three properties of every recording by class, as
    a PNG.
    """
    names = [printable(label, 20) for label in check.classes]
    figure = _figure(13, 1.2 + max(2.8, 0.5 + 0.45 * len(names)) * 2)
    grid = figure.subplots(2, 3)
    of = {label: check.of(label) for label in check.classes}
    colours = [f"C{number % 10}" for number in range(len(names))]
    minutes = [sum(each.seconds for each in mine) / 60 for mine in of.values()]
    bars = grid[0, 0].barh(range(len(names)), minutes, height=0.6, color=colours)
    grid[0, 0].bar_label(bars, [f" {len(mine):,} recordings" for mine in of.values()], fontsize="small")
    grid[0, 0].margins(x=0.35)
    grid[0, 0].set(xlabel="minutes", title="How much")
    _dots(grid[0, 1], [[each.seconds for each in mine] for mine in of.values()], colours)
    grid[0, 1].set(xlabel="seconds (each dot is a recording)", title="How long", xlim=(0, None))
    hz = np.arange(1, 129) / 16
    for colour, (label, spectrum) in zip(colours, check.spectra.items(), strict=True):
        grid[0, 2].plot(hz, spectrum, color=colour, label=printable(label, 20))
    grid[0, 2].set(xlabel="kHz", ylabel="dB below the maximum", title="Mean spectrum", ylim=(-90, 3))
    if len(names) <= 10:
        grid[0, 2].legend(fontsize="small")
    for axes, (name, field) in zip(grid[1], PROPERTIES.items(), strict=True):
        _dots(axes, [[getattr(each, field) for each in mine] for mine in of.values()], colours)
        told = check.shortcuts.get(name)
        title = f"{name}: tells the class in {_share(told.accuracy)}" if told and told.accuracy is not None else name
        axes.set(xlabel=UNITS[name], xlim=LIMITS.get(name))
        axes.set_title(
            title, color="C3" if told and told.tells else "k", fontweight="bold" if told and told.tells else "normal"
        )
    for axes in (*grid[0, :2], *grid[1]):
        axes.set_yticks(range(len(names)), names, parse_math=False)
        axes.invert_yaxis()
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    figure.suptitle(f"{printable(check.data)}: {len(check.recordings):,} recordings", parse_math=False)
    _save(figure, path)


def _dots(axes: Axes, groups: list[list[float]], colours: list[str]) -> None:
    """Draw every value as a dot in the row of its group, beside others by a fixed pattern."""
    for row, (values, colour) in enumerate(zip(groups, colours, strict=True)):
        places = row + 0.3 * np.sin(2.4 * np.arange(len(values)))
        axes.plot(values, places, "o", markersize=4, alpha=0.5, color=colour)
        axes.plot([np.median(values)] * 2, [row - 0.4, row + 0.4], color="k")
