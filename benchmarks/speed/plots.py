"""Plots of the results of benchmarks.speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.words import FILES, OURS, STAGES, Found, enough, label_of


def plot(found: Found, folder: Path) -> None:
    """Write throughput.png, start.png and latency.png, each if its cases were measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    cases = found["cases"]
    files = [case for case in FILES if case in cases]
    palette = plt.get_cmap("tab10").colors
    colours = {name: palette[index % len(palette)] for index, name in enumerate(found["systems"])}
    if files:
        # Most systems read only 16 kHz mono WAV.
        able = {case: [name for name in found["systems"] if name in cases[case]][::-1] for case in files}
        rows, columns = [files[at : at + 3] for at in range(0, len(files), 3)], min(3, len(files))
        heights = [0.8 + 0.26 * max(len(able[case]) for case in row) for row in rows]
        figure, axes = plt.subplots(
            len(rows), columns, figsize=(5 * columns, sum(heights) + 0.6), squeeze=False, height_ratios=heights
        )
        for axis, case in zip(axes.flat, files, strict=False):
            for row, name in enumerate(able[case]):
                one = cases[case][name]
                for kind, offset, alpha in (("whole", -0.2, 1.0), ("inside", 0.2, 0.45)):
                    if kind in one:
                        values = [one["audio_s"] / one[kind][at] for at in ("median", "q3", "q1")]
                        error = [[values[0] - values[1]], [values[2] - values[0]]]
                        axis.barh(
                            row - offset, values[0], 0.38, xerr=error, color=colours[name], alpha=alpha, ecolor="black"
                        )
                        axis.text(values[2] * 1.1, row - offset, f"{values[0]:,.0f}", va="center", fontsize=7)
                if not {"whole", "inside"} & set(one):
                    axis.text(1.2, row, "failed", va="center", fontsize=7)
            axis.set_xscale("log")
            axis.set_xlim(1, 1e5)
            axis.set_title(label_of(found, case), fontsize=9)
            axis.set_xlabel("times real time")
            axis.set_yticks(range(len(able[case])), able[case])
            axis.set_ylim(-0.6, max(len(able[each]) for row in rows if case in row for each in row) - 0.4)
            axis.spines[["top", "right"]].set_visible(False)
        figure.suptitle("Throughput on one core: dark, the whole command; light, without start-up")
        figure.tight_layout()
        figure.savefig(folder / "throughput.png", dpi=110)
        plt.close(figure)
    if "start" in cases:
        longest = next((case for case in ("1h", "10min", "10s") if case in cases), None)
        figure, axes = plt.subplots(1, 2 if longest else 1, figsize=(12 if longest else 7, 4.8), squeeze=False)
        timed = {name: one["whole"] for name, one in cases["start"].items() if "whole" in one}
        _bars(
            axes[0][0], {name: [1000 * one[at] for at in ("median", "q1", "q3")] for name, one in timed.items()}, "ms"
        )
        axes[0][0].set_title("Cold start: whole processes")
        if longest:
            held = {name: [one["peak_bytes"] / 1e6] * 3 for name, one in cases[longest].items() if "peak_bytes" in one}
            _bars(axes[0][1], held, "MB")
            axes[0][1].set_title(f"Peak memory: {label_of(found, longest)}")
        figure.tight_layout()
        figure.savefig(folder / "start.png", dpi=110)
        plt.close(figure)
    if "latency" in cases and "failed" not in next(iter(cases["latency"].values())):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
        kinds = list(cases["latency"])
        at = ("50", "95", "99", "99.9")
        for kind in kinds:
            shown = [one for one in at if enough(cases["latency"][kind], one)]
            left.plot(shown, [1000 * cases["latency"][kind][f"p{one}"] for one in shown], marker="o", label=kind)
        left.set_yscale("log")
        left.set_xlabel("percentile")
        left.set_ylabel("ms")
        left.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        left.set_title("Latency in a running process")
        begin = [0.0] * len(kinds)
        for stage in STAGES:
            shares = [
                100 * cases["latency"][kind]["stages"][stage] / sum(cases["latency"][kind]["stages"].values())
                for kind in kinds
            ]
            right.barh(kinds, shares, left=begin, label=stage.replace("_", " "))
            begin = [one + share for one, share in zip(begin, shares, strict=True)]
        right.set_xlabel("% of the time")
        right.invert_yaxis()
        right.legend(fontsize=8, ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        right.set_title("Which stage takes it")
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(folder / "latency.png", dpi=110)
        plt.close(figure)


def _bars(axis: Any, values: dict[str, list[float]], unit: str) -> None:
    """Draw medians and quartiles as horizontal bars on a logarithmic axis, with ms-edge in another
    colour.
    """
    for row, (name, (middle, low, high)) in enumerate(reversed(values.items())):
        colour = "tab:blue" if name.startswith(OURS) else "lightgrey"
        axis.barh(row, middle, 0.7, xerr=[[middle - low], [high - middle]], color=colour)
        axis.text(high * 1.1, row, f"{middle:,.0f}", va="center", fontsize=8)
    axis.set_yticks(range(len(values)), list(values)[::-1], fontsize=8)
    axis.set_xscale("log")
    axis.margins(x=0.15)
    axis.set_xlabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
