"""An evaluation as numbers, written with its pictures.

DIR: report.json (all numbers, schema `ms-train/evaluation-1`), report.md, reliability.png, roc.png, confusion.png,
length.png, snr.png, mistakes.png
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ms_edge.timeline import SILENCE
from ms_train.evaluation import report_plots
from ms_train.evaluation.markdown import interval, kinds_of_accuracy, markdown
from ms_train.evaluation.scoring import Scored
from ms_train.evaluation.subject import Subject
from ms_train.scores import calibration, metrics
from ms_train.scores.metrics import Answers

SCHEMA = "ms-train/evaluation-1"
SOFTWARE = ("ms-edge", "numpy", "scipy", "scikit-learn", "soxr", "soundfile")


@dataclass(frozen=True)
class Fitted:
    """Where a temperature comes from: answers to clips, and what they are of; none, and why not."""

    answers: Answers | None
    what: str


def numbers(
    subject: Subject, scored: Scored, fitted: Fitted, *, data: str, part: str, warnings: Sequence[str], seed: int
) -> dict[str, Any]:
    """Everything that is reported, ready for JSON."""
    model, training = subject.classifier.model, subject.training
    spec, decision = subject.classifier.spec, subject.decision
    clips = scored.clips.part(~scored.silent)
    truths, rounds = Counter(scored.files.truths), metrics.ROUNDS
    answers = [
        {
            "name": scored.names[index],
            "truth": truth,
            "answer": answer,
            "scores": dict(zip(subject.labels, row.tolist(), strict=True)),
        }
        for index, truth, answer, row in zip(
            scored.files.recording, scored.files.truths, scored.files.answers, scored.files.scores, strict=True
        )
    ]
    known = ("dataset", "sources", "licences", "recordings", "data_sha256", "seed", "fold", "keras_sha256")
    return {
        "schema": SCHEMA,
        "model": {
            "kind": subject.kind,
            "name": Path(model.path).absolute().name,  # of `.` too
            "sha256": model.sha256,
            "recipe": model.metadata.recipe,
            "labels": list(subject.labels),
            "decision": decision.kind,
            "thresholds": list(decision.thresholds),
            "frontend_sha256": spec.digest,
            "clip_s": spec.clip_s,
            "hop_s": spec.hop_s,
            "training": {name: training[name] for name in known if name in training},
        },
        "data": {
            "name": data,
            "part": part,
            "recordings": len(scored.files),
            "recordings_by_label": dict(sorted(truths.items())),
            "seconds": round(scored.seconds, 3),
            "clips": len(clips),
            "silent_clips": int(scored.silent.sum()),
            "unreadable": scored.unreadable,
            "unknown_labels": scored.unknown,
        },
        "warnings": list(warnings),
        "clips": {
            **metrics.measures(clips, seed, rounds),
            "confusion": metrics.confusion(scored.clips),
        },
        "files": {**metrics.measures(scored.files, seed, rounds), "answers": answers},
        "calibration": _calibration(clips, fitted, decision.kind),
        "by_length": [
            *({"seconds": length, **_sounding(found, seed, rounds)} for length, found in scored.lengths.items()),
            {
                "seconds": None,
                "silent": scored.files.answers.count(SILENCE),
                **metrics.accuracies(scored.files, seed, rounds),
            },
        ],
        "by_snr": [
            {
                "noise": noise,
                "snr_db": None if math.isinf(snr) else snr,
                "clips": metrics.accuracies(of_clips, seed, rounds),
                "files": metrics.accuracies(of_files, seed, rounds),
            }
            for (noise, snr), (of_clips, of_files) in scored.snrs.items()
        ],
        "mistakes": [
            {
                "name": mistake.name,
                "start_s": mistake.start_s,
                "truth": mistake.truth,
                "answer": mistake.answer,
                "scores": mistake.scores,
                "log_loss": mistake.log_loss,
            }
            for mistake in scored.mistakes
        ],
        "settings": {"seed": seed, "bootstrap_rounds": rounds, "bins": calibration.BINS},
        "versions": {name: version(name) for name in SOFTWARE},
    }


def _sounding(pieces: Answers, seed: int, rounds: int) -> dict[str, Any]:
    """How many pieces are silent, and the accuracies of the others."""
    silent = np.array([answer == SILENCE for answer in pieces.answers], bool)
    return {"silent": int(silent.sum()), **metrics.accuracies(pieces.part(~silent), seed, rounds)}


def _calibration(clips: Answers, fitted: Fitted, decision: str) -> dict[str, Any]:
    """Of clips: log loss, expected calibration error and reliability curves, as they are and at the fitted temperature."""
    asked = clips.part(clips.targets.any(axis=1)) if decision == "exclusive" else clips
    temperature, what = None, fitted.what
    if fitted.answers is not None:
        temperature = calibration.fit_temperature(fitted.answers.scores, fitted.answers.targets, decision)
        if temperature is None:
            what = f"none can be told where no clip is got wrong, {fitted.what}"

    def of(scores: Any) -> dict[str, Any]:
        asked_of = calibration.questions(scores, asked.targets, asked.labels, decision)
        curves = {name: calibration.reliability(*question) for name, question in asked_of.items()}
        errors = [calibration.expected_calibration_error(curve) for curve in curves.values()]
        return {
            "log_loss": float(calibration.log_loss(scores, asked.targets, decision).mean()),
            "expected_calibration_error": float(np.mean(errors)),
            "curves": curves,
        }

    if not len(asked):
        return {"fitted_on": None, "temperature": None, "as_is": None, "tempered": None}
    return {
        "fitted_on": what,
        "temperature": temperature,
        "as_is": of(asked.scores),
        "tempered": of(calibration.tempered(asked.scores, temperature, decision)) if temperature else None,
    }


def write(found: dict[str, Any], scored: Scored, out: Path) -> None:
    """Write report.json, report.md and the pictures of an evaluation into a folder."""
    (out / "report.json").write_text(json.dumps(found, indent=2) + "\n", encoding="ascii")  # any name, Unicode or not
    _draw(found, scored, out)
    (out / "report.md").write_text(markdown(found), encoding="utf-8", errors="backslashreplace")


def _draw(found: dict[str, Any], scored: Scored, out: Path) -> None:
    title = f"{found['model']['name']} on {found['data']['name']}"
    names = kinds_of_accuracy(found)
    as_is, after = found["calibration"]["as_is"], found["calibration"]["tempered"]
    kinds = {"as it is": as_is, f"temperature {found['calibration']['temperature'] or 1:.2f}": after}
    curves = {
        name: {kind: of["curves"][name] for kind, of in kinds.items() if of}
        for name in (as_is["curves"] if as_is else ())
    }
    report_plots.reliability(curves, title, out / "reliability.png")
    levels = {"clips": scored.clips.part(~scored.silent), "recordings": scored.files}
    areas = {
        level: {label: interval(row["roc_auc"], "{:.3f}") for label, row in found[key]["labels"].items()}
        for level, key in (("clips", "clips"), ("recordings", "files"))
    }
    report_plots.roc({level: metrics.roc(answers) for level, answers in levels.items()}, areas, title, out / "roc.png")
    tables = {"clips": found["clips"]["confusion"], "recordings": found["files"]["confusion"]}
    report_plots.confusion(tables, title, out / "confusion.png")
    report_plots.lengths(found["by_length"], names, found["model"]["clip_s"], title, out / "length.png")
    report_plots.snrs(found["by_snr"], names, title, out / "snr.png")
    (out / "mistakes.png").unlink(missing_ok=True)  # of an earlier evaluation
    if scored.mistakes:
        report_plots.mistakes(scored.mistakes, f"{title}: the clips got most wrong", out / "mistakes.png")
