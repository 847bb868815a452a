"""Thresholds of independent labels: the best on validation windows, and what comes of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from ms_edge.metadata import Decision
from ms_edge.spec import FrontEndSpec
from ms_train.augment.pool import Pool
from ms_train.datasets import Recording
from ms_train.frontend import FrontEndLayer
from ms_train.runs import decision_of
from ms_train.thresholds import WINDOWS, best_threshold, chosen

SPEC = FrontEndSpec(8_000, 256, 128, 256, clip_s=0.5, hop_s=0.5)
LABELS = ("speech", "music")


@pytest.mark.parametrize(
    ("scores", "true", "threshold", "f1"),
    [
        ((0.1, 0.3, 0.8, 0.9), (0, 0, 1, 1), 0.5, 1.0),  # a half, where it is as good as any
        ((0.1, 0.6, 0.8, 0.9), (0, 0, 1, 1), 0.7, 1.0),  # in the middle of the gap
        ((0.2, 0.4, 0.6, 0.8), (1, 0, 1, 1), 0.1, 6 / 7),  # one wrong is better than one missed
        ((0.2, 0.8), (1, 1), 0.1, 1.0),
        ((0.3, *[0.6] * 99, 0.9), (1, *[0] * 99, 1), 0.75, 2 / 3),  # 99 wrong are not
        (
            (0.45, 0.2, *[0.9] * 99),
            (1, 0, *[1] * 99),
            0.5,
            198 / 199,
        ),  # what is worth less than a point is not gone for
    ],
)
def test_the_best_threshold_is_the_nearest_to_a_half_of_the_good_ones(scores, true, threshold, f1):
    found = best_threshold(np.array(scores, np.float32), np.array(true, bool))
    assert found == pytest.approx((threshold, f1), abs=1e-6)


def test_thresholds_are_where_a_network_parts_the_labels():
    """Speech is a tone at 1,000 Hz, music one at 2,000; the network's sigmoids are too sure of both by far."""

    def tone(hz: int) -> np.ndarray:
        return (0.3 * np.sin(2 * np.pi * hz * np.arange(40_000) / 8_000)).astype(np.float32)

    recordings = [
        (Recording(label, label, label, "", lambda rate: np.zeros(1)), tone(hz))
        for label, hz in (("speech", 1_000), ("music", 2_000))
    ]
    pool = Pool(recordings, LABELS, "independent", SPEC)
    inputs = keras.Input(SPEC.feature_shape)
    energy = keras.layers.GlobalAveragePooling1D()(keras.layers.Permute((2, 1))(inputs))
    dense = keras.layers.Dense(2, activation="sigmoid")
    model = keras.Model(inputs, dense(energy))
    kernel = np.zeros((SPEC.bins, 2), np.float32)
    kernel[1_000 // 31, 0] = kernel[2_000 // 31, 1] = 1.0
    dense.set_weights([kernel, np.array([2.0, 2.0], np.float32)])  # nothing at all scores 0.88
    found = chosen(model, pool, FrontEndLayer(SPEC), 0)
    assert found["windows"] == WINDOWS
    assert min(found["thresholds"]) > 0.9
    assert min(found["f1"]) > 0.97
    assert found == chosen(model, pool, FrontEndLayer(SPEC), 0)


def test_a_run_is_served_with_its_thresholds():
    assert decision_of("independent", LABELS, [0.6, 0.4]) == Decision("independent", (0.6, 0.4))
    assert decision_of("independent", LABELS) == Decision("independent", (0.5, 0.5))
    assert decision_of("exclusive", LABELS) == Decision("exclusive", ())
