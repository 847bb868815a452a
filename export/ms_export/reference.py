"""The reference of every comparison: TensorFlow, from a recording to the label of each window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import soxr
import tensorflow as tf
from numpy.typing import NDArray

from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.metadata import Decision
from ms_edge.timeline import window_labels
from ms_export.cases import Case
from ms_export.parity import Array, Stages
from ms_train.frontend import FrontEndLayer

BATCH = 32


class Reference:
    """The reference: float64 resampling at soxr's highest quality, its own cutting of windows,
    tf.signal, and Keras if given.

    `network` gives logits and scores (`ms_train.scores.outputs.with_logits`). `dtype` is that of
    the transform. Models are trained with the default, float32.
    """

    def __init__(
        self,
        spec: FrontEndSpec,
        network: keras.Model | None = None,
        labels: tuple[str, ...] = (),
        decision: Decision | None = None,
        dtype: str = "float32",
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        layer = FrontEndLayer(spec, dtype=dtype, autocast=False)
        # Traced once, for any number of windows: cases are small, and a call from Python costs much
        # in comparison.
        self._front_end = tf.function(
            lambda clips: (layer.spectrum(clips), layer(clips)),
            input_signature=[tf.TensorSpec((None, spec.clip_samples), dtype)],
        )
        self._network = network and tf.function(
            lambda features: network(features, training=False),
            input_signature=[tf.TensorSpec((None, *spec.feature_shape), tf.float32)],
        )
        self._labels, self._decision = labels, decision

    def samples(self, case: Case) -> NDArray[np.float64]:
        """Return the mono signal (n,) at the spec's rate."""
        mono = case.samples.astype(np.float64).mean(axis=1)
        if case.sample_rate_hz == self.spec.sample_rate_hz:
            return np.asarray(mono)
        return np.asarray(soxr.resample(mono, case.sample_rate_hz, self.spec.sample_rate_hz, quality="VHQ"))

    def windows(self, samples: Array) -> Array:
        """Return (windows, clip_samples): one every hop, and the last at the end. A recording
        shorter than a clip is repeated.
        """
        clip, hop = self.spec.clip_samples, self.spec.hop_samples
        if len(samples) < clip:
            return samples[np.arange(clip) % len(samples)][np.newaxis]
        starts = list(range(0, len(samples) - clip + 1, hop))
        if starts[-1] + clip < len(samples):
            starts.append(len(samples) - clip)
        return np.stack([samples[start : start + clip] for start in starts])

    def network(self, features: Array) -> tuple[Array, Array]:
        """Return the logits and scores (n, ...) that Keras computes from features (n,
        *spec.feature_shape).
        """
        assert self._network is not None, "this reference was made without a network"
        return in_batches(self._network, features.astype(np.float32))

    def __call__(self, case: Case) -> Stages:
        """Return all stages of a case, in the dtype of the transform."""
        samples = self.samples(case)
        clips = self.windows(samples).astype(np.float32).astype(self.dtype)  # implementations get float32, too
        found: Stages = {"samples": samples}
        found["spectrum"], found["features"] = in_batches(self._front_end, clips)
        if self._network is not None:
            found["logits"], found["scores"] = self.network(found["features"])
            if self._decision:
                found["label"], found["margin"] = decide(found["scores"], self._labels, self._decision)
        return found


def decide(scores: Array, labels: tuple[str, ...], decision: Decision) -> tuple[Array, Array]:
    """Return the label of each window (windows,), and twice the change of a score that gives
    another label (windows,).
    """
    names = np.array(window_labels(scores, labels, decision))
    if decision.kind == "exclusive":
        ordered = np.sort(scores, axis=1)
        return names, ordered[:, -1] - ordered[:, -2]
    return names, 2 * np.abs(scores - np.array(decision.thresholds)).min(axis=1)


def in_batches(function: Callable[[Array], tuple[Any, Any]], rows: Array, size: int = BATCH) -> tuple[Array, Array]:
    """Call a function on batches of rows and return both of its results, concatenated."""
    first, second = zip(*(function(batch) for batch in batches(rows, size)), strict=True)
    return np.concatenate(first), np.concatenate(second)


def batches(rows: Array, size: int) -> Iterator[Array]:
    """Yield the rows in batches of at most `size`."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
