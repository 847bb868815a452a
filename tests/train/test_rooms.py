"""Simulated rooms: their properties, and the same rooms for the same seeds."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ms_edge.errors import MsEdgeError, UsageError
from ms_train.augment import rooms

RATE_HZ = 16_000
RAYS = rooms.RAYS  # tests that train have fewer


@pytest.fixture(scope="module", autouse=True)
def _as_many_rays_as_in_trainings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "RAYS", RAYS)
        yield


@pytest.fixture(scope="module")
def two() -> tuple[rooms.Room, rooms.Room]:
    return rooms.simulate("train", (1, 0), RATE_HZ), rooms.simulate("test", (1, 3), RATE_HZ)


def test_responses_begin_with_the_direct_sound_and_decay(two):
    for room in two:
        assert len(room.responses) == len(room.direct_db) == rooms.PLACES
        assert 0.1 < room.rt60_s < rooms.LONGEST_S
        for response in room.responses:
            assert response.dtype == np.float32
            assert np.sum(response**2) == pytest.approx(1, rel=1e-3)
            first = np.flatnonzero(np.abs(response) > 0.2 * np.abs(response).max())[0]
            assert first <= rooms.LEAD + 2
            half = len(response) // 2
            assert np.sum(response[half:] ** 2) < 0.05
            assert len(response) <= rooms.LONGEST_S * RATE_HZ


def test_decay_time_of_a_known_decay_is_measured():
    noise = np.random.default_rng(0).standard_normal(RATE_HZ)
    response = noise * 10 ** (-3 * np.arange(RATE_HZ) / (0.6 * RATE_HZ))
    assert rooms.decay_s(response, RATE_HZ) == pytest.approx(0.6, rel=0.1)


def test_places_are_near_and_far(two):
    each = [db for room in two for db in room.direct_db]
    assert max(each) - min(each) > 5


def test_same_seed_gives_the_same_room():
    one, again, other = (rooms.simulate("val", (2, number), RATE_HZ) for number in (0, 0, 1))
    for a, b in zip(one.responses, again.responses, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(one.responses[0]) != len(other.responses[0]) or (one.responses[0] != other.responses[0]).any()


def test_rooms_are_kept_and_read_back(tmp_path, monkeypatch):
    made = rooms.load("val", RATE_HZ, tmp_path)
    monkeypatch.setattr(rooms, "simulate", None)
    read = rooms.load("val", RATE_HZ, tmp_path)
    assert [room.kind for room in made] == [room.kind for room in read]
    for one, other in zip(made, read, strict=True):
        assert one.direct_db == other.direct_db
        for a, b in zip(one.responses, other.responses, strict=True):
            np.testing.assert_array_equal(a, b)


def test_splits_share_no_room(tmp_path):
    found = {split: rooms.load(split, RATE_HZ, None) for split in ("train", "val")}
    lengths = {split: {len(response) for room in each for response in room.responses} for split, each in found.items()}
    assert not lengths["train"] & lengths["val"]
    assert len({rooms.digest(split, RATE_HZ) for split in rooms.ROOMS}) == 3


def test_unknown_split_and_missing_package_are_named(monkeypatch):
    with pytest.raises(UsageError, match="no rooms for 'final'; there are train, val, test"):
        rooms.load("final", RATE_HZ, None)
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MsEdgeError, match="pip install pyroomacoustics"):
        rooms.simulate("train", (1, 0), RATE_HZ)
