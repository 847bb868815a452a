"""The front end in NumPy and SciPy: the same numbers as `tf.signal`, which the models were trained with.

samples   (n,) float32
frames    (frames, min(frame_length, fft_length))    windowed, cropped as tf.signal.stft does
spectrum  (frames, fft_length // 2 + 1)              amplitude or power
mel       (frames, bands)                            if the spec has mel bands
features  (bins, frames) or (frames, bins)           log(x + log_floor), float32
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from ms_edge.spec import WAVEFORM, FrontEndSpec

Float32 = NDArray[np.float32]


def hann_window(length: int) -> NDArray[np.float64]:
    """Hann window of `length` samples as `tf.signal.hann_window` makes it.

    Periodic at even lengths, symmetric at odd ones, whatever its `periodic` argument says.
    """
    period = length if length % 2 == 0 else length - 1
    if period == 0:
        return np.ones(1)
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)


def mel_filterbank(spec: FrontEndSpec) -> Float32:
    """Weights from spectrum bins to mel bands, (fft_length // 2 + 1, bands) float32.

    Triangles of height 1 whose corners are evenly spaced on the HTK mel scale, 1127 ln(1 + f / 700), and whose sides
    are straight on that scale; the bin at 0 Hz belongs to no band. Both front ends use this one function.
    """
    if spec.mel is None:
        raise ValueError("the spec has no mel bands")
    bins_hz = np.linspace(0.0, spec.sample_rate_hz / 2, spec.fft_length // 2 + 1)
    bins_mel = _hz_to_mel(bins_hz)[:, np.newaxis]
    edges = np.linspace(_hz_to_mel(spec.mel.low_hz), _hz_to_mel(spec.mel.high_hz), spec.mel.bands + 2)
    rising = (bins_mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins_mel) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights.astype(np.float32)


def _hz_to_mel(hz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hz) / 700.0))


class FrontEnd:
    """A spec at work: samples in, float32 features out. Holds only constants, so threads may share it."""

    def __init__(self, spec: FrontEndSpec) -> None:
        self.spec = spec
        # The transform sees no more than fft_length samples of a frame, so the rest is never computed.
        self._seen = min(spec.frame_length, spec.fft_length)
        self._window: Float32 = hann_window(spec.frame_length)[: self._seen].astype(np.float32)
        self._mel = mel_filterbank(spec) if spec.mel else None
        self._floor = None if spec.log_floor is None else np.float32(spec.log_floor)

    def spectrum(self, samples: Float32) -> Float32:
        """Amplitude or power spectrum of (n,) float32 samples: (frames, fft_length // 2 + 1) float32.

        Fewer samples than one frame give no frames.
        """
        spec = self.spec
        frames = spec.frames(len(samples))
        if frames == 0:
            return np.zeros((0, spec.fft_length // 2 + 1), np.float32)
        samples = np.ascontiguousarray(samples, np.float32)
        framed = np.lib.stride_tricks.sliding_window_view(samples, self._seen)[:: spec.frame_step][:frames]
        spectrum = rfft(framed * self._window, n=spec.fft_length)
        amplitude: Float32 = np.abs(spectrum)
        return amplitude * amplitude if spec.magnitude == "power" else amplitude

    def features(self, samples: Float32) -> Float32:
        """Features of (n,) float32 samples in the spec's layout, float32; one clip gives `spec.feature_shape`."""
        features = self.spectrum(samples)
        if self._mel is not None:
            features = features @ self._mel
        if self._floor is not None:
            features += self._floor
            np.log(features, out=features)
        return np.ascontiguousarray(features.T) if self.spec.layout == "bins_frames" else features


def model_input(spec: FrontEndSpec, name: str) -> Callable[[Float32], Float32]:
    """What makes of one clip's samples, (clip_samples,) float32, the input of that name: its features, or the samples as they are."""
    return (lambda samples: samples) if name == WAVEFORM else FrontEnd(spec).features
