from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_edge.audio.file import read_mono
from ms_edge.errors import UsageError
from ms_edge.features.frontend import FrontEnd
from ms_train.augment import augmentations, codecs
from ms_train.augment.augmentations import AUGMENTATIONS, MASKS, chain
from ms_train.recipes.by_name import get_recipe
from ms_train.signals import rms

RATE_HZ = 16_000
CODECS = ["mp3", "vorbis", "opus", "gsm", "mu_law", "a_law", "ima_adpcm"]


@pytest.fixture(scope="module")
def speech(samples) -> np.ndarray:
    return read_mono(next(path for path in samples if "italian" in path.name), RATE_HZ)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise_band(low_hz: float, high_hz: float, length: int = 2 * RATE_HZ) -> np.ndarray:
    """Return white noise between two frequencies, at -20 dB RMS."""
    spectrum = np.fft.rfft(rng(9).standard_normal(length))
    hz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    spectrum[(hz < low_hz) | (hz > high_hz)] = 0
    samples = np.fft.irfft(spectrum, length)
    return (0.1 * samples / np.sqrt(np.mean(samples**2))).astype(np.float32)


def band_db(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    return 10 * np.log10(power[(hz >= low_hz) & (hz <= high_hz)].sum() / power.sum() + 1e-20)


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """Return the delay of `after` in samples."""
    size = 2 * len(before)
    place = int(np.fft.irfft(np.fft.rfft(before, size).conj() * np.fft.rfft(after, size), size).argmax())
    return place if place < len(before) else place - size


def hard(kind: str, length: int) -> np.ndarray:
    samples = np.zeros(length, np.float32)
    if kind == "impulse":
        samples[length // 2] = 1
    elif kind == "full scale":
        samples[:] = np.sign(np.sin(np.arange(length) * 0.3))
    elif kind == "offset":
        samples[:] = 0.7
    elif kind == "noise":
        samples[:] = np.clip(rng(1).standard_normal(length), -1, 1)
    return samples


@settings(max_examples=12)
@given(
    kind=st.sampled_from(["silence", "impulse", "full scale", "offset", "noise"]),
    length=st.integers(1, 9_000),
    rate_hz=st.sampled_from([4_000, 8_000, 16_000, 22_050, 44_100]),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_keep_length_and_scale_and_repeat(name, kind, length, rate_hz, seed):
    samples = hard(kind, length)
    given_samples = samples.copy()
    out = AUGMENTATIONS[name](samples, rng(seed), rate_hz)
    np.testing.assert_array_equal(samples, given_samples)
    assert out.shape == samples.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    np.testing.assert_array_equal(out, AUGMENTATIONS[name](samples, rng(seed), rate_hz))


@settings(max_examples=20)
@given(recipe=st.sampled_from(["logstft_cnn", "mel_dscnn"]), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", MASKS)
def test_masks_change_whole_frames_or_bins_only(name, recipe, seed):
    spec = get_recipe(recipe).spec
    features = rng(1).standard_normal(spec.feature_shape).astype(np.float32)
    out = MASKS[name](features, rng(seed), spec)
    np.testing.assert_array_equal(out, MASKS[name](features, rng(seed), spec))
    assert out.dtype == np.float32
    changed = out != features
    if (spec.layout == "bins_frames") != (name == "frequency_mask"):
        changed = changed.T
    lines = changed.all(axis=1)
    assert (changed.any(axis=1) == lines).all()
    assert lines.mean() <= (0.4 if name == "frequency_mask" else 0.3) + 0.02
    np.testing.assert_array_equal(out[out != features], features.mean())


def test_masks_have_the_requested_width():
    spec = get_recipe("mel_dscnn").spec
    features = rng(1).standard_normal(spec.feature_shape).astype(np.float32)
    for name, size in (("time_mask", 49), ("frequency_mask", 48)):
        out = MASKS[name](features, rng(3), spec, masks=1, share=(0.25, 0.25))
        assert (out != features).any(axis=1 if name == "time_mask" else 0).sum() == round(0.25 * size)


def test_gain_is_as_requested(speech):
    out = augmentations.gain(speech, rng(), RATE_HZ, gain_db=(-12, -12))
    assert 20 * np.log10(rms(out) / rms(speech)) == pytest.approx(-12, abs=0.01)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 30.0])
def test_noise_has_the_requested_snr(speech, snr_db):
    out = augmentations.noise(speech, rng(), RATE_HZ, snr_db=(snr_db, snr_db)).astype(float)
    scale = np.dot(out, speech) / np.dot(speech, speech)  # noise is hardly correlated with speech
    added = out - scale * speech
    assert 20 * np.log10(rms(scale * speech) / rms(added)) == pytest.approx(snr_db, abs=0.3)


def test_telephone_band_has_stated_limits():
    out = augmentations.telephone(noise_band(0, 8_000), rng(), RATE_HZ)
    assert band_db(out, 3_450, 8_000) < -45
    assert band_db(out, 0, 250) < -45
    inside = noise_band(360, 3_340)
    through = augmentations.telephone(inside, rng(), RATE_HZ)
    assert rms(through - inside) / rms(inside) < 0.02  # unchanged and without delay


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100])
def test_codecs_change_sound_without_delay(name, rate_hz):
    samples = noise_band(400, 1_500)
    for seed in range(6):  # several compression levels, with and without a delay written into the MP3
        out = AUGMENTATIONS[name](samples, rng(seed), rate_hz)
        assert abs(lag(samples, out)) <= 4
        assert 0.01 < rms(out - samples) / rms(samples) < 1.5


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 0.99])
def test_mp3_has_no_delay_at_any_bit_rate(speech, level):
    assert lag(speech, codecs.mp3(speech, rng(), RATE_HZ, level=(level, level))) == 0


