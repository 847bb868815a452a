"""Parity: the same clips through TensorFlow and through the edge runtime, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from ms_edge.frontend import FrontEnd
from ms_edge.model import Model
from ms_edge.spec import FrontEndSpec
from ms_train.evaluate import label_scores
from ms_train.frontend import FrontEndLayer

Float32 = NDArray[np.float32]

# The two transforms sum in different orders; float32 has 6e-8 of the largest term.
SPECTRUM_TOLERANCE = 1e-6
# A logarithm just above its floor divides that by floor / sum of the window, which every recipe keeps over 5e-5.
FEATURE_TOLERANCE = 1e-3
SCORE_TOLERANCE = 1e-5
REFERENCE_BATCH = 16


@dataclass(frozen=True)
class Difference:
    """Largest absolute difference per stage over some clips, and the clip of the largest difference of scores.

    `spectrum` is relative to the largest magnitude of its clip; `features` and `scores` are absolute.
    """

    spectrum: float
    features: float
    scores: float
    worst_clip: str

    @property
    def passed(self) -> bool:
        """True where every stage is within its tolerance; a NaN is not."""
        return (
            self.spectrum <= SPECTRUM_TOLERANCE
            and self.features <= FEATURE_TOLERANCE
            and self.scores <= SCORE_TOLERANCE
        )

    def describe(self) -> str:
        """The differences beside their tolerances, in one sentence without its full stop."""
        return (
            f"TensorFlow and the edge runtime differ by {self.spectrum:.1e} in spectra (at most {SPECTRUM_TOLERANCE:.0e} is "
            f"allowed), {self.features:.1e} in features ({FEATURE_TOLERANCE:.0e}) and {self.scores:.1e} in scores "
            f"({SCORE_TOLERANCE:.0e}), most on {self.worst_clip}"
        )


def compare(network: keras.Model, model: Model, clips: dict[str, Float32]) -> Difference:
    """Hold the edge runtime (NumPy/SciPy and ONNX) to the TensorFlow reference (tf.signal and Keras), from the waveform on.

    `clips` are named waveforms (clip_samples,) float32. Shapes and dtypes must be equal too (AssertionError: a bug).
    """
    spec = model.metadata.spec
    layer, front_end = FrontEndLayer(spec), FrontEnd(spec)
    spectrum = features = 0.0
    worst_score, worst_clip = 0.0, ""
    names = list(clips)
    for start in range(0, len(names), REFERENCE_BATCH):
        batch = names[start : start + REFERENCE_BATCH]
        waveforms = np.stack([clips[name] for name in batch])
        reference_spectra = layer.spectrum(waveforms).numpy()
        reference_features = layer(waveforms).numpy()
        reference_scores = label_scores(network(reference_features, training=False).numpy())
        for index, name in enumerate(batch):
            edge_features = front_end.features(clips[name])
            edge_scores = model.scores(edge_features[np.newaxis])[0]
            edge_spectrum = front_end.spectrum(clips[name])
            spectrum = _larger(spectrum, spectrum_difference(edge_spectrum, reference_spectra[index]))
            features = _larger(features, largest_difference(edge_features, reference_features[index]))
            score = largest_difference(edge_scores, reference_scores[index])
            if not score <= worst_score:  # a NaN is the worst
                worst_score, worst_clip = score, name
    return Difference(spectrum, features, worst_score, worst_clip)


def spectrum_difference(found: Float32, expected: Float32) -> float:
    """Largest difference of two spectra, relative to the largest expected magnitude."""
    peak = float(np.max(expected, initial=0.0))
    return largest_difference(found, expected) / (peak or 1.0)


def largest_difference(found: Float32, expected: Float32) -> float:
    """Largest absolute difference of two arrays of the same shape and dtype, NaN if any is; 0.0 if they are empty."""
    assert found.shape == expected.shape, f"{found.shape} is not {expected.shape}"
    assert found.dtype == expected.dtype, f"{found.dtype} is not {expected.dtype}"
    return float(np.max(np.abs(found.astype(np.float64) - expected), initial=0.0))


def _larger(a: float, b: float) -> float:
    return float(np.maximum(a, b))  # which keeps a NaN, as max() does not


def synthetic_signals(spec: FrontEndSpec, length: int) -> dict[str, Float32]:
    """Signals (length,) float32 on which front ends part: where noise alone shows nothing."""
    time_s = np.arange(length) / spec.sample_rate_hz
    rng = np.random.default_rng(20_260_101)

    def impulse(at: int) -> NDArray[np.float64]:
        signal = np.zeros(length)
        signal[min(at, length - 1)] = 1.0
        return signal

    frame = spec.frame_step * (max(0, spec.frames(length) // 2))
    unseen = min(
        spec.frame_length, spec.fft_length
    )  # between what one frame sees and the start of the next, if anywhere
    nyquist_hz = spec.sample_rate_hz / 2
    signals = {
        "silence": np.zeros(length),
        "impulse where a frame looks": impulse(frame + min(100, unseen // 2)),
        "impulse where no frame need look": impulse(frame + (unseen + spec.frame_step) // 2),
        "impulse on the last sample": impulse(length - 1),
        "dc": np.ones(length),
        "full-scale tone": np.sin(2 * np.pi * 1000 * time_s),
        "tone between bins": np.sin(2 * np.pi * 1017.3 * time_s),
        "tone near Nyquist": np.sin(2 * np.pi * (nyquist_hz - 10) * time_s),
        "quiet tone": 1e-4 * np.sin(2 * np.pi * 440 * time_s),
        "white noise": rng.uniform(-1, 1, length),
        "clipped noise": np.clip(3 * rng.standard_normal(length), -1, 1),
        "alternating extremes": (-1.0) ** np.arange(length),
    }
    return {name: signal.astype(np.float32) for name, signal in signals.items()}
