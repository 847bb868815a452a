"""Pictures of an evaluation: ROC, reliability, confusion, length, noise, mistakes. PNGs, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ms_train.plots import _figure, _save, printable


def reliability(curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], title: str, path: Path) -> None:
    """Reliability curves (`ms_train.scores.calibration.reliability`) by question and kind (`as it is`, or tempered), as a PNG.

    Below them, how often each probability was given.
    """
    figure = _figure(6, 6.5)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot((0, 1), (0, 1), color="grey", linestyle=":", label="as probable as it says")
    for number, (name, of) in enumerate(curves.items()):
        for kind, curve in of.items():
            style = {"color": f"C{number}", "marker": ".", "linestyle": "-" if kind == "as it is" else "--"}
            above.plot(curve["probability"], curve["share"], label=f"{name}, {kind}", **style)
            below.plot(curve["probability"], curve["count"], **style)
    above.set_ylabel("share that is so")
    above.legend(fontsize="small")
    below.set_xlabel("probability given (mean of each tenth)")
    below.set_ylabel("answers")
    below.set_yscale("log")
    _finish(figure, title, path, (above, below))


def roc(
    levels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    areas: Mapping[str, Mapping[str, str]],
    title: str,
    path: Path,
) -> None:
    """ROC curves side by side for each level (clips, recordings): by label (false positive rate, true positive rate), as a PNG.

    `areas` are the areas under them, as text.
    """
    figure = _figure(5 * len(levels), 5.6)
    all_axes = figure.subplots(1, len(levels), squeeze=False)[0]
    for axes, (level, curves) in zip(all_axes, levels.items(), strict=True):
        axes.plot((0, 1), (0, 1), color="grey", linestyle=":", label="chance")
        for name, (false, true) in curves.items():
            axes.plot(false, true, label=f"{name}: {areas[level][name]}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title=level, box_aspect=1)
        axes.legend(loc="lower right", fontsize="small", title="area [95 % interval]", title_fontsize="small")
    _finish(figure, title, path, all_axes)


def confusion(tables: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """Confusion tables (`ms_train.scores.metrics.confusion`) side by side, shaded by the share of each row, as a PNG."""
    widest = max(len(table["answers"]) for table in tables.values())
    tallest = max(len(table["truths"]) for table in tables.values())
    figure = _figure(len(tables) * (2 + widest), 1.8 + 0.9 * tallest)
    all_axes = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (level, table) in zip(all_axes, tables.items(), strict=True):
        for row, counts in enumerate(table["counts"]):
            for column, count in enumerate(counts):
                share = count / max(1, sum(counts))
                axes.text(
                    column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color="w" if share > 0.6 else "k"
                )
        shares = [[count / max(1, sum(counts)) for count in counts] for counts in table["counts"]]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(table["answers"])), [answer.replace("+", "+\n") for answer in table["answers"]])
        axes.set_yticks(range(len(table["truths"])), table["truths"])
        axes.set(xlabel="answer", ylabel="truth", title=level)
    figure.suptitle(printable(title), parse_math=False)
    _save(figure, path)


def lengths(
    points: Sequence[Mapping[str, Any]], names: Mapping[str, str], clip_s: float, title: str, path: Path
) -> None:
    """Accuracy against how much is heard, with 95 % intervals, as a PNG; `names` says what each kind of accuracy is called.

    Points are `{"seconds": s or None for whole recordings, "count": n, kind: {"value", "low", "high"}}`.
    """
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    points = [point for point in points if point["count"]]
    for number, (kind, name) in enumerate(names.items()):
        _with_intervals(axes, [n + (number - 0.5) * 0.08 for n in range(len(points))], points, kind, name, f"C{number}")
    ticks = ["whole" if point["seconds"] is None else f"{point['seconds']:g}" for point in points]
    axes.set_xticks(
        range(len(points)), [f"{tick}\n({point['count']:,})" for tick, point in zip(ticks, points, strict=True)]
    )
    axes.set_xlabel(f"seconds heard, and how many pieces (the model's clip is {clip_s:g} s)")
    axes.set_ylabel("accuracy")
    axes.legend()
    _finish(figure, title, path, (axes,))


def snrs(points: Sequence[Mapping[str, Any]], names: Mapping[str, str], title: str, path: Path) -> None:
    """Accuracy of recordings' answers against the signal-to-noise ratio, with 95 % intervals, a panel for each noise, as a PNG.

    Points are `{"noise", "snr_db" or None without noise, "files": {kind: {"value", "low", "high"}}}`.
    """
    noises = [*dict.fromkeys(point["noise"] for point in points if point["noise"] != "none")]
    figure = _figure(5 * len(noises), 4.5)
    all_axes = figure.subplots(1, len(noises), sharey=True, squeeze=False)[0]
    for axes, noise in zip(all_axes, noises, strict=True):
        shown = [point for point in points if point["noise"] in ("none", noise)]
        number = 0
        for level, what in (("files", "recordings"), ("clips", "clips")):
            for kind, name in names.items():
                places = [n + (number - 1.5) * 0.08 for n in range(len(shown))]
                style = f"C{list(names).index(kind)}"
                line = "-" if level == "files" else "--"
                _with_intervals(axes, places, [point[level] for point in shown], kind, f"{what}: {name}", style, line)
                number += 1
        ticks = ["no noise" if point["snr_db"] is None else f"{point['snr_db']:g}" for point in shown]
        axes.set_xticks(range(len(shown)), ticks)
        axes.set(xlabel="signal-to-noise ratio in dB", title=f"{noise} noise")
    all_axes[0].set_ylabel("accuracy")
    all_axes[0].legend(fontsize="small")
    _finish(figure, title, path, all_axes)


def mistakes(shown: Sequence[Any], title: str, path: Path) -> None:
    """Spectrograms of mistakes (`ms_train.evaluation.scoring.Mistake`), the clip between two lines, as a PNG; one at least."""
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = _figure(1 + 5 * columns, 0.8 + 2.4 * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, mistake in zip(all_axes, shown, strict=False):
        rate = mistake.sample_rate_hz
        window = min(512, len(mistake.context))
        power, hz, seconds = _spectrogram(mistake.context, rate, window)
        seconds = seconds + mistake.context_start_s
        image = axes.pcolormesh(seconds, hz / 1000, power, vmin=-100, vmax=-20, cmap="magma", shading="nearest")
        for edge in (mistake.start_s, mistake.start_s + mistake.clip_s):
            axes.axvline(edge, color="c", linewidth=1)
        scores = ", ".join(f"{label} {score:.2f}" for label, score in mistake.scores.items())
        axes.set_title(
            f"{printable(mistake.name, 48)}\n{mistake.truth} as {mistake.answer} ({scores})",
            fontsize="small",
            parse_math=False,
        )
        axes.set(
            xlabel="seconds into the recording",
            ylabel="kHz",
            xlim=(mistake.context_start_s, mistake.context_start_s + len(mistake.context) / rate),
        )
    for axes in all_axes[len(shown) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=all_axes, label="dB relative to full scale", aspect=15 * rows)
    figure.suptitle(printable(title), parse_math=False)
    _save(figure, path)


def _spectrogram(samples: Any, rate_hz: int, window: int) -> tuple[Any, Any, Any]:
    from scipy.signal import spectrogram

    hz, seconds, power = spectrogram(samples, rate_hz, "hann", window, window * 3 // 4, scaling="spectrum", mode="psd")
    return 10 * np.log10(power + 1e-12), hz, seconds


def _with_intervals(
    axes: Any,
    places: Sequence[float],
    points: Sequence[Mapping[str, Any]],
    kind: str,
    name: str,
    color: str,
    line: str = "-",
) -> None:
    known = [
        (place, point[kind]) for place, point in zip(places, points, strict=True) if point[kind]["value"] is not None
    ]
    values = [point["value"] for _, point in known]
    # The percentiles of a skewed bootstrap may miss the value itself by a hair.
    below = [max(0.0, point["value"] - point["low"]) for _, point in known]
    above = [max(0.0, point["high"] - point["value"]) for _, point in known]
    axes.errorbar(
        [place for place, _ in known],
        values,
        (below, above),
        label=name,
        color=color,
        linestyle=line,
        marker=".",
        capsize=3,
    )


def _finish(figure: Any, title: str, path: Path, all_axes: Sequence[Any]) -> None:
    for axes in all_axes:
        axes.grid(alpha=0.3)
    figure.suptitle(printable(title), parse_math=False)
    _save(figure, path)
