"""Rendered windows on disk: the same for any number of processes, and all used before any is
repeated.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
from collections import Counter

import numpy as np
import pytest

from ms_edge.audio.file import read_mono
from ms_edge.errors import MsEdgeError
from ms_train.augment import bank as banks
from ms_train.augment import store as stores
from ms_train.augment.augmentations import chain
from ms_train.augment.bank import Bank, Plan
from ms_train.augment.pool import Pool
from ms_train.augment.scenes import Scenes
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.frontend import FrontEndLayer, clip_features
from ms_train.recipes.by_name import get_recipe
from ms_train.training.batches import BankBatches, chances_of_lengths, counts_of, lengths_of_batches
from ms_train.training.rendering import batches_of

RATE_HZ = 16_000
SPEC = get_recipe("mel_patches").spec
HALF, ONE = RATE_HZ // 2, RATE_HZ


@pytest.fixture(scope="module")
def plan(samples) -> Plan:
    recordings = [
        (
            Recording(path.stem, path.name.partition("_")[0], path.stem, path.stem, lambda rate: None),
            read_mono(path, RATE_HZ),
        )
        for path in samples
    ]
    scenes = Scenes(Pool(recordings, ("speech", "music"), "independent", SPEC))
    return Plan(scenes, chain("channel", ("time_mask", 0.5)), {HALF: 20, ONE: 30}, 7)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(banks, "CHUNK_S", 4.0)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_bank_bytes_do_not_depend_on_processes(plan, tmp_path, monkeypatch):
    Bank(tmp_path / "one", plan, tmp_path)
    monkeypatch.setattr(banks, "PARALLEL_S", 0.0)
    Bank(tmp_path / "two", plan, tmp_path)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    other = Bank(tmp_path / "other", dataclasses.replace(plan, seed=8), tmp_path, 1)
    assert content(tmp_path / "other") != content(tmp_path / "one")
    assert other.counts == {HALF: 20, ONE: 30}


def test_an_interrupted_bank_is_finished(plan, tmp_path, monkeypatch):
    Bank(tmp_path / "whole", plan, tmp_path)
    rendered, render = [], Plan.render

    def stopping(self, chunk):
        if len(rendered) == 5:
            raise KeyboardInterrupt
        rendered.append(chunk)
        return render(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(Plan, "render", stopping)
        with pytest.raises(KeyboardInterrupt):
            Bank(tmp_path / "part", plan, tmp_path)
    again = []
    monkeypatch.setattr(Plan, "render", lambda self, chunk: again.append(chunk) or render(self, chunk))
    Bank(tmp_path / "part", plan, tmp_path)
    assert content(tmp_path / "part") == content(tmp_path / "whole")
    assert not set(again) & set(rendered)
    assert len(again) + 5 == len(list(plan.chunks()))
    Bank(tmp_path / "part", plan, tmp_path)
    assert len(again) + 5 == len(list(plan.chunks()))


def test_torn_bank_file_is_rendered_again(plan, tmp_path):
    Bank(tmp_path / "bank", plan, tmp_path)
    before = content(tmp_path / "bank")
    (tmp_path / "bank" / f"{ONE}.spectra.f16").write_bytes(b"some of it")
    Bank(tmp_path / "bank", plan, tmp_path)
    assert content(tmp_path / "bank") == before


def test_without_a_folder_nothing_is_left_on_disk(plan, tmp_path):
    kept, passing = Bank(tmp_path / "bank", plan, tmp_path), Bank(None, plan, tmp_path)
    for length in (HALF, ONE):
        one, other = (bank.features(length, np.arange(20), np.random.default_rng(0)) for bank in (kept, passing))
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]


def test_each_use_has_another_place_and_level(plan, tmp_path):
    bank = Bank(None, plan, tmp_path)
    rng = np.random.default_rng(0)
    uses = [bank.features(ONE, [3], rng) for _ in range(40)]
    levels = [20 * np.log10(np.sqrt(np.mean(np.exp(features) ** 2))) for features, _ in uses]
    assert max(levels) - min(levels) > 6
    assert {tuple(targets[0]) for _, targets in uses} == {tuple(uses[0][1][0])}
    assert len({features.tobytes() for features, _ in uses}) == 40
    spectra = [features[0].mean(axis=0) for features, _ in uses]
    assert np.median([np.corrcoef(spectrum, spectra[0])[0, 1] for spectrum in spectra]) > 0.9


@pytest.mark.parametrize("recipe", ["mel_patches", "logstft_cnn", pytest.param("resized_cnn", marks=pytest.mark.slow)])
def test_features_match_the_rendered_windows(plan, tmp_path, monkeypatch, recipe):
    """Compare with TensorFlow's front end: mel bands and bins, with and without logarithm, in both
    layouts.
    """
    monkeypatch.setattr(banks, "GAIN_DB", (0.0, 0.0))
    spec = get_recipe(recipe).spec
    pool = copy.copy(plan.scenes.pool)
    pool.spec = spec
    plan = dataclasses.replace(plan, scenes=Scenes(pool), counts={spec.clip_samples: 8})
    bank = Bank(None, plan, tmp_path)
    windows, targets = plan.render(next(plan.chunks()))
    used, rows = bank.features(spec.clip_samples, np.arange(len(windows)), np.random.default_rng(0))
    np.testing.assert_array_equal(targets, rows)
    layer = FrontEndLayer(spec)
    for features, window in zip(used, windows, strict=True):
        starts = range(0, plan.slack + 1, spec.frame_step)
        cuts = clip_features(layer, np.stack([window[at : at + spec.clip_samples] for at in starts]))
        assert features.shape == spec.feature_shape
        np.testing.assert_allclose(
            min(np.abs(cuts - features).reshape(len(cuts), -1).max(axis=1)), 0, atol=1e-3
        )  # float16 has 5e-4


def test_levels_never_clip_samples(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(banks, "GAIN_DB", (60.0, 60.0))
    bank = Bank(None, plan, tmp_path)
    windows, _ = plan.render(next(chunk for chunk in plan.chunks() if chunk[0] == ONE))
    loudest = FrontEndLayer(SPEC)(windows[:1] / np.abs(windows[0]).max()).numpy().max()
    features, _ = bank.features(ONE, [0], np.random.default_rng(0))
    assert features.max() <= loudest + 1e-2


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_full_disk_gives_one_sentence(plan, tmp_path, monkeypatch, when):
    if when == "before":
        monkeypatch.setattr(stores.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    else:

        def full(self, *args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(stores.Store, "write", full)
    with pytest.raises(MsEdgeError, match=r"GB of training windows cannot be written \(no space left on device\)"):
        Bank(tmp_path / "bank", plan, tmp_path)


def test_unwritable_bank_folder_is_reported(plan, tmp_path, capsys):
    (tmp_path / "file").touch()
    bank = Bank(tmp_path / "file" / "bank", plan, tmp_path)
    assert bank.features(ONE, [0], np.random.default_rng(0))[0].shape == (1, *SPEC.feature_shape)
    assert capsys.readouterr().err.count("windows are not kept") == 1


# Batches of windows.


def batches(plan, tmp_path, steps=10) -> BankBatches:
    chances = chances_of_lengths(SPEC, {0.5: 0.5, 1.0: 0.5})
    lengths = lengths_of_batches(3 * steps, chances, 7)
    counts = counts_of(lengths, chances, 4, 60)
    bank = Bank(None, dataclasses.replace(plan, counts=counts), tmp_path)
    return BankBatches(bank, 4, steps, lengths, lambda rows: rows)


def test_every_window_is_used_before_any_repeats(plan, tmp_path, monkeypatch):
    found, used = batches(plan, tmp_path), Counter()
    features = Bank.features

    def counted(self, length, rows, rng):
        used.update((length, int(row)) for row in rows)
        return features(self, length, rows, rng)

    monkeypatch.setattr(Bank, "features", counted)
    for number in range(30):
        found._batch(np.int64(number))
    assert sum(used.values()) == 120
    assert len(used) == sum(found._bank.counts.values())
    assert set(used.values()) <= {1, 2, 3}


def test_training_can_start_at_any_epoch(plan, tmp_path):
    found = batches(plan, tmp_path, steps=4)
    whole = [tuple(part.numpy() for part in batch) for batch in found.dataset(0).take(8)]
    later = [tuple(part.numpy() for part in batch) for batch in found.dataset(1).take(4)]
    for one, other in zip(whole[4:], later, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert {features.shape[1] for features, _ in whole} == {24, 49}


def test_bank_holds_at_most_the_used_windows():
    chances = chances_of_lengths(SPEC, {0.5: 0.1, 1.0: 0.9})
    lengths = lengths_of_batches(1000, chances, 0)
    assert sum(counts_of(lengths, chances, 8, 10**6).values()) == 8000
    assert counts_of(lengths, chances, 8, 2000) == {HALF: 200, ONE: 1800}
    assert counts_of(np.full(5, ONE), chances_of_lengths(SPEC, None), 8, 10**6) == {ONE: 40}


def test_longer_trainings_and_other_masks_share_a_bank(samples, tmp_path):
    data = Dataset("d", ("speech", "music"), "independent", ())
    recordings = [
        (Recording(path.stem, path.name.partition("_")[0], path.stem, path.stem, len), read_mono(path, RATE_HZ))
        for path in samples
    ]
    recipe = dataclasses.replace(
        get_recipe("mel_patches"), batch_size=2, steps_per_epoch=5, bank_windows=8, clip_lengths_s=None
    )
    for epochs, augment in ((1, recipe.augment), (3, recipe.augment), (3, chain(("codec", 0.12), "channel"))):
        trained = dataclasses.replace(recipe, augment=augment)
        batches_of(
            recordings, data, trained, lambda rows: rows,
            epochs=epochs, seed=0, cache=Cache(tmp_path), out=tmp_path,
        )  # fmt: skip
        assert len(list(tmp_path.glob("bank-*"))) == 1
    batches_of(
        recordings, data, recipe, lambda rows: rows,
        epochs=1, seed=1, cache=Cache(tmp_path), out=tmp_path,
    )  # fmt: skip
    assert len(list(tmp_path.glob("bank-*"))) == 2


def test_digest_depends_on_data_seed_and_code(monkeypatch):
    one = banks.digest({"seed": 1})
    assert one == banks.digest({"seed": 1})
    assert one != banks.digest({"seed": 2})
    monkeypatch.setattr(banks, "LIBRARIES", ("numpy",))
    assert one != banks.digest({"seed": 1})
