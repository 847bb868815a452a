"""Calibration of probabilities: reliability curve, expected calibration error and temperature, as
functions of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax

from ms_edge.timeline import CLOSEST_TO_CERTAIN

Float64 = NDArray[np.float64]

BINS = 10  # of the reliability curve, equally wide
TEMPERATURES = (0.05, 20.0)  # the range that is searched


@dataclass(frozen=True)
class Curve:
    """A reliability curve: mean probability, share that came true and count of each bin that is not
    empty.
    """

    probability: list[float]
    share: list[float]
    count: list[int]


def questions(
    scores: Float64, targets: NDArray[np.bool_], labels: tuple[str, ...], decision: str
) -> dict[str, tuple[Float64, NDArray[np.bool_]]]:
    """Return probabilities (n,) and whether each came true (n,), for each question whose
    calibration is measured.

    With `exclusive` labels there is one question: is the largest score that of the correct label
    (Guo et al. 2017)? With `independent` labels there is one question for each label.
    """
    if decision == "exclusive":
        largest = scores.argmax(axis=1)
        rows = np.arange(len(scores))
        return {"largest score": (scores[rows, largest], targets[rows, largest])}
    return {label: (scores[:, column], targets[:, column]) for column, label in enumerate(labels)}


def reliability(probabilities: Float64, true: NDArray[np.bool_], bins: int = BINS) -> Curve:
    """Return the reliability curve over `bins` equally wide bins of probability."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    some = counts > 0
    mean = np.bincount(index, probabilities, bins)[some] / counts[some]
    share = np.bincount(index, true.astype(float), bins)[some] / counts[some]
    return Curve(mean.tolist(), share.tolist(), counts[some].tolist())


def expected_calibration_error(curve: Curve) -> float:
    """Return the mean distance between probability and share over a curve, weighted by count
    (Naeini et al. 2015).
    """
    probability, share, count = (np.array(of, float) for of in (curve.probability, curve.share, curve.count))
    return float(np.average(np.abs(probability - share), weights=count))


def log_loss(scores: Float64, targets: NDArray[np.bool_], decision: str) -> Float64:
    """Return the negative log-likelihood of the truth in nats, (n,).

    With `exclusive` labels it is that of the true label, with `independent` labels the mean over
    the labels.
    """
    p = np.clip(scores, CLOSEST_TO_CERTAIN, 1 - CLOSEST_TO_CERTAIN)
    if decision == "exclusive":
        return np.asarray(-np.log(p[np.arange(len(p)), targets.argmax(axis=1)]))
    return np.asarray(-np.where(targets, np.log(p), np.log1p(-p)).mean(axis=1))


def tempered(scores: Float64, temperature: float, decision: str) -> Float64:
    """Return probabilities (n, labels) with their logits divided by a temperature: a temperature
    over 1 makes them less extreme.
    """
    p = np.clip(scores.astype(np.float64), CLOSEST_TO_CERTAIN, 1 - CLOSEST_TO_CERTAIN)
    if decision == "independent":
        return np.asarray(expit(logit(p) / temperature))
    return np.asarray(softmax(np.log(p) / temperature, axis=1))


def fit_temperature(scores: Float64, targets: NDArray[np.bool_], decision: str) -> float | None:
    """Return the temperature between TEMPERATURES that minimises the log loss of (n, labels) scores
    (Guo et al. 2017).

    `exclusive` rows without a true label are left out. Return None if every score is on the correct
    side, or if there are no scores: the loss then decreases with the temperature without limit, and
    no temperature is best.
    """
    asked = targets.any(axis=1) if decision == "exclusive" else np.ones(len(targets), bool)
    scores, targets = scores[asked], targets[asked]
    right = (
        (scores == scores.max(axis=1, keepdims=True)) == targets
        if decision == "exclusive"
        else (scores >= 0.5) == targets
    )
    if right.all():
        return None

    def loss(log_temperature: float) -> float:
        return float(log_loss(tempered(scores, np.exp(log_temperature), decision), targets, decision).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-4})
    # The result must not be worse than a temperature of 1, not even by the tolerance of the search.
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0
