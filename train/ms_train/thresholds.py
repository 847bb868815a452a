"""From which probability on each of several independent labels is said to be there: chosen on validation data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ms_train.augment import Float32, Pool, random_batch
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.metrics import predict

WINDOWS = 6_000
BATCH = 100


def chosen(model: keras.Model, pool: Pool, layer: FrontEndLayer, seed: int) -> dict[str, Any]:
    """Of each label the threshold with the largest F1 over random windows of the validation recordings, and that F1.

    The windows are drawn as those to train on are (`Pool.draw`: single labels, mixtures of two, none), but pass no channel.
    """
    batches = [
        random_batch(pool, lambda window, rng, rate: window, BATCH, np.random.default_rng([seed, 2, number]))
        for number in range(WINDOWS // BATCH)
    ]
    features = np.concatenate([clip_features(layer, samples) for samples, _ in batches])
    targets = np.concatenate([rows for _, rows in batches]) > 0.5
    scores = predict(model, pool.labels, "independent", features)
    found = [best_threshold(scores[:, column], targets[:, column]) for column in range(len(pool.labels))]
    return {
        "windows": len(features),
        "thresholds": [round(threshold, 3) for threshold, _ in found],
        "f1": [round(f1, 4) for _, f1 in found],
    }


def best_threshold(scores: Float32, true: NDArray[np.bool_]) -> tuple[float, float]:
    """The threshold on scores (n,) with the largest F1 against truths (n,), and that F1: halfway to the score below it."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(true, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = thresholds[best - 1] if best else 0.0
    return float((thresholds[best] + below) / 2), float(f1[best])
