"""Metrics of scores against labels, per clip and per recording, as functions of arrays without
input or output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.timeline import OTHER, SILENCE
from ms_train.datasets.clips import Clips
from ms_train.scores.outputs import with_logits

Float64 = NDArray[np.float64]

ROUNDS = 1000  # of the bootstrap


def predict(
    network: keras.Model, labels: tuple[str, ...], decision: str, features: Float32, batch_size: int = 64
) -> Float32:
    """Return the scores (n, labels) of features (n, ...): probabilities in label order, as the
    exported model gives them.
    """
    _, scores = with_logits(network, labels, decision).predict(features, batch_size=batch_size, verbose=0)
    return np.asarray(scores, np.float32)


def accuracy(scores: Float32, clips: Clips) -> dict[str, Any]:
    """Return the share of clips and of recordings whose largest score is the correct label, and the
    wrong recordings.

    A recording's scores are the mean over its clips. Recordings with none of the labels are left
    out.
    """
    labelled = clips.targets.sum(axis=1) > 0
    clip_right = scores.argmax(axis=1)[labelled] == clips.targets.argmax(axis=1)[labelled]
    right, wrong = 0, []
    for index in np.unique(clips.recording[labelled]):
        mine = clips.recording == index
        if scores[mine].mean(axis=0).argmax() == clips.targets[mine][0].argmax():
            right += 1
        else:
            wrong.append(clips.names[index])
    files = right + len(wrong)
    return {
        "clips": int(labelled.sum()),
        "clip_accuracy": round(float(clip_right.mean()), 5),
        "files": files,
        "file_accuracy": round(right / files, 5),
        "wrong_files": wrong,
    }


@dataclass(frozen=True)
class Answers:
    """The answers of a model to n clips or n recordings, and the truth.

    `scores` (n, labels) are probabilities, `targets` (n, labels) are in {0, 1}. `answers` are n
    labels as `ms-edge classify` gives them (`speech`, `speech+music`, `other`, `silence` ...).
    `recording` (n,) is the index of each one's recording, over which intervals are computed.
    """

    scores: Float64
    targets: NDArray[np.bool_]
    answers: tuple[str, ...]
    recording: NDArray[np.int64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def part(self, chosen: NDArray[np.bool_]) -> Answers:
        """Return the chosen clips or recordings, (n,)."""
        answers = tuple(answer for answer, keep in zip(self.answers, chosen, strict=True) if keep)
        return Answers(self.scores[chosen], self.targets[chosen], answers, self.recording[chosen], self.labels)

    @property
    def truths(self) -> tuple[str, ...]:
        """The n correct labels, named as the runtime names its answers."""
        return tuple(name_of(row, self.labels) for row in self.targets)

    @property
    def given(self) -> NDArray[np.bool_]:
        """The labels that each answer holds, (n, labels): `speech+music` holds both, `other` and
        `silence` none.
        """
        rows = {answer: [label in answer.split("+") for label in self.labels] for answer in set(self.answers)}
        return np.array([rows[answer] for answer in self.answers], bool).reshape(len(self), len(self.labels))


def name_of(row: NDArray[np.bool_], labels: Sequence[str]) -> str:
    """Return the answer that holds these labels (labels,) and no other."""
    return "+".join(label for label, holds in zip(labels, row, strict=True) if holds) or OTHER


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval, low and high; all three are None where the number has no
    value.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Accuracies:
    """Two accuracies over `count` clips or recordings.

    `accuracy` is the share whose answer equals the truth. `largest_score_accuracy` is the share, of
    those with a true label, whose largest score is of a true label; it does not depend on
    thresholds.
    """

    count: int
    accuracy: Interval
    largest_score_accuracy: Interval


@dataclass(frozen=True)
class LabelMeasures:
    """How well one label is found: `count` of those where it is true, and the measures of its
    answers and scores.
    """

    count: int
    precision: Interval
    recall: Interval
    f1: Interval
    roc_auc: Interval


@dataclass(frozen=True)
class Confusion:
    """How often each truth (a row of `counts`) got each answer (a column)."""

    truths: list[str]
    answers: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Measures(Accuracies):
    """Accuracies, the measures of each label by its name, and the confusion of truths and answers."""

    labels: dict[str, LabelMeasures]
    confusion: Confusion


def measures(found: Answers, seed: int, rounds: int = ROUNDS) -> Measures:
    """Return the accuracies and, of each label, precision, recall, F1 and ROC-AUC, with 95 %
    intervals over recordings.

    For precision, recall and F1 the question is whether the answer holds the label; for ROC-AUC,
    whether the label's score is higher where the label is true. A value is None where its question
    cannot be asked: there is no ROC-AUC of one class only.
    """
    given, targets, accurate = found.given, found.targets, _accurate(found)
    roc_aucs = [weighted_roc_auc(*columns) for columns in zip(targets.T, found.scores.T, strict=True)]

    def of(weights: Float64) -> dict[str, float]:
        values = accurate(weights)
        for column, label in enumerate(found.labels):
            held, true = given[:, column], targets[:, column]
            answered, there, hits = (float(weights @ rows) for rows in (held, true, held & true))
            values |= {
                f"{label}/precision": _ratio(hits, answered),
                f"{label}/recall": _ratio(hits, there),
                f"{label}/f1": _ratio(2 * hits, answered + there),
                f"{label}/roc_auc": roc_aucs[column](weights),
            }
        return values

    intervals = bootstrap(of, found.recording, seed, rounds)
    labels = {
        label: LabelMeasures(
            int(targets[:, column].sum()),
            *(intervals[f"{label}/{name}"] for name in ("precision", "recall", "f1", "roc_auc")),
        )
        for column, label in enumerate(found.labels)
    }
    accuracies = intervals["accuracy"], intervals["largest_score_accuracy"]
    return Measures(len(found), *accuracies, labels, confusion(found))


def weighted_roc_auc(true: NDArray[np.bool_], scores: Float64) -> Callable[[Float64], float]:
    """Return the function that gives the ROC-AUC of scores (n,) for weights (n,).

    It is the share of pairs of one true and one false item in which the true one has the larger
    score; equal scores count as half (Hanley and McNeil 1982). Without such a pair it is NaN. The
    scores are sorted once for all weights: scikit-learn, which gives the same, sorts in each of the
    bootstrap's rounds, and that was half the time of `ms-train evaluate`.
    """
    values, rank = np.unique(scores, return_inverse=True)

    def of(weights: Float64) -> float:
        trues, falses = (np.bincount(rank, weights * rows, len(values)) for rows in (true, ~true))
        lower = np.cumsum(falses) - falses
        return _ratio(float(trues @ (lower + falses / 2)), float(trues.sum() * falses.sum()))

    return of


def _share(right: NDArray[np.bool_], weights: Float64) -> float:
    return _ratio(float(weights @ right), float(weights.sum()))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def bootstrap(
    of: Callable[[Float64], dict[str, float]], recording: NDArray[np.int64], seed: int, rounds: int = ROUNDS
) -> dict[str, Interval]:
    """Return each number that `of(weights)` returns, with its 95 % percentile interval.

    Recordings are resampled with replacement. `recording` (n,) is the index of each item's
    recording, `weights` (n,) the number of times it was drawn. The clips of a recording are drawn
    together, because they are not independent (the cluster bootstrap; Davison and Hinkley 1997,
    3.8). Rounds in which a number has no value, because no recording of a class was drawn, are left
    out of its interval.
    """
    # scipy.stats.bootstrap draws single items, and one NaN in a thousand rounds makes its interval
    # NaN.
    value = of(np.ones(len(recording)))
    groups, index = np.unique(recording, return_inverse=True)
    rng = np.random.default_rng(seed)
    even = np.full(len(groups), 1 / max(1, len(groups)))
    drawn = rng.multinomial(len(groups), even, size=rounds) if len(groups) else ()
    found = [of(times[index].astype(float)) for times in drawn]
    result = {}
    for name, number in value.items():
        numbers = np.array([one[name] for one in found])
        numbers = numbers[~np.isnan(numbers)]
        if np.isnan(number):
            result[name] = Interval(None, None, None)
            continue
        low, high = np.percentile(numbers, [2.5, 97.5]).tolist() if len(numbers) else (number, number)
        result[name] = Interval(number, low, high)
    return result


def accuracies(found: Answers, seed: int, rounds: int = ROUNDS) -> Accuracies:
    """Return only the two accuracies of `measures`, and the number of answers."""
    intervals = bootstrap(_accurate(found), found.recording, seed, rounds)
    return Accuracies(len(found), intervals["accuracy"], intervals["largest_score_accuracy"])


def _accurate(found: Answers) -> Callable[[Float64], dict[str, float]]:
    right = np.array([answer == truth for answer, truth in zip(found.answers, found.truths, strict=True)], bool)
    asked = found.targets.any(axis=1)
    largest = found.targets[np.arange(len(found)), found.scores.argmax(axis=1)]
    return lambda weights: {
        "accuracy": _share(right, weights),
        "largest_score_accuracy": _share(largest[asked], weights[asked]),
    }


def confusion(found: Answers) -> Confusion:
    """Count how often each truth got each answer.

    The rows are the truths that occur. The columns are these, the labels, and every other answer
    that was given, with `silence` last.
    """
    truths = sorted(set(found.truths), key=lambda name: _place(name, found.labels))
    answers = sorted({*truths, *found.labels, *found.answers}, key=lambda name: _place(name, found.labels))
    counts = np.zeros((len(truths), len(answers)), int)
    for truth, answer in zip(found.truths, found.answers, strict=True):
        counts[truths.index(truth), answers.index(answer)] += 1
    return Confusion(truths, answers, counts.tolist())


def _place(name: str, labels: tuple[str, ...]) -> tuple[int, int, str]:
    if name in labels:
        return 0, labels.index(name), name
    return {OTHER: 2, SILENCE: 3}.get(name, 1), 0, name


def roc(found: Answers) -> dict[str, tuple[Float64, Float64]]:
    """Return the false and the true positive rate by threshold, (points,) each, of each label.

    Labels that are never or always true have no curve.
    """
    from sklearn.metrics import roc_curve

    curves = {}
    for column, label in enumerate(found.labels):
        true = found.targets[:, column]
        if true.any() and not true.all():
            curves[label] = roc_curve(true, found.scores[:, column])[:2]
    return curves
