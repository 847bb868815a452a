"""Masks of features, as in SpecAugment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec
from ms_train.signals import Range, Rng

Mask = Callable[[Float32, Rng, FrontEndSpec], Float32]  # features, random generator, spec of the features


def time_mask(
    features: Float32, rng: Rng, spec: FrontEndSpec, *, masks: int = 2, share: Range = (0.0, 0.15)
) -> Float32:
    """Set `masks` stretches of frames, each a random share of all, to the mean of a clip's features
    (any layout).

    This is SpecAugment (Park et al. 2019) without time warping. There masks are zero, which is also
    the mean, because its features are normalised.
    """
    return _masked(features, rng, spec.layout.split("_").index("frames"), masks, share)


def frequency_mask(
    features: Float32, rng: Rng, spec: FrontEndSpec, *, masks: int = 2, share: Range = (0.0, 0.2)
) -> Float32:
    """Set `masks` bands, each a random share of all bins, to the mean of a clip's features (see
    `time_mask`).
    """
    return _masked(features, rng, spec.layout.split("_").index("bins"), masks, share)


def _masked(features: Float32, rng: Rng, axis: int, masks: int, share: Range) -> Float32:
    out = features.copy()
    along = np.moveaxis(out, axis, 0)
    for _ in range(masks):
        width = round(rng.uniform(*share) * len(along))
        start = rng.integers(0, len(along) - width + 1)
        along[start : start + width] = features.mean()
    return out
