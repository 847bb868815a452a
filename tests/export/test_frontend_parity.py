"""Item for item, the NumPy/SciPy front end equals `tf.signal`, for every recipe's spec and some that no recipe has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ms_edge.audio import read_mono
from ms_edge.frontend import FrontEnd
from ms_edge.spec import FrontEndSpec, MelSpec
from ms_export.parity import (
    FEATURE_TOLERANCE,
    SPECTRUM_TOLERANCE,
    largest_difference,
    spectrum_difference,
    synthetic_signals,
)
from ms_train.frontend import FrontEndLayer
from ms_train.recipes import recipes

SPECS = {name: recipe.spec for name, recipe in recipes().items()} | {
    # No logarithm, an odd frame (where TensorFlow's window is symmetric), power, padding and cropping.
    "odd frame, linear": FrontEndSpec(16_000, 255, 128, 256, clip_s=1.0, hop_s=1.0),
    "cropped, power": FrontEndSpec(8_000, 512, 100, 128, clip_s=1.0, hop_s=1.0, magnitude="power"),
    "cropped, mel": FrontEndSpec(
        16_000, 400, 160, 256, clip_s=1.0, hop_s=1.0, mel=MelSpec(24, 0.0, 8000.0), log_floor=0.02, layout="frames_bins"
    ),
    "not a power of two": FrontEndSpec(22_050, 600, 200, 600, clip_s=1.0, hop_s=1.0, layout="frames_bins"),
}


def lengths(spec: FrontEndSpec) -> list[int]:
    """A clip, one sample less and more, half a hop around, and whole frames give or take one."""
    clip, half = spec.clip_samples, spec.frame_step // 2
    whole = spec.frame_length + spec.frame_step * (spec.frames(clip) - 1)
    return sorted({clip, clip - 1, clip + 1, clip - half, clip + half, whole - 1, whole, whole + 1, spec.frame_length})


@pytest.fixture(scope="module", params=SPECS.values(), ids=SPECS.keys())
def pair(request) -> tuple[FrontEnd, FrontEndLayer]:
    return FrontEnd(request.param), FrontEndLayer(request.param)


def assert_equal(front_end: FrontEnd, layer: FrontEndLayer, samples: np.ndarray, what: str) -> None:
    reference = layer.spectrum(samples[np.newaxis]).numpy()[0]
    assert spectrum_difference(front_end.spectrum(samples), reference) <= SPECTRUM_TOLERANCE, what
    reference = layer(samples[np.newaxis]).numpy()[0]
    assert reference.dtype == np.float32
    assert np.isfinite(reference).all(), what
    assert largest_difference(front_end.features(samples), reference) <= FEATURE_TOLERANCE, what


def test_synthetic_signals_of_every_length(pair):
    spec = pair[0].spec
    for length in lengths(spec):
        for name, samples in synthetic_signals(spec, length).items():
            assert_equal(*pair, samples, f"{name}, {length} samples")


def test_real_clips(pair, samples):
    clip = pair[0].spec.clip_samples
    for path in samples:
        audio = read_mono(path, pair[0].spec.sample_rate_hz)
        for start in (0, max(0, len(audio) - clip)):
            assert_equal(*pair, audio[start : start + clip], f"{path.name} at {start}")


def test_clip_has_the_shape_of_the_spec(pair):
    spec = pair[0].spec
    samples = np.zeros((1, spec.clip_samples), np.float32)
    assert pair[0].features(samples[0]).shape == pair[1](samples).shape[1:] == spec.feature_shape


def test_an_impulse_where_no_frame_looks_is_silence():
    spec = recipes()["logstft_cnn"].spec  # sees 256 samples of every 512
    samples = synthetic_signals(spec, spec.clip_samples)
    front_end = FrontEnd(spec)
    assert front_end.spectrum(samples["impulse where no frame need look"]).max() == 0
    assert front_end.spectrum(samples["impulse where a frame looks"]).max() > 0.01


def test_keras_layer_survives_its_config():
    spec = recipes()["mel_dscnn"].spec
    assert FrontEndLayer.from_config(FrontEndLayer(spec).get_config()).spec == spec


@pytest.mark.parametrize(
    "change",
    [
        {"frame_step": 321}, {"frame_length": 511}, {"magnitude": "power"}, {"log_floor": 0.3}, {"mel": MelSpec(48, 61.0, 7600.0)},
        {"layout": "bins_frames"}, {"fft_length": 1024},
    ],
)  # fmt: skip
def test_a_wrong_front_end_is_noticed(samples, change):
    spec = recipes()["mel_dscnn"].spec
    wrong = FrontEnd(dataclasses.replace(spec, **change))
    audio = read_mono(samples[0], spec.sample_rate_hz)[: spec.clip_samples]
    with pytest.raises(AssertionError):
        assert_equal(wrong, FrontEndLayer(spec), audio, "")
