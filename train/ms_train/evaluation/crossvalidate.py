"""`ms-train fit --folds K`: a training for each fold of the recordings, each tested on what it never saw.

OUT/fold-1 ... fold-K are run folders of `ms-train fit --fold I/K`; OUT/report.json and report.md say what they reach.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ms_edge.errors import UsageError
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.splits import split
from ms_train.errors import DataError
from ms_train.evaluation.markdown import HOW_RIGHT, grid, interval, kinds_of_accuracy, measured
from ms_train.evaluation.scoring import score_recordings
from ms_train.evaluation.subject import Subject
from ms_train.scores import metrics
from ms_train.scores.metrics import Answers
from ms_train.training.runs import CompleteError

SCHEMA = "ms-train/folds-1"


def crossvalidate(
    fit: Callable[[Path, tuple[int, int], bool], Any],
    dataset: Dataset,
    out: Path,
    folds: int,
    *,
    resume: bool,
    seed: int,
) -> dict[str, Any]:
    """Train and test every fold, and write the report; returns its numbers.

    `fit(folder, (i, folds), resume)` trains one. With `resume` folds that are complete are not trained again, and one that was
    interrupted goes on. Every fold is tested as `ms-train evaluate` does, per clip of the runtime's and per recording, so each
    recording is answered once, by a model that never saw it. Raises MsEdgeError where the data or the folder cannot be used.
    """
    if not resume and out.exists() and any(not path.is_dir() for path in out.rglob("*")):
        raise UsageError(f"{out}: already holds files; go on with --resume, or give --out a new folder.")
    tf.get_logger().setLevel("ERROR")  # it warns of a new graph for each network: there is one
    found, clips, files, unreadable = [], [], [], {}
    for number in range(1, folds + 1):
        folder = out / f"fold-{number}"
        with contextlib.suppress(CompleteError):
            fit(folder, (number, folds), resume)
        subject = Subject.load(folder)
        held_out = split(dataset, seed, (number, folds)).test
        _require_same(subject, held_out, folder)
        scored = score_recordings(subject, held_out, f"testing fold {number} of {folds}", conditions=False)
        clips.append(scored.clips.part(~scored.silent))
        files.append(scored.files)
        unreadable |= scored.unreadable
        found.append(
            {
                "fold": number,
                "clips": _of_fold(clips[-1]),
                "files": _of_fold(files[-1]),
                "wrong": [
                    scored.names[index]
                    for index, answer, truth in zip(
                        scored.files.recording, scored.files.answers, scored.files.truths, strict=True
                    )
                    if answer != truth
                ],
            }
        )
        keras.backend.clear_session()
    pooled_clips, pooled_files = _pooled(clips), _pooled(files)
    numbers = {
        "schema": SCHEMA,
        "data": {
            "name": dataset.name,
            "recordings": len(pooled_files),
            "clips": len(pooled_clips),
            "unreadable": unreadable,
        },
        "model": {
            "recipe": subject.classifier.model.metadata.recipe,
            "labels": list(subject.labels),
            "decision": subject.decision.kind,
        },
        "seed": seed,
        "folds": found,
        "mean": _over(found, np.mean),
        "standard_deviation": _over(found, lambda values: np.std(values, ddof=1)),
        "clips": metrics.measures(pooled_clips, seed, metrics.ROUNDS),
        "files": metrics.measures(pooled_files, seed, metrics.ROUNDS),
    }
    (out / "report.json").write_text(json.dumps(numbers, indent=2) + "\n", encoding="ascii")
    (out / "report.md").write_text(markdown(numbers), encoding="utf-8", errors="backslashreplace")
    return numbers


def _require_same(subject: Subject, held_out: Sequence[Recording], folder: Path) -> None:
    """Refuse a complete fold of other recordings: some that it is to be tested on would have trained it, or another fold's."""
    tested = {digest for digest, part in subject.parts.items() if part == "test"}
    parts = {subject.part_of(recording) for recording in held_out}  # None: could not be read
    if not parts <= {"test", None} or not tested <= {recording.sha256 for recording in held_out}:
        raise DataError(
            "bad-data", f"{folder}: the recordings have changed since it was trained; give --out a new folder."
        )


