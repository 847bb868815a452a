"""The golden vector: one signal every machine can make to the bit, and what a model answers to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.frontend import model_input
from ms_edge.features.spec import FEATURES
from ms_edge.model.session import Model
from ms_edge.selftest.deviation import Deviation, deviation


def golden_signal(seed: int, length: int) -> Float32:
    """`length` samples in [-0.5, 0.5) from an integer recurrence: no library's random numbers, no floating point.

    x[i + 1] = (1664525 x[i] + 1013904223) mod 2**32 (Numerical Recipes, 3rd ed., 7.1), x[0] = seed. Samples
    come from x[1] on: the signed upper 16 bits over 65,536, every other 1,024 of them (the first too) at a sixteenth, so
    that loud and quiet frames are both in it.
    """
    samples = np.empty(length, np.float32)
    state = seed
    for i in range(length):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        value = (state >> 16) - 32768
        samples[i] = value / (65536 if (i >> 10) & 1 else 65536 * 16)
    return samples


def golden_deviations(model: Model) -> dict[str, Deviation]:
    """How far this machine is from what the model file expects of it: in the features' statistics, and in the scores.

    A model that takes the waveform computes its features where nobody sees them; its scores answer for both.
    """
    golden, spec = model.metadata.golden, model.metadata.spec
    inputs = model_input(spec, model.input)(golden_signal(golden.seed, spec.clip_samples))
    scores = deviation(model.scores(inputs[np.newaxis])[0], golden.scores, golden.score_tolerance)
    if model.input != FEATURES:
        return {"scores": scores}
    found = np.concatenate(band_statistics(inputs, spec.layout))
    expected = np.concatenate([golden.feature_mean, golden.feature_max])
    return {"features": deviation(found, expected, golden.feature_tolerance), "scores": scores}


def band_statistics(features: Float32, layout: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and largest value of each bin of one clip's features, (bins,) each, in float64."""
    frames_axis = 1 if layout == "bins_frames" else 0
    values = features.astype(np.float64)
    return values.mean(axis=frames_axis), values.max(axis=frames_axis)
