"""Report a comparison with TensorFlow: an entry in the model file, a page with a picture, and a
table for the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ms_edge.model.providers import SUFFIX
from ms_edge.model.session import Model
from ms_export.cases import cases_digest
from ms_export.levels import LEVELS
from ms_export.parity import SERVED, STAGES, Finding, Report, nearness
from ms_export.steps import RUNS, RUNS_OF_KERAS
from ms_train.files import atomic_write, require_own
from ms_train.tables import text_table

VERSIONS = ("ms-edge", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "scipy", "soxr")


def parity_entry(reports: Sequence[Report], data: dict[str, str]) -> dict[str, Any]:
    """Return the `.parity` entry: what was compared, and for each stage the difference nearest to
    its tolerance.

    It covers the served model and its network with each optimisation level, batch size and number
    of threads. The references in another precision are only in the report.
    """
    # Without other precisions and devices, because the same run must give the same bytes also on
    # machines with a GPU.
    here = [
        r for r in reports if not r.name.endswith(("float64", SUFFIX)) and r.name not in (RUNS, RUNS_OF_KERAS, LEVELS)
    ]
    findings = [f for report in here for f in report.findings]
    served = next(report for report in reports if report.name == SERVED)
    return {
        "cases": served.cases,
        "windows": served.windows,
        "cases_sha256": cases_digest(_names(served), data),
        **_stages(findings, resampled=False),
        "resampled": _stages(findings, resampled=True),
        **_steps({report.name: report for report in reports}),
        **_level({report.name: report for report in reports}),
        "versions": {name: version(name) for name in VERSIONS},
    }


def _steps(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return, for a model that answers runs of windows, how far their scores are from those of
    single windows and of Keras.
    """
    if RUNS not in reports:
        return {}
    runs = reports[RUNS]
    return {
        "steps": {
            "runs": runs.cases,
            "windows": runs.windows,
            "single_windows": _stages(runs.findings, resampled=False),
            "keras": _stages(reports[RUNS_OF_KERAS].findings, resampled=False),
        }
    }


