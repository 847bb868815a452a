"""From which probability on each of several independent labels is said to be there: chosen on validation data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ms_train.augment.pool import Pool
from ms_train.augment.signals import Float32, mix
from ms_train.clips import target
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.metrics import predict

WINDOWS = 6_000
BATCH = 100
WORTH = 0.01  # of F1: what leaving a half must bring
MIXTURE_DB = (0.0, 10.0)  # the first label's sound over the second's: both are plainly there


def chosen(model: keras.Model, pool: Pool, layer: FrontEndLayer, seed: int) -> dict[str, Any]:
    """Of each label the threshold that is best over random windows of the validation recordings (`best_threshold`), and its F1.

    Equally many windows of each label alone, of two mixed, and of none. They pass no channel, and lie over no noise.
    """
    drawn = [_draw(pool, np.random.default_rng([seed, 2, number])) for number in range(WINDOWS)]
    features = np.concatenate(
        [
            clip_features(layer, np.stack([window for window, _ in drawn[at : at + BATCH]]))
            for at in range(0, WINDOWS, BATCH)
        ]
    )
    targets = np.stack([rows for _, rows in drawn]) > 0.5
    scores = predict(model, pool.labels, "independent", features)
    found = [best_threshold(scores[:, column], targets[:, column]) for column in range(len(pool.labels))]
    return {
        "windows": len(features),
        "thresholds": [round(threshold, 3) for threshold, _ in found],
        "f1": [round(f1, 4) for _, f1 in found],
    }


def _draw(pool: Pool, rng: np.random.Generator) -> tuple[Float32, Float32]:
    labels, length = pool.labels, pool.spec.clip_samples
    kind = int(rng.integers(len(labels) + 2))
    if kind < len(labels):
        return pool.window(labels[kind], length, rng), target(labels[kind], labels)
    if kind == len(labels):
        return pool.neither(length, rng), target(None, labels)
    two = [labels[index] for index in sorted(rng.permutation(len(labels))[:2])]
    window = mix(*(pool.window(label, length, rng) for label in two), rng.uniform(*MIXTURE_DB))
    return window, sum((target(label, labels) for label in two), target(None, labels))


def best_threshold(scores: Float32, true: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold on scores (n,) nearest to a half whose F1 against truths (n,) is within WORTH of the best, and its F1.

    Halfway to the score below it. Validation recordings are of few sources: a difference of less does not hold for others.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(true, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
    below = np.concatenate([[0.0], thresholds[:-1]])
    # Between two scores every threshold gives the same answers: the one in the middle, or a half where that lies there.
    places = np.where((below < 0.5) & (thresholds >= 0.5), 0.5, (thresholds + below) / 2)
    good = np.flatnonzero(f1 >= f1.max() - WORTH)
    best = good[np.abs(places[good] - 0.5).argmin()]
    return float(places[best]), float(f1[best])
