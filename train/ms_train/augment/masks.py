"""Masks over features: what SpecAugment does to a spectrogram, seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec
from ms_train.signals import Range, Rng

Mask = Callable[[Float32, Rng, FrontEndSpec], Float32]  # features, random numbers, the spec they were made by


def time_mask(
    features: Float32, rng: Rng, spec: FrontEndSpec, *, masks: int = 2, share: Range = (0.0, 0.15)
) -> Float32:
    """Features of one clip (any layout) with `masks` stretches of time, each of a random share of all frames, at the clip's mean.

    SpecAugment (Park et al. 2019), without its time warping; its zero is the mean too, since its features are normalised.
    """
    return _masked(features, rng, spec.layout.split("_").index("frames"), masks, share)


def frequency_mask(
    features: Float32, rng: Rng, spec: FrontEndSpec, *, masks: int = 2, share: Range = (0.0, 0.2)
) -> Float32:
    """Features of one clip (any layout) with `masks` bands, each of a random share of all bins, at the clip's mean (see `time_mask`)."""
    return _masked(features, rng, spec.layout.split("_").index("bins"), masks, share)


def _masked(features: Float32, rng: Rng, axis: int, masks: int, share: Range) -> Float32:
    out = features.copy()
    along = np.moveaxis(out, axis, 0)
    for _ in range(masks):
        width = round(rng.uniform(*share) * len(along))
        start = rng.integers(0, len(along) - width + 1)
        along[start : start + width] = features.mean()
    return out
