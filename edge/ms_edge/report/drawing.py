"""The timeline of a recording as SVG, for readers without JavaScript and for print.

Positions in time are percentages, so that the picture is as wide as its page and its text keeps its
size. Labels are told apart by colour, by pattern and by their row. `report.css` has the colours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ms_edge.output.writers import clock
from ms_edge.report.sound import LEVELS_DB, Sound
from ms_edge.results import Classification, Segment

COLUMNS = 800  # points of the waveform and of a curve
WAVE, TIER, SCORES, LEVELS, AXIS = 72, 22, 64, 56, 20  # heights, in px
WCAG_DB = -20.0  # the highest level of the music that criterion 1.4.7 allows
GAP = 4
TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
MOST_TICKS = 6
MOST_TOLD = 100  # segments that the picture names for readers of the screen; the table has all
PATTERNS = (  # of a page, for all its pictures
    '<svg class="patterns" width="0" height="0" aria-hidden="true"><defs>'
    '<pattern id="stripes" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="mark" width="2" height="7"/></pattern>'
    '<pattern id="dots" width="6" height="6" patternUnits="userSpaceOnUse">'
    '<circle class="mark" cx="3" cy="3" r="1.2"/></pattern></defs></svg>'
)


def css_class(label: str) -> str:
    """Return the class that gives a label its colour: `l-speech`, `l-speech-music`, `l-other` …"""
    return "l-" + re.sub(r"[^a-z0-9]+", "-", label.lower())


def rows_of(label: str, rows: Sequence[str]) -> list[int]:
    """Return the rows of a label: those of the sounds that it names, or all of them if it names none."""
    named = [number for number, row in enumerate(rows) if row in label.split("+")]
    return named or list(range(len(rows)))


def timeline(found: Classification, sound: Sound | None = None) -> str:
    """Return the picture: the waveform, a row per label of the model, curves of scores, and the time.

    Without `sound` there are neither waveform nor curves.
    """
    rows, duration_s = tuple(found.scores), found.duration_s or 1.0  # a record can state anything
    y, parts = 0, []
    if sound:
        parts.append(_nested(y, WAVE, f'<polygon class="wave" points="{_waveform(sound.peaks)}"/>'))
        y += WAVE + GAP
    parts += _bars(found.segments, duration_s, rows, y)
    y += (TIER + GAP) * len(rows)
    if sound:
        x = COLUMNS * sound.centres_s / duration_s
        lines = [
            f'<polyline class="curve {css_class(row)}" points="{_curve(x, sound.scores[:, number])}"/>'
            for number, row in enumerate(rows)
        ]
        parts.append(f'<rect class="ground" y="{y}" width="100%" height="{SCORES}"/>')
        parts.append(_nested(y, SCORES, "".join(lines)))
        y += SCORES + GAP
    if sound and sound.levels is not None:
        parts.append(f'<rect class="ground" y="{y}" width="100%" height="{LEVELS}"/>')
        parts.append(_nested(y, LEVELS, _levels(COLUMNS * sound.centres_s / duration_s, sound.levels)))
        y += LEVELS + GAP
    parts += _axis(duration_s, y)
    told = "; ".join(
        f"{each.label} {clock(each.start_s)} to {clock(each.end_s)}" for each in found.segments[:MOST_TOLD]
    )
    return (
        f'<svg class="timeline" width="100%" height="{y + AXIS}" role="img" aria-labelledby="told">'
        f'<title id="told">Timeline: {escape(told)}</title>{"".join(parts)}</svg>'
    )


def share_bar(seconds: Mapping[str, float]) -> str:
    """Return a small bar of the share of each label."""
    x, parts, total = 0.0, [], sum(seconds.values()) or 1.0
    for label, value in seconds.items():
        place = f'x="{x:.2f}%" width="{100 * value / total:.2f}%" height="100%"'
        parts.append(f'<rect class="{css_class(label)}" {place}/>')
        if fill := _pattern(label):
            parts.append(f'<rect fill="url(#{fill})" {place}/>')
        x += 100 * value / total
    told = ", ".join(f"{label} {value / total:.0%}" for label, value in seconds.items())
    return f'<svg class="share" role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'


def _nested(y: int, height: int, content: str) -> str:
    """Return a part whose own coordinates, (COLUMNS, 255), fill a row."""
    box = f'viewBox="0 0 {COLUMNS} 255" preserveAspectRatio="none"'
    return f'<svg y="{y}" width="100%" height="{height}" {box}>{content}</svg>'


def _bars(segments: Iterable[Segment], duration_s: float, rows: Sequence[str], top: int) -> list[str]:
    parts = []
    for each in segments:
        x, width = 100 * each.start_s / duration_s, 100 * (each.end_s - each.start_s) / duration_s
        for row in rows_of(each.label, rows):
            place = f'x="{x:.3f}%" y="{top + row * (TIER + GAP)}" width="{width:.3f}%" height="{TIER}"'
            parts.append(f'<rect class="bar {css_class(each.label)}" {place}/>')
            if fill := _pattern(each.label):
                parts.append(f'<rect fill="url(#{fill})" {place}/>')
    return parts


def _pattern(label: str) -> str:
    """Return the pattern over the colour of a label; "" for those that are plain."""
    return {"music": "stripes", "speech+music": "stripes", "other": "dots"}.get(label, "")


def _columns(values: NDArray[np.uint8]) -> NDArray[np.intp]:
    return np.linspace(0, len(values), min(COLUMNS, len(values)) + 1).astype(np.intp)[:-1]


def _waveform(peaks: NDArray[np.uint8]) -> str:
    tall = np.maximum.reduceat(peaks, _columns(peaks)) / 2
    x = np.linspace(0, COLUMNS, len(tall))
    upper = [f"{at:.0f},{127.5 - high:.0f}" for at, high in zip(x, tall, strict=True)]
    lower = [f"{at:.0f},{127.5 + high:.0f}" for at, high in zip(x[::-1], tall[::-1], strict=True)]
    return " ".join(upper + lower)


def _curve(x: NDArray[np.float64], scores: NDArray[np.uint8]) -> str:
    starts = _columns(scores)
    sizes = np.diff([*starts, len(scores)])
    points = zip(np.add.reduceat(x, starts) / sizes, np.add.reduceat(scores.astype(float), starts) / sizes, strict=True)
    return " ".join(f"{at:.1f},{255 - mean:.0f}" for at, mean in points)


def _levels(x: NDArray[np.float64], levels: NDArray[np.uint8]) -> str:
    """Return the curve of the level of the music, with gaps where there is none, and a line at WCAG_DB."""
    low, high = LEVELS_DB
    at = 255 - 255 * (WCAG_DB - low) / (high - low)
    parts = [f'<line class="limit" x1="0" x2="{COLUMNS}" y1="{at:.0f}" y2="{at:.0f}"/>']
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (levels > 0).astype(np.int8), [0]))))
    for first, last in edges.reshape(-1, 2):
        if last - first > 1:
            parts.append(f'<polyline class="curve level" points="{_curve(x[first:last], levels[first:last])}"/>')
    return "".join(parts)


def _axis(duration_s: float, y: int) -> list[str]:
    step = next((tick for tick in TICKS_S if duration_s / tick <= MOST_TICKS), duration_s / MOST_TICKS)
    parts = []
    for at in np.arange(0, duration_s, step):
        x = 100 * at / duration_s
        if x > 94 and at:  # no room for its text
            continue
        parts.append(f'<line class="tick" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y}" y2="{y + 4}"/>')
        dx = ' dx="2"' if not at else ""
        anchor = "start" if not at else "middle"
        text = clock(float(at)).removesuffix(".000") + (" s" if at < 60 else "")
        parts.append(f'<text x="{x:.2f}%" y="{y + 16}" text-anchor="{anchor}"{dx}>{text}</text>')
    return parts
