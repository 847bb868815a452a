"""`ms-train fit --folds K`: train once for each fold of the recordings, and test each network on
its held-out fold.

OUT/fold-1 ... fold-K are run folders of `ms-train fit --fold I/K`. OUT/report.json and
OUT/report.md hold the results.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ms_edge.errors import UsageError
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.datasets.splits import split
from ms_train.errors import DataError
from ms_train.evaluation.markdown import EXACT, HOW_RIGHT, LARGEST, grid, interval, measured
from ms_train.evaluation.scoring import score_recordings
from ms_train.evaluation.subject import Subject
from ms_train.scores import metrics
from ms_train.scores.metrics import Answers, Measures
from ms_train.tables import text_table
from ms_train.training.runs import CompleteError

SCHEMA = "ms-train/folds-1"


@dataclass(frozen=True)
class Shares:
    """Two accuracies as in `ms_train.scores.metrics.Accuracies`, without intervals."""

    accuracy: float | None
    largest_score_accuracy: float | None


@dataclass(frozen=True)
class Levels:
    """Accuracies per clip and per recording."""

    clips: Shares
    files: Shares


@dataclass(frozen=True)
class Tested:
    """The accuracies of one fold over `count` clips or recordings."""

    count: int
    accuracy: float | None
    largest_score_accuracy: float | None


@dataclass(frozen=True)
class Fold:
    """The results of one fold, and the names of the recordings with a wrong answer."""

    fold: int
    clips: Tested
    files: Tested
    wrong: list[str]


@dataclass(frozen=True)
class FoldsData:
    """The recordings of all folds; `unreadable` holds the reason by name."""

    name: str
    recordings: int
    clips: int
    unreadable: dict[str, str]


@dataclass(frozen=True)
class FoldsModel:
    """What was trained in each fold."""

    recipe: str
    labels: list[str]
    decision: str


@dataclass(frozen=True)
class Folds:
    """All numbers of a cross-validation; `clips` and `files` are over the answers of all folds
    together.
    """

    data: FoldsData
    model: FoldsModel
    seed: int
    folds: list[Fold]
    mean: Levels
    standard_deviation: Levels
    clips: Measures
    files: Measures

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return {"schema": SCHEMA, **asdict(self)}


def crossvalidate(
    fit: Callable[[Path, tuple[int, int], bool], Any],
    dataset: Dataset,
    out: Path,
    folds: int,
    *,
    resume: bool,
    seed: int,
) -> Folds:
    """Train and test every fold, write the report, and return its numbers.

    `fit(folder, (i, folds), resume)` trains one fold. With `resume`, complete folds are not trained
    again, and an interrupted one continues. Every fold is tested as `ms-train evaluate` does it,
    per clip of the runtime and per recording. Each recording is therefore answered once, by a model
    that was not trained on it. Raises MsEdgeError if the data or the folder cannot be used.
    """
    if not resume and out.exists() and any(not path.is_dir() for path in out.rglob("*")):
        raise UsageError(f"{out}: already holds files; go on with --resume, or give --out a new folder.")
    tf.get_logger().setLevel("ERROR")  # it warns of a new graph for each network: there is one
    found: list[Fold] = []
    clips: list[Answers] = []
    files: list[Answers] = []
    unreadable: dict[str, str] = {}
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
        rows = zip(scored.files.recording, scored.files.answers, scored.files.truths, strict=True)
        wrong = [scored.names[index] for index, answer, truth in rows if answer != truth]
        found.append(Fold(number, _of_fold(clips[-1]), _of_fold(files[-1]), wrong))
        keras.backend.clear_session()
    pooled_clips, pooled_files = _pooled(clips), _pooled(files)
    numbers = Folds(
        data=FoldsData(dataset.name, len(pooled_files), len(pooled_clips), unreadable),
        model=FoldsModel(subject.classifier.model.metadata.recipe, list(subject.labels), subject.decision.kind),
        seed=seed,
        folds=found,
        mean=_over(found, np.mean),
        standard_deviation=_over(found, lambda values: np.std(values, ddof=1)),
        clips=metrics.measures(pooled_clips, seed, metrics.ROUNDS),
        files=metrics.measures(pooled_files, seed, metrics.ROUNDS),
    )
    (out / "report.json").write_text(json.dumps(numbers.to_dict(), indent=2) + "\n", encoding="ascii")
    (out / "report.md").write_text(markdown(numbers), encoding="utf-8", errors="backslashreplace")
    return numbers


def _require_same(subject: Subject, held_out: Sequence[Recording], folder: Path) -> None:
    """Refuse a complete fold whose run was trained or tested on other recordings than this fold
    has.
    """
    tested = {digest for digest, part in subject.parts.items() if part == "test"}
    parts = {subject.part_of(recording) for recording in held_out}  # None: could not be read
    if not parts <= {"test", None} or not tested <= {recording.sha256 for recording in held_out}:
        raise DataError(
            "bad-data", f"{folder}: the recordings have changed since it was trained; give --out a new folder."
        )


def _of_fold(found: Answers) -> Tested:
    values = metrics.accuracies(found, 0, rounds=0)
    return Tested(values.count, values.accuracy.value, values.largest_score_accuracy.value)


def _over(found: Sequence[Fold], of: Callable[[list[float]], Any]) -> Levels:
    """Return a statistic over the folds that have a value: a fold tested on silence alone has none."""

    def over(shares: Sequence[float | None]) -> float | None:
        values = [share for share in shares if share is not None]
        return float(of(values)) if len(values) > 1 else None

    def level(tested: Sequence[Tested]) -> Shares:
        return Shares(over([one.accuracy for one in tested]), over([one.largest_score_accuracy for one in tested]))

    return Levels(level([fold.clips for fold in found]), level([fold.files for fold in found]))


def _by_heading(found: Shares | Tested, decision: str) -> dict[str, float | None]:
    """Return the accuracies to show by their headings; with exclusive labels both are the same, and
    one is shown.
    """
    shown = {EXACT: found.accuracy}
    return shown if decision == "exclusive" else shown | {LARGEST: found.largest_score_accuracy}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _pooled(folds: Sequence[Answers]) -> Answers:
    """Return the answers of all folds together; no recording is in two folds."""
    firsts = np.cumsum([0, *(int(fold.recording.max(initial=-1)) + 1 for fold in folds)])
    return Answers(
        np.concatenate([fold.scores for fold in folds]),
        np.concatenate([fold.targets for fold in folds]),
        tuple(answer for fold in folds for answer in fold.answers),
        np.concatenate([fold.recording + first for fold, first in zip(folds, firsts, strict=False)]),
        folds[0].labels,
    )


def table(numbers: Folds) -> str:
    """Return a line for each fold, for their mean and standard deviation, and for all recordings
    together.
    """
    rows = [("", "clips", "recordings")]
    for fold in numbers.folds:
        rows.append((f"fold {fold.fold}", _percent(fold.clips.accuracy), _percent(fold.files.accuracy)))
    for name, levels in (("mean", numbers.mean), ("std", numbers.standard_deviation)):
        rows.append((name, _percent(levels.clips.accuracy), _percent(levels.files.accuracy)))
    return text_table([*rows, ("all", interval(numbers.clips.accuracy), interval(numbers.files.accuracy))])


def markdown(numbers: Folds) -> str:
    """Return the report."""
    model, data, decision = numbers.model, numbers.data, numbers.model.decision

    def cells(clips: Shares | Tested, files: Shares | Tested) -> list[str]:
        return [_percent(share) for level in (clips, files) for share in _by_heading(level, decision).values()]

    per_fold = [
        [
            str(fold.fold),
            f"{fold.clips.count:,}",
            f"{fold.files.count:,}",
            *cells(fold.clips, fold.files),
            ", ".join(fold.wrong) or "-",
        ]
        for fold in numbers.folds
    ]
    for name, levels in (("mean", numbers.mean), ("standard deviation", numbers.standard_deviation)):
        per_fold.append([name, "", "", *cells(levels.clips, levels.files), ""])
    kinds = list(_by_heading(numbers.mean.clips, decision))
    heads = (f"{level}: {kind}" for level in ("clips", "recordings") for kind in kinds)
    parts = [
        f"# {model.recipe} on {data.name}, {len(numbers.folds)} folds",
        f"{data.recordings:,} recordings, {data.clips:,} clips; {len(data.unreadable)} recordings could not be read. Seed "
        f"{numbers.seed}. Each fold was trained anew and tested on recordings that it neither trained nor stopped on.",
        grid(("fold", "clips", "recordings", *heads, "recordings got wrong"), per_fold),
        "## All folds together",
        HOW_RIGHT[decision],
        *measured(numbers.clips, numbers.files, decision),
    ]
    return "\n\n".join(parts) + "\n"