@pytest.mark.parametrize("name", ["gsm", "mu_law", "a_law"])
def test_telephone_codecs_leave_nothing_above_4_khz(name):
    assert band_db(AUGMENTATIONS[name](noise_band(0, 8_000), rng(), RATE_HZ), 4_100, 8_000) < -40


@pytest.mark.parametrize("decay_s", [0.3, 0.8])
def test_reverberation_starts_with_the_sound_and_decays(decay_s):
    impulse = np.zeros(2 * RATE_HZ, np.float32)
    impulse[100] = 0.5
    out = augmentations.reverberation(
        impulse, rng(), RATE_HZ, decay_s=(decay_s, decay_s), direct_to_reverberant_db=(6, 6)
    ).astype(float)[100:]
    assert np.abs(out).argmax() == 0
    tail = out[1:] ** 2
    assert 10 * np.log10(out[0] ** 2 / tail.sum()) == pytest.approx(6, abs=0.1)
    left_db = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum() + 1e-12)  # Schroeder's backward integration
    from_s, to_s = (np.argmax(left_db < level) / RATE_HZ for level in (-5, -25))
    assert 3 * (to_s - from_s) == pytest.approx(decay_s, rel=0.1)


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_speed_changes_pitch_and_duration_by_the_factor(factor):
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * time_s)).astype(np.float32)
    tone[RATE_HZ:] = 0  # the second half is silence, so that the end of the tone shows the duration
    out = augmentations.speed(tone, rng(), RATE_HZ, factor=(factor, factor))
    assert np.fft.rfft(out[: RATE_HZ // 2]).__abs__().argmax() * 2 == pytest.approx(1_000 * factor, abs=2)
    first = out[: round(2 * RATE_HZ / factor)]  # the rest is the beginning, repeated
    assert np.flatnonzero(np.abs(first) > 0.1)[-1] / RATE_HZ == pytest.approx(1 / factor, abs=0.01)
    if factor > 1:
        repeated = out[len(first) + 100 :]
        np.testing.assert_allclose(repeated, out[100 : 100 + len(repeated)], atol=1e-3)


def test_chain_applies_steps_in_order_with_probability(speech):
    both = chain("telephone", ("gain", 1.0))
    one_by_one = rng(5)
    one_by_one.random()
    expected = augmentations.telephone(speech, one_by_one, RATE_HZ)
    one_by_one.random()
    np.testing.assert_array_equal(both(speech, rng(5), RATE_HZ), augmentations.gain(expected, one_by_one, RATE_HZ))
    np.testing.assert_array_equal(chain(("gain", 0.0))(speech, rng(), RATE_HZ), speech)
    draws = rng(0)
    changed = [not np.array_equal(chain(("gain", 0.3))(speech[:100], draws, RATE_HZ), speech[:100]) for _ in range(500)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)


def test_chain_applies_masks_to_features_only(speech):
    spec = get_recipe("mel_dscnn").spec
    masking = chain("time_mask", "frequency_mask")
    np.testing.assert_array_equal(masking(speech, rng(), RATE_HZ), speech)
    features = FrontEnd(spec).features(speech[:RATE_HZ])
    assert not np.array_equal(masking.on_features(features, rng(), spec), features)
    np.testing.assert_array_equal(chain("gain").on_features(features, rng(), spec), features)


def test_invalid_chain_step_is_named():
    with pytest.raises(UsageError, match=r"no augmentation 'echo'; there are gain, noise, .*frequency_mask\.$"):
        chain("echo")
    with pytest.raises(UsageError, match="between 0 and 1"):
        chain(("gain", 1.5))
