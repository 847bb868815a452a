"""Mixtures at known levels, and the second output that is trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pyloudnorm
import pytest

from ms_edge.model.levels import LevelScale
from ms_train.augment import levels as mixtures_module
from ms_train.augment import rooms
from ms_train.augment.levels import CONDITIONS, LEVELS_DB, TRAINING, Condition, Mixtures, loudness
from ms_train.augment.pool import Pool
from ms_train.cli import main as cli
from ms_train.datasets.folder import folder
from ms_train.errors import RunError
from ms_train.recipes import mel_residual
from ms_train.training import level as training
from ms_train.training.bundled import FOLDER
from ms_train.training.runs import TrainedRun

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def pool(copy_by_label, tmp_path_factory) -> Pool:
    dataset = folder(copy_by_label(tmp_path_factory.mktemp("sounds")))
    read = [(recording, recording.read(RATE_HZ)) for recording in dataset.recordings]
    return Pool(read, ("speech", "music"), "independent", mel_residual.SPEC)


@pytest.fixture(scope="module")
def booths(few_rooms):
    return rooms.load("train", RATE_HZ, None)


def test_loudness_is_that_of_the_standard():
    """ITU-R BS.1770-4: a full-scale sine of 997 Hz has -3.01 LKFS; gating leaves silence out."""
    tone = np.sin(2 * np.pi * 997 / RATE_HZ * np.arange(4 * RATE_HZ)).astype(np.float32)
    assert loudness(tone, RATE_HZ) == pytest.approx(-3.01, abs=0.1)
    assert loudness(np.concatenate([tone, 0 * tone]), RATE_HZ) == pytest.approx(-3.01, abs=0.3)
    assert loudness(0 * tone, RATE_HZ) == -np.inf


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_sounds_have_the_stated_levels(pool, seconds, monkeypatch):
    """Measured again by the library, on the two sounds that make the mixture."""
    parts = []
    gained = mixtures_module._gained

    def kept(sound, gain_db):
        parts.append(gained(sound, gain_db))
        return parts[-1]

    monkeypatch.setattr(mixtures_module, "_gained", kept)
    length = round(seconds * RATE_HZ)
    windows, levels_db = Mixtures(pool, (), CONDITIONS["ducked"]).batch(12, length, np.random.default_rng(0), 2)
    meter = pyloudnorm.Meter(RATE_HZ)
    for number, level_db in enumerate(levels_db):
        speech, music = (
            meter.integrated_loudness(part[-length:].astype(float)) for part in parts[2 * number : 2 * number + 2]
        )
        assert speech == pytest.approx(mixtures_module.SPEECH_LUFS, abs=0.05)
        if music > -60:  # near the gate at -70 LUFS, fewer blocks count
            assert music - speech == pytest.approx(level_db, abs=0.1)
        total = (parts[2 * number] + parts[2 * number + 1])[-length:]
        assert np.corrcoef(total, windows[number])[0, 1] > 0.9
    assert len(set(levels_db.tolist())) == 12


@pytest.mark.parametrize("condition", [TRAINING, *CONDITIONS.values()])
def test_mixtures_depend_on_their_seed_only(pool, booths, condition):
    mixtures = Mixtures(pool, booths, condition)
    (one, levels_db), (again, _) = (mixtures.batch(8, RATE_HZ, np.random.default_rng(3), 4) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.isfinite(one).all()
    assert np.abs(one).max() <= 1
    assert LEVELS_DB[0] <= levels_db.min() < levels_db.max() <= LEVELS_DB[1]


def test_sounds_get_another_speed_and_tone():
    """Tones of 1 kHz: the speed changes their frequency, the tone their level."""

    def stretch(label, length, before, rng):
        time_s = np.arange(before + length, dtype=np.float32) / RATE_HZ
        return SimpleNamespace(samples=np.sin(2 * np.pi * 1000 * time_s))

    def sounds(condition: Condition) -> list[np.ndarray]:
        mixtures = Mixtures(SimpleNamespace(spec=mel_residual.SPEC, stretch=stretch), (), condition)
        found = [mixtures._dry("music", RATE_HZ, 4_000, np.random.default_rng(seed)) for seed in range(40)]
        assert {len(each) for each in found} == {RATE_HZ + 4_000}
        return found

    hz = [np.abs(np.fft.rfft(each[-RATE_HZ:])).argmax() for each in sounds(Condition(played=1.0))]
    assert 850 <= min(hz) < 900 < 1100 < max(hz) <= 1180
    levels_db = [20 * np.log10(np.std(each)) for each in sounds(Condition(toned=1.0))]
    assert np.std(levels_db) > 1
    assert np.ptp([np.std(each) for each in sounds(Condition())]) == 0


def test_branch_leaves_the_scores_as_they_are():
    run = TrainedRun.load(Path("bundled"))
    branch, scale = training.read(Path("bundled"))
    network = training.with_level(run.network, branch)
    features = np.random.default_rng(0).normal(-2, 1, (5, 49, 48)).astype(np.float32)
    expected, found = run.network(features, training=False), network(features, training=False)
    for one, other in zip(expected, found, strict=False):
        np.testing.assert_array_equal(one, other)
    assert found[2].shape == (5, 2)
    assert scale.range_db == LEVELS_DB


@pytest.mark.slow
def test_branch_learns_levels(pool):
    run = TrainedRun.load(Path("bundled"))
    rng = np.random.default_rng(0)
    windows, programmes = (
        training.rendered(Mixtures(pool, ()), count, seconds * RATE_HZ, rng, 8)
        for count, seconds in ((512, 1), (64, 8))
    )
    level = training.train(run.network, windows, programmes, 12, 0)
    for features, truth in (windows, programmes):
        levels = training.levels_of(training.with_level(run.network, level), features, run.spec).mean(axis=1)
        assert np.abs(levels[:, 0] - truth).mean() < 8  # 12.5 for one that always answers -5 dB
        assert (levels[:, 1] > 0).all()


def test_programme_loss_combines_as_a_segment():
    """The combined level is that of `LevelScale.combined`, with the width of the 90 % interval."""
    rng = np.random.default_rng(0)
    levels = np.stack([rng.uniform(-20, 10, (3, 89)), rng.uniform(1, 20, (3, 89))], -1).astype(np.float32)
    levels[0, 0, 1] = 0.01  # as sure as no window can be
    truth = np.array([-12.0, 0.0, 7.0], np.float32)
    scale = LevelScale(LEVELS_DB, training.CORRELATION, training.NORMAL)
    found = [scale.combined(each, training.PROGRAMME) for each in levels]
    whole = np.array([[each.db, (each.interval_db[1] - each.db) / training.NORMAL] for each in found], np.float32)
    some = levels[:, :: training.EVERY]
    alone = training.pinball(np.repeat(truth, some.shape[1]), some.reshape(-1, 2))
    assert float(training.programme_loss(truth, levels)) == pytest.approx(
        float(alone + training.pinball(truth, whole)), abs=1e-3
    )


def test_calibrated_intervals_cover():
    """Errors of windows with a common part: more windows do not remove it."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(-25, 15, 400)
    given = []
    for windows in (1, 10):
        errors = rng.normal(0, 3, (400, 1)) + rng.normal(0, 4, (400, windows))
        levels = np.stack([truth[:, None] + errors, np.full(errors.shape, 5.0)], -1).astype(np.float32)
        given.append((float(windows), levels, truth.astype(np.float32)))
    scale = training.calibrated(given)
    for found in training.accuracies(scale, given).values():
        assert 0.89 <= found["covered"] <= 0.98
    (one, ten) = training.accuracies(scale, given).values()
    assert ten["error_db"] < one["error_db"]
    assert ten["interval_db"] < one["interval_db"]


