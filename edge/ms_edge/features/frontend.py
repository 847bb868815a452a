"""Compute the features of a `FrontEndSpec` in NumPy.

Models are trained with the features of `tf.signal`. These functions return the same values within
the tolerances of `ms_export.tolerances`.

samples   (n,) float32
frames    (frames, min(frame_length, fft_length))    windowed, cropped as tf.signal.stft does
spectrum  (frames, fft_length // 2 + 1)              amplitude or power
mel       (frames, bands)                            if the spec has mel bands
features  (bins, frames) or (frames, bins)           log(x + log_floor), float32

The Fourier transform of one second of audio (16 kHz, 50 frames of 400 samples) takes about 40 us in
NumPy and 26 us in SciPy. Importing SciPy's transform takes 150 ms, which only pays after ten
thousand seconds of audio. `ms_export` uses SciPy as a reference for this front end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.fft  # NumPy imports it at first use, in each worker process, where the import could fail
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_edge.features.spec import WAVEFORM, FrontEndSpec

BLOCK_SAMPLES = 1 << 15  # samples of frames transformed at a time: with their spectrum, about 250 kB
# Mel bands computed by one matrix product. Neighbouring bands use neighbouring bins; nearly all
# other weights are zero.
BANDS_TOGETHER = 16


def hann_window(length: int) -> NDArray[np.float64]:
    """Return the Hann window of `tf.signal.hann_window`, (length,) float64.

    It is periodic at even lengths and symmetric at odd ones, whatever the argument `periodic` of
    TensorFlow says.
    """
    period = length if length % 2 == 0 else length - 1
    if period == 0:
        return np.ones(1)
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)


def mel_filterbank(spec: FrontEndSpec) -> Float32:
    """Return the weights from spectrum bins to mel bands, (fft_length // 2 + 1, bands) float32.

    The filters are triangles of height 1. Their corners are evenly spaced on the HTK mel scale,
    1127 ln(1 + f / 700), and their sides are straight on that scale. The bin at 0 Hz belongs to no
    band. The TensorFlow front end of training uses this function too. Raises ValueError for a spec
    without mel bands.
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


def _bands_by_bins(weights: Float32) -> list[tuple[slice, slice, Float32]]:
    """Split the weights of `mel_filterbank` into blocks of neighbouring bands.

    Each block is a slice of bins, a slice of bands, and the weights from these bins to these bands.
    """
    blocks = []
    for first in range(0, weights.shape[1], BANDS_TOGETHER):
        bands = slice(first, min(first + BANDS_TOGETHER, weights.shape[1]))
        used = np.flatnonzero(weights[:, bands].any(axis=1))
        bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        blocks.append((bins, bands, np.ascontiguousarray(weights[bins, bands])))
    return blocks


class FrontEnd:
    """Computes the features of one spec. It holds only constants, so threads may share it."""

    def __init__(self, spec: FrontEndSpec) -> None:
        self.spec = spec
        # The transform uses at most fft_length samples of a frame, so the others are not computed.
        self._seen = min(spec.frame_length, spec.fft_length)
        self._window: Float32 = hann_window(spec.frame_length)[: self._seen].astype(np.float32)
        self._bands = _bands_by_bins(mel_filterbank(spec)) if spec.mel else []
        self._floor = None if spec.log_floor is None else np.float32(spec.log_floor)

    def spectrum(self, samples: Float32) -> Float32:
        """Return the amplitude or power spectrum of samples (n,) float32.

        The result is (frames, fft_length // 2 + 1) float32. Fewer samples than one frame have no
        frames.
        """
        found = np.empty((self.spec.frames(len(samples)), self.spec.fft_length // 2 + 1), np.float32)
        for rows, spectrum in self._blocks(samples):
            found[rows] = spectrum
        return found

    def features(self, samples: Float32) -> Float32:
        """Return the features of samples (n,) float32 in the spec's layout, float32.

        The features of one clip have the shape `spec.feature_shape`.
        """
        frames = self._frames(samples)
        return np.ascontiguousarray(frames.T) if self.spec.layout == "bins_frames" else frames

    def features_of_clips(self, samples: Float32, starts: NDArray[np.int64]) -> Float32:
        """Return the features of several clips, (clips, *spec.feature_shape) float32.

        `samples` is (n,) float32, and `starts` (clips,) are the offsets of the clips in it. If the
        clips overlap by whole frames, each frame is computed only once. The result equals
        `features` of each clip within 1e-6.
        """
        spec = self.spec
        count, step = spec.frames(spec.clip_samples), spec.frame_step
        # Sharing frames does not pay if most frames between the clips would be computed but not
        # used.
        sharing = len(starts) > 1 and spec.hop_samples % step == 0 and spec.hop_samples <= 2 * count * step
        shared = self._frames(samples) if sharing else None
        found = np.empty((len(starts), *spec.feature_shape), np.float32)
        by_frame = found.swapaxes(1, 2) if spec.layout == "bins_frames" else found
        for clip, start in zip(by_frame, starts.tolist(), strict=True):
            if shared is not None and start % step == 0:
                clip[:] = shared[start // step :][:count]
            else:
                clip[:] = self._frames(samples[start : start + spec.clip_samples])
        return found

    def _frames(self, samples: Float32) -> Float32:
        """Return the features of samples (n,) float32, (frames, bins) float32."""
        if self._bands:
            found = np.empty((self.spec.frames(len(samples)), self.spec.bins), np.float32)
            for rows, spectrum in self._blocks(samples):
                for bins, bands, weights in self._bands:
                    np.matmul(spectrum[:, bins], weights, out=found[rows, bands])
        else:
            found = self.spectrum(samples)
        if self._floor is not None:
            found += self._floor
            np.log(found, out=found)
        return found

    def _blocks(self, samples: Float32) -> Iterator[tuple[slice, Float32]]:
        """Yield a slice of frames and their spectrum, (frames, fft_length // 2 + 1) float32.

        The next spectrum overwrites the one before. A block is small enough to stay in the
        processor's cache between the steps, which is several times as fast as computing all frames
        at once.
        """
        spec, frames = self.spec, self.spec.frames(len(samples))
        if frames == 0:
            return
        samples = np.ascontiguousarray(samples, np.float32)
        step = spec.frame_step * samples.itemsize
        # The frames overlap in memory: this is a view, not a copy.
        framed = np.ndarray((frames, self._seen), np.float32, samples, 0, (step, samples.itemsize))
        most = min(frames, max(1, BLOCK_SAMPLES // spec.fft_length))
        windowed = np.empty((most, self._seen), np.float32)
        transform: NDArray[Any] = np.empty((most, spec.fft_length // 2 + 1), np.complex64)
        spectrum = np.empty(transform.shape, np.float32)
        for start in range(0, frames, most):
            rows = slice(start, min(start + most, frames))
            count = rows.stop - start
            np.multiply(framed[rows], self._window, out=windowed[:count])
            np.fft.rfft(windowed[:count], spec.fft_length, out=transform[:count])
            np.abs(transform[:count], out=spectrum[:count])
            if spec.magnitude == "power":
                np.square(spectrum[:count], out=spectrum[:count])
            yield rows, spectrum[:count]


class Runs:
    """Computes the features of runs of one stream, and computes what a run shares with the one before once.

    `features` is that of a front end whose layout is `frames_bins`.
    """

    def __init__(self, spec: FrontEndSpec, features: Callable[[Float32], Float32]) -> None:
        self._spec, self._features = spec, features
        self._start, self._found = 0, np.empty((0, spec.bins), np.float32)

    def features(self, start: int, samples: Float32) -> Float32:
        """Return the features of samples (n,) float32, which are those of the stream from `start` on."""
        frames, beside = divmod(start - self._start, self._spec.frame_step)
        shared = self._found[frames:] if frames >= 0 and not beside else self._found[:0]
        shared = shared[: self._spec.frames(len(samples))]
        rest = self._features(samples[len(shared) * self._spec.frame_step :])
        self._start, self._found = start, np.concatenate([shared, rest])
        return self._found


def model_inputs(spec: FrontEndSpec, name: str) -> Callable[[Float32, NDArray[np.int64]], Float32]:
    """Return a function that computes the input of a model for several clips.

    `name` is the name of the input. The function takes samples (n,) float32 and the offsets of the
    clips in them, (clips,). For `waveform` it returns the clips, (clips, spec.clip_samples); for
    `features` it returns their features, (clips, *spec.feature_shape), float32.
    """
    if name == WAVEFORM:
        return lambda samples, starts: np.stack([samples[start:][: spec.clip_samples] for start in starts.tolist()])
    return FrontEnd(spec).features_of_clips


def model_input(spec: FrontEndSpec, name: str) -> Callable[[Float32], Float32]:
    """Return a function that computes the input of a model from samples (n,) float32.

    Unlike the result of `model_inputs`, this input has no axis for several clips.
    """
    return (lambda samples: samples) if name == WAVEFORM else FrontEnd(spec).features