def _of_fold(found: Answers) -> dict[str, float | None]:
    values = metrics.accuracies(found, 0, rounds=0)
    return {
        "count": values["count"],
        **{kind: values[kind]["value"] for kind in ("accuracy", "largest_score_accuracy")},
    }


def _over(found: Sequence[dict[str, Any]], of: Callable[[list[float]], Any]) -> dict[str, dict[str, float | None]]:
    """Over the folds that have a value: one tested on silence alone has none."""

    def over(level: str, kind: str) -> float | None:
        values = [fold[level][kind] for fold in found if fold[level][kind] is not None]
        return float(of(values)) if len(values) > 1 else None

    return {
        level: {kind: over(level, kind) for kind in ("accuracy", "largest_score_accuracy")}
        for level in ("clips", "files")
    }


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _pooled(folds: Sequence[Answers]) -> Answers:
    """All folds' answers together; no recording is in two."""
    firsts = np.cumsum([0, *(int(fold.recording.max(initial=-1)) + 1 for fold in folds)])
    return Answers(
        np.concatenate([fold.scores for fold in folds]),
        np.concatenate([fold.targets for fold in folds]),
        tuple(answer for fold in folds for answer in fold.answers),
        np.concatenate([fold.recording + first for fold, first in zip(folds, firsts, strict=False)]),
        folds[0].labels,
    )


def table(numbers: dict[str, Any]) -> str:
    """A line a fold, their mean and standard deviation, and all recordings together."""
    lines = [f"{'':<8}{'clips':>24}{'recordings':>26}"]
    for fold in numbers["folds"]:
        clips, files = (_percent(fold[level]["accuracy"]) for level in ("clips", "files"))
        lines.append(f"fold {fold['fold']:<3}{clips:>24}{files:>26}")
    for key, name in (("mean", "mean"), ("standard_deviation", "std")):
        clips, files = (_percent(numbers[key][level]["accuracy"]) for level in ("clips", "files"))
        lines.append(f"{name:<8}{clips:>24}{files:>26}")
    lines.append(f"{'all':<8}{interval(numbers['clips']['accuracy']):>24}{interval(numbers['files']['accuracy']):>26}")
    return "\n".join(lines)


def markdown(numbers: dict[str, Any]) -> str:
    """The report."""
    model, data, kinds = numbers["model"], numbers["data"], kinds_of_accuracy(numbers)
    levels = (("clips", "clips"), ("files", "recordings"))
    per_fold = [
        [str(fold["fold"]), *(f"{fold[level]['count']:,}" for level, _ in levels),
         *(_percent(fold[level][kind]) for level, _ in levels for kind in kinds),
         ", ".join(fold["wrong"]) or "-"]
        for fold in numbers["folds"]
    ]  # fmt: skip
    for key, name in (("mean", "mean"), ("standard_deviation", "standard deviation")):
        cells = (_percent(numbers[key][level][kind]) for level, _ in levels for kind in kinds)
        per_fold.append([name, "", "", *cells, ""])
    heads = (f"{name}: {kind}" for _, name in levels for kind in kinds.values())
    parts = [
        f"# {model['recipe']} on {data['name']}, {len(numbers['folds'])} folds",
        f"{data['recordings']:,} recordings, {data['clips']:,} clips; {len(data['unreadable'])} recordings could not be read. Seed "
        f"{numbers['seed']}. Each fold was trained anew and tested on recordings that it neither trained nor stopped on.",
        grid(("fold", "clips", "recordings", *heads, "recordings got wrong"), per_fold),
        "## All folds together",
        HOW_RIGHT[model["decision"]],
        *measured(numbers),
    ]
    return "\n\n".join(parts) + "\n"