def test_other_networks_are_refused():
    network = keras.Sequential([keras.Input((49, 48)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(RunError, match="only a network of mel_residual can learn levels"):
        training.taps(network)


@pytest.mark.slow
def test_command_trains_and_writes_a_run(copy_by_label, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "PROGRAMMES", 8)
    monkeypatch.setattr(training, "PROGRAMMES_OF", (1, 3))
    copy_by_label(tmp_path / "sounds")
    run = tmp_path / "run"
    data = f"folder:{tmp_path / 'sounds'}"
    # A run folder like the bundled one, of the sample recordings.
    names = [recording.name for recording in folder(tmp_path / "sounds").recordings]
    loaded = TrainedRun.load(FOLDER)
    split = {"train": names, "val": names, "test": []}
    monkeypatch.setattr(TrainedRun, "load", lambda _: type(loaded)(**{**vars(loaded), "split": split}))
    command = ["level", "bundled", "--data", data, "--mixtures", "64", "--cache", str(tmp_path / "cache"), "--out"]
    assert cli.main([*command, str(run)]) == 0
    out = capsys.readouterr().out
    assert "val, 1 windows: error" in out
    facts = json.loads((run / "level.json").read_text())
    assert facts["mixtures"] == 64
    branch, scale = training.read(run)
    assert scale == LevelScale(LEVELS_DB, facts["correlation"], facts["width"])
    assert branch.output_shape[-1] == 2
    assert cli.main([*command, str(run)]) == 2
    assert "exists; give --out a new folder" in capsys.readouterr().err
    # Again, with the mixtures from the cache.
    monkeypatch.setattr(training, "rendered", None)
    assert cli.main([*command, str(tmp_path / "again")]) == 0
    again, scale_again = training.read(tmp_path / "again")
    assert scale_again == scale
    for one, other in zip(branch.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
