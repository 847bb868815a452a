from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import batches, is_silent, owned_samples, silent_windows, windows

SPEC = FrontEndSpec(4_000, 64, 32, 64, clip_s=0.25, hop_s=0.25)  # clips of 1,000 samples
OVERLAPPING = dataclasses.replace(SPEC, hop_s=0.1)


def in_blocks(samples, size):
    return (samples[start : start + size] for start in range(0, len(samples), size))


def starts(length, spec=SPEC):
    return [start for start, _ in windows([np.arange(length, dtype=np.float32)], spec)]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, []),
        (1, [0]),
        (999, [0]),
        (1000, [0]),
        (1001, [0, 1]),
        (1500, [0, 500]),
        (2000, [0, 1000]),
        (2001, [0, 1000, 1001]),
    ],
)
def test_last_window_ends_with_the_stream(length, expected):
    assert starts(length) == expected


def test_overlapping_windows_cover_the_end():
    assert starts(1750, OVERLAPPING) == [0, 400, 750]
    assert starts(1800, OVERLAPPING) == [0, 400, 800]


def test_short_audio_is_repeated():
    ((start, window),) = windows([np.arange(300, dtype=np.float32)], SPEC)
    assert start == 0
    np.testing.assert_array_equal(window, np.tile(np.arange(300), 4)[:1000])


@pytest.mark.parametrize("spec", [SPEC, OVERLAPPING])
@pytest.mark.parametrize("length", [700, 1000, 1001, 5399, 5400, 5401])
@pytest.mark.parametrize("size", [1, 37, 400, 1000, 100_000])
def test_windows_do_not_depend_on_block_size(spec, length, size):
    samples = np.arange(length, dtype=np.float32)
    expected = [(start, window.copy()) for start, window in windows([samples], spec)]
    found = list(windows(in_blocks(samples, size), spec))
    assert [start for start, _ in found] == [start for start, _ in expected]
    for (start, window), (_, other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(window, other)
        if length >= spec.clip_samples:
            np.testing.assert_array_equal(window, samples[start : start + spec.clip_samples])


@pytest.mark.parametrize("spec", [SPEC, OVERLAPPING])
@pytest.mark.parametrize("length", [700, 1000, 1001, 5399, 5400, 5401])
@pytest.mark.parametrize("size", [2, 3, 5, 100])
def test_batches_hold_all_windows(spec, length, size):
    samples = np.random.default_rng(0).uniform(-1, 1, length).astype(np.float32)
    samples[: length // 2] *= 1e-5
    expected = list(windows([samples], spec))
    for blocks in ([samples], in_blocks(samples, 37)):
        found = [dataclasses.replace(batch, samples=batch.samples.copy()) for batch in batches(blocks, spec, size)]
        assert all(len(batch.starts) == size for batch in found[:-1])
        assert np.concatenate([batch.starts for batch in found]).tolist() == [start for start, _ in expected]
        clips = [batch.samples[at:][: spec.clip_samples] for batch in found for at in batch.offsets]
        for clip, (_, window) in zip(clips, expected, strict=True):
            np.testing.assert_array_equal(clip, window)
        silent = np.concatenate([silent_windows(batch) for batch in found])
        assert silent.tolist() == [is_silent(window) for _, window in expected]


def test_long_stream_needs_little_memory():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 100
            yield np.zeros(100, np.float32)

    list(itertools.islice(windows(endless(), SPEC), 50))
    assert taken <= 50 * 1000 + 100


@pytest.mark.parametrize("length", [300, 1000, 1001, 5400, 12_345])
@pytest.mark.parametrize("spec", [SPEC, OVERLAPPING])
def test_every_sample_belongs_to_one_window(length, spec):
    found = np.array(starts(length, spec))
    owned = owned_samples(found, spec.clip_samples, length)
    assert owned.sum() == length
    assert (owned > 0).all()


def test_silence_is_below_minus_70_dbfs():
    tone = np.sin(np.arange(1000, dtype=np.float32)) * np.float32(np.sqrt(2))
    assert is_silent(np.zeros(1000, np.float32))
    assert is_silent(tone * np.float32(10 ** (-71 / 20)))
    assert not is_silent(tone * np.float32(10 ** (-69 / 20)))
