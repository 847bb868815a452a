"""Compute the numbers of an evaluation, and write the report with its pictures.

DIR: report.json (all numbers, schema `ms-train/evaluation-1`), report.md, reliability.png, roc.png,
confusion.png, length.png, snr.png, mistakes.png
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ms_edge.timeline import SILENCE
from ms_train.evaluation import report_plots
from ms_train.evaluation.markdown import interval, markdown
from ms_train.evaluation.results import (
    Calibrated,
    Calibration,
    DataFacts,
    Evaluation,
    FileAnswer,
    FileMeasures,
    LengthPoint,
    ModelFacts,
    NoisePoint,
    Settings,
)
from ms_train.evaluation.scoring import Scored
from ms_train.evaluation.subject import Subject
from ms_train.files import atomic_write
from ms_train.scores import calibration, metrics
from ms_train.scores.metrics import Answers

SOFTWARE = ("ms-edge", "numpy", "scipy", "scikit-learn", "soxr", "soundfile")
# What is reported of a model's training, where its file or its run folder says it.
TRAINING = ("dataset", "sources", "licences", "recordings", "data_sha256", "seed", "fold", "keras_sha256")


@dataclass(frozen=True)
class Fitted:
    """The answers that a temperature is fitted to, and what they are; None, and the reason, if
    there are none.
    """

    answers: Answers | None
    what: str


def numbers(
    subject: Subject, scored: Scored, fitted: Fitted, *, data: str, part: str, warnings: Sequence[str], seed: int
) -> Evaluation:
    """Return everything that is reported."""
    rounds, kind = metrics.ROUNDS, subject.decision.kind
    clips = scored.clips.part(~scored.silent)
    return Evaluation(
        model=_model_facts(subject),
        data=DataFacts(
            name=data,
            part=part,
            recordings=len(scored.files),
            recordings_by_label=dict(sorted(Counter(scored.files.truths).items())),
            seconds=round(scored.seconds, 3),
            clips=len(clips),
            silent_clips=int(scored.silent.sum()),
            unreadable=scored.unreadable,
            unknown_labels=scored.unknown,
        ),
        warnings=list(warnings),
        clips=replace(metrics.measures(clips, seed, rounds), confusion=metrics.confusion(scored.clips)),
        files=FileMeasures(**vars(metrics.measures(scored.files, seed, rounds)), answers=_answers(subject, scored)),
        calibration=_calibration(clips, fitted, kind),
        by_length=_by_length(scored, seed, rounds),
        by_snr=[
            NoisePoint(
                noise,
                None if math.isinf(snr_db) else snr_db,
                metrics.accuracies(of_clips, seed, rounds),
                metrics.accuracies(of_files, seed, rounds),
            )
            for (noise, snr_db), (of_clips, of_files) in scored.snrs.items()
        ],
        mistakes=[excerpt.mistake for excerpt in scored.mistakes],
        settings=Settings(seed, rounds, calibration.BINS),
        versions={name: version(name) for name in SOFTWARE},
    )


def _model_facts(subject: Subject) -> ModelFacts:
    model, spec, decision = subject.classifier.model, subject.classifier.spec, subject.decision
    return ModelFacts(
        kind=subject.kind,
        name=Path(model.path).absolute().name,  # of `.` too
        sha256=model.sha256,
        recipe=model.metadata.recipe,
        labels=list(subject.labels),
        decision=decision.kind,
        thresholds=list(decision.thresholds),
        frontend_sha256=spec.digest,
        clip_s=spec.clip_s,
        hop_s=spec.hop_s,
        training={name: subject.training[name] for name in TRAINING if name in subject.training},
    )


def _answers(subject: Subject, scored: Scored) -> list[FileAnswer]:
    files = scored.files
    rows = zip(files.recording.tolist(), files.truths, files.answers, files.scores.tolist(), strict=True)
    return [
        FileAnswer(scored.names[index], truth, answer, dict(zip(subject.labels, scores, strict=True)))
        for index, truth, answer, scores in rows
    ]


def _by_length(scored: Scored, seed: int, rounds: int) -> list[LengthPoint]:
    """Return the accuracies over the pieces of each length that are not silent, and over whole
    recordings.
    """
    points = []
    for length_s, pieces in scored.lengths.items():
        silent: NDArray[np.bool_] = np.array([answer == SILENCE for answer in pieces.answers], bool)
        found = metrics.accuracies(pieces.part(~silent), seed, rounds)
        points.append(LengthPoint(length_s, int(silent.sum()), found))
    silent_files = scored.files.answers.count(SILENCE)
    return [*points, LengthPoint(None, silent_files, metrics.accuracies(scored.files, seed, rounds))]


def _calibration(clips: Answers, fitted: Fitted, decision: str) -> Calibration:
    """Return the calibration of the clips' scores as they are and at the fitted temperature."""
    asked = clips.part(np.asarray(clips.targets.any(axis=1))) if decision == "exclusive" else clips
    temperature, what = None, fitted.what
    if fitted.answers is not None:
        temperature = calibration.fit_temperature(fitted.answers.scores, fitted.answers.targets, decision)
        if temperature is None:
            what = f"none can be told where no clip is got wrong, {fitted.what}"

    def of(scores: calibration.Float64) -> Calibrated:
        asked_of = calibration.questions(scores, asked.targets, asked.labels, decision)
        curves = {name: calibration.reliability(*question) for name, question in asked_of.items()}
        errors = [calibration.expected_calibration_error(curve) for curve in curves.values()]
        log_loss = float(calibration.log_loss(scores, asked.targets, decision).mean())
        return Calibrated(log_loss, float(np.mean(errors)), curves)

    if not len(asked):
        return Calibration(None, None, None, None)
    tempered = of(calibration.tempered(asked.scores, temperature, decision)) if temperature else None
    return Calibration(what, temperature, of(asked.scores), tempered)


