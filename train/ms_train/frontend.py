"""The front end in TensorFlow: models are trained with it, and the edge front end is compared with
it.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ms_edge.features.frontend import mel_filterbank
from ms_edge.features.spec import FrontEndSpec


def _hann_window(length: int, dtype: tf.DType) -> tf.Tensor:
    # In float32 the smallest values of the window, 4e-5, have a relative error of a thousandth, and
    # so has the spectrum there.
    return tf.cast(tf.signal.hann_window(length, dtype=tf.float64), dtype)


@keras.saving.register_keras_serializable("ms_train")
class FrontEndLayer(keras.layers.Layer):
    """Compute features from samples with `tf.signal`.

    Samples are (batch, samples) float32; features are (batch, bins, frames) or (batch, frames,
    bins). Only the mel weights come from `ms_edge`. The transform has two implementations, which
    the parity tests compare.
    """

    def __init__(self, spec: FrontEndSpec, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self._mel = mel_filterbank(spec) if spec.mel else None

    def spectrum(self, samples: tf.Tensor) -> tf.Tensor:
        """Return the amplitude or power spectrum, (batch, frames, fft_length // 2 + 1)."""
        stft = tf.signal.stft(
            samples,
            frame_length=self.spec.frame_length,
            frame_step=self.spec.frame_step,
            fft_length=self.spec.fft_length,
            window_fn=_hann_window,
        )
        amplitude = tf.abs(stft)
        return tf.square(amplitude) if self.spec.magnitude == "power" else amplitude

    def call(self, samples: tf.Tensor) -> tf.Tensor:
        """Return features; samples of (batch, spec.clip_samples) give (batch, *spec.feature_shape)."""
        features = self.spectrum(samples)
        if self._mel is not None:
            features = tf.matmul(features, tf.constant(self._mel, features.dtype))
        if self.spec.log_floor is not None:
            features = tf.math.log(features + tf.cast(self.spec.log_floor, features.dtype))
        return tf.transpose(features, (0, 2, 1)) if self.spec.layout == "bins_frames" else features

    def get_config(self) -> dict[str, object]:
        """Return what Keras stores of the layer: its spec as JSON."""
        return {**super().get_config(), "spec": self.spec.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FrontEndLayer:
        """Return the layer that `get_config` describes."""
        return cls(**{**config, "spec": FrontEndSpec.from_json(str(config["spec"]))})


def clip_features(layer: FrontEndLayer, clips: NDArray[np.float32], batch: int = 64) -> NDArray[np.float32]:
    """Return the features (clips, *feature_shape) float32 of clips (clips, samples) float32,
    computed in batches.
    """
    out = np.empty((len(clips), *layer.spec.feature_shape), np.float32)
    for start in range(0, len(clips), batch):
        out[start : start + batch] = layer(clips[start : start + batch]).numpy()
    return out
