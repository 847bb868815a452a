"""Pictures of an evaluation: ROC, reliability, confusion, length, noise, mistakes.

The same numbers give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ms_train.evaluation.markdown import kinds_of_accuracy
from ms_train.evaluation.results import LengthPoint, NoisePoint
from ms_train.evaluation.scoring import MistakeExcerpt
from ms_train.plots import _figure, _save, printable
from ms_train.scores.calibration import Curve
from ms_train.scores.metrics import Confusion, Float64, Interval


def reliability(curves: Mapping[str, Mapping[str, Curve]], title: str, path: Path) -> None:
    """Draw reliability curves by question and kind (`as it is`, or tempered), as a PNG.

    Below the curves is the number of answers with each probability.
    """
    figure = _figure(6, 6.5)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot((0, 1), (0, 1), color="grey", linestyle=":", label="as probable as it says")
    for number, (name, of) in enumerate(curves.items()):
        for kind, curve in of.items():
            style = {"color": f"C{number}", "marker": ".", "linestyle": "-" if kind == "as it is" else "--"}
            above.plot(curve.probability, curve.share, label=f"{name}, {kind}", **style)
            below.plot(curve.probability, curve.count, **style)
    above.set_ylabel("share that is so")
    above.legend(fontsize="small")
    below.set_xlabel("probability given (mean of each tenth)")
    below.set_ylabel("answers")
    below.set_yscale("log")
    _finish(figure, title, path, (above, below))


def roc(
    levels: Mapping[str, Mapping[str, tuple[Float64, Float64]]],
    areas: Mapping[str, Mapping[str, str]],
    title: str,
    path: Path,
) -> None:
    """Draw the ROC curves of each level (clips, recordings) side by side, as a PNG.

    A level holds (false positive rate, true positive rate) by label. `areas` are the areas under
    the curves, as text.
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


def confusion(tables: Mapping[str, Confusion], title: str, path: Path) -> None:
    """Draw confusion tables side by side, shaded by the share of each row, as a PNG."""
    widest = max(len(table.answers) for table in tables.values())
    tallest = max(len(table.truths) for table in tables.values())
    figure = _figure(len(tables) * (2 + widest), 1.8 + 0.9 * tallest)
    all_axes = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (level, table) in zip(all_axes, tables.items(), strict=True):
        for row, counts in enumerate(table.counts):
            for column, count in enumerate(counts):
                share = count / max(1, sum(counts))
                axes.text(
                    column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color="w" if share > 0.6 else "k"
                )
        shares = [[count / max(1, sum(counts)) for count in counts] for counts in table.counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(table.answers)), [answer.replace("+", "+\n") for answer in table.answers])
        axes.set_yticks(range(len(table.truths)), table.truths)
        axes.set(xlabel="answer", ylabel="truth", title=level)
    figure.suptitle(printable(title), parse_math=False)
    _save(figure, path)


def lengths(points: Sequence[LengthPoint], decision: str, clip_s: float, title: str, path: Path) -> None:
    """Draw accuracy against the length of the pieces, with 95 % intervals, as a PNG."""
    figure = _figure(7, 4.5)
    axes = figure.subplots()
    points = [point for point in points if point.accuracies.count]
    kinds = [kinds_of_accuracy(point.accuracies, decision) for point in points]
    for number, name in enumerate(kinds[0] if kinds else ()):
        places = [n + (number - 0.5) * 0.08 for n in range(len(points))]
        _with_intervals(axes, places, [of[name] for of in kinds], name, f"C{number}")
    ticks = [
        f"{'whole' if point.seconds is None else f'{point.seconds:g}'}\n({point.accuracies.count:,})"
        for point in points
    ]
    axes.set_xticks(range(len(points)), ticks)
    axes.set_xlabel(f"seconds heard, and how many pieces (the model's clip is {clip_s:g} s)")
    axes.set_ylabel("accuracy")
    axes.legend()
    _finish(figure, title, path, (axes,))


def snrs(points: Sequence[NoisePoint], decision: str, title: str, path: Path) -> None:
    """Draw accuracy against the signal-to-noise ratio, with 95 % intervals, a panel for each noise,
    as a PNG.
    """
    noises = [*dict.fromkeys(point.noise for point in points if point.noise != "none")]
    figure = _figure(5 * len(noises), 4.5)
    all_axes = figure.subplots(1, len(noises), sharey=True, squeeze=False)[0]
    for axes, noise in zip(all_axes, noises, strict=True):
        shown = [point for point in points if point.noise in ("none", noise)]
        levels = (
            ("recordings", "-", [kinds_of_accuracy(point.files, decision) for point in shown]),
            ("clips", "--", [kinds_of_accuracy(point.clips, decision) for point in shown]),
        )
        number = 0
        for what, line, kinds in levels:
            for colour, name in enumerate(kinds[0]):
                places = [n + (number - 1.5) * 0.08 for n in range(len(shown))]
                _with_intervals(axes, places, [of[name] for of in kinds], f"{what}: {name}", f"C{colour}", line)
                number += 1
        ticks = ["no noise" if point.snr_db is None else f"{point.snr_db:g}" for point in shown]
        axes.set_xticks(range(len(shown)), ticks)
        axes.set(xlabel="signal-to-noise ratio in dB", title=f"{noise} noise")
    all_axes[0].set_ylabel("accuracy")
    all_axes[0].legend(fontsize="small")
    _finish(figure, title, path, all_axes)


def mistakes(shown: Sequence[MistakeExcerpt], title: str, path: Path) -> None:
    """Draw the spectrograms of one or more mistakes, each clip between two lines, as a PNG."""
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = _figure(1 + 5 * columns, 0.8 + 2.4 * rows)
    all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, excerpt in zip(all_axes, shown, strict=False):
        rate = excerpt.sample_rate_hz
        window = min(512, len(excerpt.context))
        power, hz, seconds = _spectrogram(excerpt.context, rate, window)
        seconds = seconds + excerpt.context_start_s
        image = axes.pcolormesh(seconds, hz / 1000, power, vmin=-100, vmax=-20, cmap="magma", shading="nearest")
        for edge in (excerpt.mistake.start_s, excerpt.mistake.start_s + excerpt.clip_s):
            axes.axvline(edge, color="c", linewidth=1)
        scores = ", ".join(f"{label} {score:.2f}" for label, score in excerpt.mistake.scores.items())
        axes.set_title(
            f"{printable(excerpt.mistake.name, 48)}\n{excerpt.mistake.truth} as {excerpt.mistake.answer} ({scores})",
            fontsize="small",
            parse_math=False,
        )
        axes.set(
            xlabel="seconds into the recording",
            ylabel="kHz",
            xlim=(excerpt.context_start_s, excerpt.context_start_s + len(excerpt.context) / rate),
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
    axes: Any, places: Sequence[float], numbers: Sequence[Interval], name: str, color: str, line: str = "-"
) -> None:
    """Draw numbers with their intervals; those without a value are left out."""
    known = [
        (place, number.value, number.low, number.high)
        for place, number in zip(places, numbers, strict=True)
        if number.value is not None and number.low is not None and number.high is not None
    ]
    # The percentiles of a skewed bootstrap may miss the value itself by a hair.
    below = [max(0.0, value - low) for _, value, low, _ in known]
    above = [max(0.0, high - value) for _, value, _, high in known]
    axes.errorbar(
        [place for place, *_ in known],
        [value for _, value, *_ in known],
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