FILES = ("report.md", *(f"{name}.png" for name in ("reliability", "roc", "confusion", "length", "snr", "mistakes")))


def write(found: Evaluation, scored: Scored, out: Path) -> None:
    """Write report.json, report.md and the pictures into a folder."""
    # ASCII: a file name may be no Unicode.
    with atomic_write(out / "report.json") as partial:  # first: by it, the rest is known as a report
        partial.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="ascii")
    _draw(found, scored, out)
    (out / "report.md").write_text(markdown(found), encoding="utf-8", errors="backslashreplace")


def _draw(found: Evaluation, scored: Scored, out: Path) -> None:
    title = f"{found.model.name} on {found.data.name}"
    calibrated, decision = found.calibration, found.model.decision
    kinds = {"as it is": calibrated.as_is, f"temperature {calibrated.temperature or 1:.2f}": calibrated.tempered}
    curves = {
        name: {kind: of.curves[name] for kind, of in kinds.items() if of}
        for name in (calibrated.as_is.curves if calibrated.as_is else ())
    }
    report_plots.reliability(curves, title, out / "reliability.png")
    levels = {"clips": scored.clips.part(~scored.silent), "recordings": scored.files}
    areas = {
        level: {label: interval(row.roc_auc, "{:.3f}") for label, row in measures.labels.items()}
        for level, measures in (("clips", found.clips), ("recordings", found.files))
    }
    report_plots.roc({level: metrics.roc(answers) for level, answers in levels.items()}, areas, title, out / "roc.png")
    tables = {"clips": found.clips.confusion, "recordings": found.files.confusion}
    report_plots.confusion(tables, title, out / "confusion.png")
    report_plots.lengths(found.by_length, decision, found.model.clip_s, title, out / "length.png")
    report_plots.snrs(found.by_snr, decision, title, out / "snr.png")
    (out / "mistakes.png").unlink(missing_ok=True)  # of an earlier evaluation
    if scored.mistakes:
        report_plots.mistakes(scored.mistakes, f"{title}: the clips got most wrong", out / "mistakes.png")
