from __future__ import annotations

import numpy as np
import pytest

from ms_train.augment import Pool, channel, coloured_noise, mix, random_batch, rms
from ms_train.datasets import Recording
from ms_train.recipes import get_recipe

LABELS = ("speech", "music")
RECIPE = get_recipe("mel_dscnn")


@pytest.fixture
def pool() -> Pool:
    def tone(hz, seconds):
        return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)

    sounds = [
        ("speech", "a", tone(200, 0.4)),
        ("speech", "b", tone(300, 5)),
        ("music", "c", tone(1000, 30)),
        (None, "d", tone(5000, 3)),
    ]
    recordings = [
        (Recording(f"{source}", label, source, "", lambda rate: np.zeros(1)), audio) for label, source, audio in sounds
    ]
    return Pool(recordings, LABELS, "independent", RECIPE.spec)


def test_same_seed_same_batches(pool):
    one, other, different = (
        random_batch(pool, channel, RECIPE.batch_size, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(one[0], different[0])


def test_batches_have_every_kind_of_target_and_sane_samples(pool):
    samples, targets = random_batch(pool, channel, RECIPE.batch_size, np.random.default_rng(0))
    assert samples.shape == (RECIPE.batch_size, 16_000)
    assert samples.dtype == targets.dtype == np.float32
    assert np.abs(samples).max() <= 1
    assert {tuple(row) for row in targets} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_targets_say_what_is_in_the_window(pool, monkeypatch):
    monkeypatch.setattr("ms_train.augment.BACKGROUND_SHARE", 0.0)  # noise may be as loud as what is looked for
    rng = np.random.default_rng(0)
    for _ in range(200):
        window, target = pool.draw(16_000, rng)
        spectrum = np.abs(np.fft.rfft(window))
        heard = {"speech": max(spectrum[190:211].max(), spectrum[290:311].max()), "music": spectrum[990:1011].max()}
        if target.any():
            for label, present in zip(LABELS, target, strict=True):
                assert (heard[label] > 100) == bool(present)


def test_clips_of_a_batch_are_of_one_of_the_lengths(pool):
    lengths = {
        random_batch(pool, channel, 2, np.random.default_rng(seed), {0.5: 0.5, 2.0: 0.5})[0].shape for seed in range(20)
    }
    assert lengths == {(2, 8_000), (2, 32_000)}


def test_channel_keeps_the_length_and_hides_the_level():
    rng = np.random.default_rng(0)
    levels = []
    for _ in range(100):
        out = channel((0.1 * rng.standard_normal(16_000)).astype(np.float32), rng, 16_000)
        assert out.shape == (16_000,)
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        levels.append(20 * np.log10(rms(out)))
    assert min(levels) < -40
    assert max(levels) > -16


def test_mix_has_the_difference_asked_for():
    rng = np.random.default_rng(0)
    loud, quiet = coloured_noise(16_000, rng), 5 * coloured_noise(16_000, rng)
    added = mix(loud, quiet, 6.0) - loud
    assert 20 * np.log10(rms(loud) / rms(added)) == pytest.approx(6.0, abs=0.01)


def test_channel_draws_and_gives_what_it_did():
    """The random stream to the bit, the samples to what processors may differ in: who changes it makes another model."""
    rng = np.random.default_rng(42)
    samples = (0.1 * np.random.default_rng(7).standard_normal(16_000)).astype(np.float32)
    outs = np.stack([channel(samples, rng, 16_000) for _ in range(60)])
    assert rng.bit_generator.state["state"]["state"] == 328840017440933070221588557380787512232
    np.testing.assert_allclose(np.sqrt(np.mean(outs**2)), 0.0923646, rtol=1e-5)
    np.testing.assert_allclose(
        outs[::12, 8_000], [-0.00616681, -0.05783543, -0.11162138, -0.01432102, -0.01424474], rtol=1e-3
    )
