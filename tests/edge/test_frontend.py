"""Compare the NumPy front end with its definition in float64. tests/export compares it with TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ms_edge.audio.file import read_mono
from ms_edge.features.frontend import FrontEnd, Runs, hann_window, mel_filterbank
from ms_edge.features.spec import FrontEndSpec, MelSpec
from ms_edge.features.windows import batches, windows

SPEC = FrontEndSpec(16_000, 400, 160, 512, clip_s=1.0, hop_s=1.0)


def test_window_is_periodic_even_and_symmetric_odd():
    np.testing.assert_allclose(hann_window(4), [0, 0.5, 1, 0.5], atol=1e-15)
    np.testing.assert_allclose(hann_window(5), [0, 0.5, 1, 0.5, 0], atol=1e-15)
    np.testing.assert_array_equal(hann_window(1), [1.0])


@pytest.mark.parametrize(("frame_length", "fft_length"), [(400, 512), (512, 512), (2048, 256), (255, 256)])
@pytest.mark.parametrize("magnitude", ["amplitude", "power"])
def test_spectrum_equals_its_definition(frame_length, fft_length, magnitude):
    spec = dataclasses.replace(SPEC, frame_length=frame_length, fft_length=fft_length, magnitude=magnitude)
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    found = FrontEnd(spec).spectrum(samples)
    seen = min(frame_length, fft_length)
    angles = np.exp(-2j * np.pi * np.outer(np.arange(fft_length // 2 + 1), np.arange(seen)) / fft_length)
    expected = []
    for start in range(0, len(samples) - frame_length + 1, 160):
        amplitude = np.abs(angles @ (samples[start : start + frame_length] * hann_window(frame_length))[:seen])
        expected.append(amplitude**2 if magnitude == "power" else amplitude)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.max(expected))


def test_mel_triangles_sum_to_one_between_edges():
    spec = dataclasses.replace(SPEC, fft_length=8192, mel=MelSpec(20, 100.0, 7000.0))
    weights = mel_filterbank(spec)
    assert weights.shape == (4097, 20)
    assert weights.dtype == np.float32
    hz = np.linspace(0, 8000, 4097)
    assert weights[(hz < 100) | (hz > 7000)].max() == 0
    np.testing.assert_allclose(weights.max(axis=0), 1, atol=0.05)
    centres = hz[weights.argmax(axis=0)]
    np.testing.assert_allclose(weights[(hz > centres[0]) & (hz < centres[-1])].sum(axis=1), 1, atol=1e-5)
    mels = 1127 * np.log1p(centres / 700)
    np.testing.assert_allclose(np.diff(mels), np.diff(mels).mean(), rtol=0.02)


@pytest.mark.parametrize(
    "spec", [SPEC, dataclasses.replace(SPEC, mel=MelSpec(40, 60.0, 7600.0), log_floor=0.03, layout="frames_bins")]
)
def test_silence_and_short_input_give_finite_features(spec):
    front_end = FrontEnd(spec)
    features = front_end.features(np.zeros(spec.clip_samples, np.float32))
    assert features.shape == spec.feature_shape
    np.testing.assert_array_equal(features, np.float32(np.log(np.float32(spec.log_floor)) if spec.log_floor else 0))
    assert front_end.features(np.zeros(399, np.float32)).size == 0


@pytest.mark.parametrize("layout", ["frames_bins", "bins_frames"])
@pytest.mark.parametrize("hop_s", [0.5, 0.333, 1.0])
@pytest.mark.parametrize("mel", [MelSpec(48, 60.0, 7600.0), None])
@pytest.mark.parametrize("length", [16_000, 16_001, 40_000, 52_345])
def test_features_of_overlapping_clips_equal_separate_ones(samples, layout, hop_s, mel, length):
    spec = FrontEndSpec(16_000, 400, 320, 400, 1.0, hop_s, mel=mel, log_floor=0.02, layout=layout)
    recorded = read_mono(samples[0], 16_000)[:length]
    front_end = FrontEnd(spec)
    for size in (1, 2, 7, 64):
        found = [front_end.features_of_clips(batch.samples, batch.offsets) for batch in batches([recorded], spec, size)]
        expected = [front_end.features(clip) for _, clip in windows([recorded], spec)]
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6, rtol=0)


def test_shared_frames_are_computed_once(samples):
    spec = FrontEndSpec(16_000, 400, 320, 400, 1.0, 0.1, mel=MelSpec(48, 60.0, 7600.0), log_floor=0.02)
    seen = []

    class Counting(FrontEnd):
        def _frames(self, samples):
            found = super()._frames(samples)
            seen.append(len(found))
            return found

    recorded = read_mono(samples[0], 16_000)
    (batch,) = batches([recorded], spec, 1000)
    Counting(spec).features_of_clips(batch.samples, batch.offsets)
    assert seen == [spec.frames(len(recorded))]


@pytest.mark.parametrize("seed", range(3))
def test_runs_of_a_stream_share_frames(seed):
    spec = dataclasses.replace(SPEC, layout="frames_bins")
    chance = np.random.default_rng(seed)
    stream = chance.uniform(-1, 1, 30_000).astype(np.float32)
    computed = 0

    def features(samples):
        nonlocal computed
        computed += spec.frames(len(samples))
        return FrontEnd(spec).features(samples)

    runs, start, frames = Runs(spec, features), 0, 0
    for _ in range(30):  # mostly forward by whole frames; also back, and beside the frames before
        start = max(0, start + 160 * int(chance.integers(-1, 12)) + int(chance.integers(0, 30)) // 29)
        samples = stream[start : start + int(chance.integers(0, 6_000))]
        found = runs.features(start, samples)
        frames += len(found)
        np.testing.assert_allclose(found, FrontEnd(spec).features(samples), atol=1e-5)
    assert computed < 0.8 * frames


def test_samples_are_not_changed():
    samples = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    before = samples.copy()
    FrontEnd(dataclasses.replace(SPEC, log_floor=0.1)).features(samples)
    np.testing.assert_array_equal(samples, before)