def _level(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return, for a model with levels of the music, how far they are from those of Keras, in dB."""
    return _stages(reports[LEVELS].findings, resampled=False) if LEVELS in reports else {}


def _names(report: Report) -> list[str]:
    """Return the names of the cases of a report, sorted."""
    return sorted({finding.case for finding in report.findings})


def _stages(findings: Sequence[Finding], *, resampled: bool) -> dict[str, Any]:
    """Return for each stage the difference that is nearest to its tolerance, and that tolerance."""
    found = {}
    for stage in STAGES:
        of_stage = [f.deviation for f in findings if f.stage == stage and f.resampled == resampled]
        if of_stage:
            nearest = max(of_stage, key=nearness)
            found[stage] = {
                "largest": float(f"{nearest.largest:.2e}"),
                "tolerance": nearest.tolerance if np.isfinite(nearest.tolerance) else None,
            }
    return found


TITLE = "# Parity with TensorFlow: "


def require_own_report(path: Path) -> None:
    """Raise UsageError if a report at `path` (Markdown), or its picture beside it, would replace
    something else than an earlier report.
    """
    require_own(path, re.escape(TITLE.encode()), "report of ms-export")
    if not path.exists():
        require_own(path.with_suffix(".png"), rb"(?!)", "picture of a report beside it")


def write(reports: Sequence[Report], model: Model, path: Path, source: str) -> None:
    """Write the report of a comparison to `path` (Markdown), and its picture beside it to a PNG of
    the same name.
    """
    title = Path(model.path).name
    facts = {
        "model": f"{_cell(model.metadata.recipe)}, SHA-256 `{model.sha256}`",
        "labels": ", ".join(map(_cell, model.metadata.labels)),
        "real recordings": source,
        "software": ", ".join(f"{name} {version(name)}" for name in VERSIONS),
    }
    picture = path.with_suffix(".png")
    with atomic_write(path) as partial:  # the page first: beside it, the picture may be replaced
        partial.write_text(markdown(reports, title, picture.name, facts), "utf-8")
    with atomic_write(picture) as partial:
        draw(reports, partial, title)


def markdown(reports: Sequence[Report], title: str, picture: str, facts: dict[str, str]) -> str:
    """Return the report as Markdown: what was compared, and the worst case of each stage of each
    implementation.
    """
    served = next((report for report in reports if report.name.endswith(SERVED)), reports[0])
    lines = [
        f"{TITLE}{title}",
        "",
        f"{served.cases:,} recordings ({served.windows:,} windows) went through TensorFlow (tf.signal and Keras, from the waveform on)"
        f" and through each implementation below. {'All are' if all(r.passed for r in reports) else 'NOT all are'} within"
        " their tolerances.",
        "",
        *(f"* {name}: {value}" for name, value in facts.items()),
        "",
        "Differences of `samples` and `spectrum` are relative to the largest magnitude, those of `logits` to the largest logit (or 1);"
        " those of `features` and `scores` are absolute, those of `level` in dB."
        " `label` is the share of windows with another label, without windows near a border between labels."
        " *Resampled* cases have another rate than the model: both sides resample with different filters, and"
        " are compared at the frequencies that both let through. *Same features*: for real recordings, the Keras network also got the"
        " features that the implementation computed, so that only the two networks differ.",
        *(
            [
                "",
                f"The model also answers runs of windows that share their frames. *{RUNS}*: the scores of each window of such a run"
                f" are compared with those of the window alone. *{RUNS_OF_KERAS}*: they are compared with those of Keras on the same run.",
            ]
            if any(report.name == RUNS for report in reports)
            else []
        ),
        "",
        f"![Distribution of the differences]({picture})",
    ]
    for report in reports:
        lines += [
            "",
            f"## {report.name}: {'within tolerance' if report.passed else 'DIFFERS'} ({report.cases:,} cases)",
            "",
            "| stage | largest difference | tolerance | on |",
            "|---|---|---|---|",
        ]
        for finding in report.worst():
            name = finding.stage + ", resampled" * finding.resampled + ", same features" * finding.same_features
            found = finding.deviation
            largest = found.problem or found.shown
            mark = "" if found.passed else " **over**"
            lines.append(
                f"| {name} | {largest}{mark} | {'' if np.isinf(found.tolerance) else found.allowed} | {_cell(finding.case)} |"
            )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    printable = text.encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in printable).replace("|", "\\|")


def draw(reports: Sequence[Report], path: Path, title: str) -> None:
    """Write a PNG with the differences of all cases at each stage, and the tolerances."""
    from matplotlib.figure import Figure  # not pyplot, which has global state and may need a display

    compared = {finding.stage for report in reports for finding in report.findings}
    stages = [stage for stage in STAGES if stage != "label" and (stage != "level" or stage in compared)]
    figure = Figure(figsize=(16, 8), layout="constrained")
    axes = figure.subplots(2, len(stages), sharey=True)
    for row, resampled in zip(axes, (False, True), strict=True):
        for axis, stage in zip(row, stages, strict=True):
            axis.set_title(f"{stage}{', resampled' if resampled else ''}", fontsize=10)
            axis.tick_params(labelsize=8)
            axis.grid(axis="x", alpha=0.3)
            for place, report in enumerate(reports):
                found = [f.deviation for f in report.findings if f.stage == stage and f.resampled == resampled]
                if not found:
                    continue
                bounded = np.isfinite(found[0].tolerance)
                tolerance = max(d.tolerance for d in found) if bounded else 1.0
                least, most = tolerance * 1e-6, tolerance * 100
                # There is one line for all tolerances: a difference with a smaller tolerance is
                # scaled up to the largest one.
                scaled = [d.largest * (tolerance / d.tolerance if bounded else 1) for d in found]
                largest = np.clip([least if value == 0 else value for value in scaled], least, most)
                largest = np.nan_to_num(largest, nan=most)
                colour = ["tab:blue" if deviation.passed else "tab:red" for deviation in found]
                axis.scatter(largest, place + np.linspace(-0.3, 0.3, len(found)), s=4, alpha=0.5, color=colour)
                if bounded:
                    axis.axvline(tolerance, color="tab:red", linewidth=1)
                axis.set_xscale("log")
                axis.set_xlim(least / 2, most * 2)
    axes[0, 0].set_yticks(range(len(reports)), [report.name for report in reports])
    axes[0, 0].set_ylim(len(reports) - 0.4, -0.6)
    figure.suptitle(f"{title}: difference from TensorFlow, a dot per case (red line: tolerance; far left: none)")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def table(reports: Sequence[Report]) -> str:
    """Return a table for the terminal: one line per implementation, with its largest difference at
    each stage.
    """
    stages = [stage for stage in STAGES if any(f.stage == stage for report in reports for f in report.findings)]
    rows = [["IMPLEMENTATION", *map(str.upper, stages), "WITHIN TOLERANCE"]]
    for report in reports:
        largest = {
            stage: max(
                (f.deviation.largest for f in report.findings if f.stage == stage and not f.resampled), default=None
            )
            for stage in stages
        }
        cells = ["-" if value is None else f"{value:.1e}" for value in largest.values()]
        rows.append([report.name, *cells, "yes" if report.passed else "NO"])
    return text_table(rows)
