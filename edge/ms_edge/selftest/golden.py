"""The golden vector: a signal that every machine makes bit by bit, and the model's scores for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.frontend import model_input
from ms_edge.features.spec import FEATURES
from ms_edge.model.session import Model
from ms_edge.selftest.deviation import Deviation, deviation


@dataclass(frozen=True)
class GoldenDeviations:
    """How far a model's results on this machine are from its golden vector.

    `level` is None for a model without levels of the music.

    `features` is None for a model that takes the waveform: it computes the features inside, and only
    its scores can be compared.
    """

    features: Deviation | None
    scores: Deviation
    level: Deviation | None = None

    @property
    def failed(self) -> dict[str, Deviation]:
        """The deviations beyond their tolerance, by name: `features`, `scores`, `level`."""
        stages = {"features": self.features, "scores": self.scores, "level": self.level}
        return {name: stage for name, stage in stages.items() if stage is not None and not stage.passed}


def golden_signal(seed: int, length: int) -> Float32:
    """Make a test signal of `length` samples in [-0.5, 0.5) from an integer recurrence.

    It needs no library's random numbers and no floating point, so that every machine makes the same.

    x[i + 1] = (1664525 x[i] + 1013904223) mod 2**32 (Numerical Recipes, 3rd ed., 7.1), x[0] = seed.
    Samples come from x[1] on: the signed upper 16 bits, divided by 65,536. Every second block of
    1,024 samples, beginning with the first, is divided by another 16. So there are loud and quiet
    frames.
    """
    samples = np.empty(length, np.float32)
    state = seed
    for i in range(length):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        value = (state >> 16) - 32768
        samples[i] = value / (65536 if (i >> 10) & 1 else 65536 * 16)
    return samples


def golden_deviations(model: Model) -> GoldenDeviations:
    """Compare the model's features and scores on this machine with those in the model file.

    Of the features, their statistics per band are compared.
    """
    golden, spec = model.metadata.golden, model.metadata.spec
    inputs = model_input(spec, model.input)(golden_signal(golden.seed, spec.clip_samples))
    answers = model.answers(inputs[np.newaxis])
    scores = deviation(answers.scores[0], golden.scores, golden.score_tolerance)
    level = None if answers.levels is None else deviation(answers.levels[0], golden.level, golden.level_tolerance)
    if model.input != FEATURES:
        return GoldenDeviations(None, scores, level)
    found = np.concatenate(band_statistics(inputs, spec.layout))
    expected = np.concatenate([golden.feature_mean, golden.feature_max])
    return GoldenDeviations(deviation(found, expected, golden.feature_tolerance), scores, level)


def band_statistics(features: Float32, layout: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the maximum of each band of one clip's features, (bins,) float64 each."""
    frames_axis = 1 if layout == "bins_frames" else 0
    values = features.astype(np.float64)
    return values.mean(axis=frames_axis), values.max(axis=frames_axis)
