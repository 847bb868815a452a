"""What a page draws of a recording itself: the peaks of its waveform and the scores of its windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32

LEVELS_DB = (-30.0, 20.0)  # what the curve of levels shows
BIN_S = 0.02  # time that a peak stands for at first, in seconds
MAX_BINS = 1 << 18  # 1.5 hours of such peaks; longer recordings have coarser ones


@dataclass(frozen=True)
class Sound:
    """What was read from a recording: for each value, 255 is full scale.

    `peaks` (bins,) uint8 are the largest magnitudes of equal stretches of time. `scores` (windows, labels)
    uint8 are the probabilities of the windows whose middles are at `centres_s` (windows,). `levels`
    (windows,) uint8 are the levels of the music relative to the speech, 1 for -30 dB or less and 255
    for 20 dB or more, 0 where there is none; None if there is none at all.
    """

    peaks: NDArray[np.uint8]
    scores: NDArray[np.uint8]
    centres_s: NDArray[np.float64]
    levels: NDArray[np.uint8] | None = None


class Peaks:
    """The largest magnitude in each short stretch of a recording, in bounded memory.

    `add` takes the samples in order. `bin_s` is the time that one value stands for, in seconds; it
    doubles whenever there are more than `most` values.
    """

    def __init__(self, sample_rate_hz: int, most: int = MAX_BINS) -> None:
        self._rate, self._most = sample_rate_hz, most
        self._bin = max(1, round(BIN_S * sample_rate_hz))  # samples
        self._found = np.empty(0, np.float32)  # complete bins, filled up to `_count`
        self._count = 0
        self._rest = np.empty(0, np.float32)  # samples of the bin that is not complete

    @property
    def bin_s(self) -> float:
        """The time that one value stands for, in seconds."""
        return self._bin / self._rate

    def add(self, samples: Float32) -> None:
        """Take the next samples (n,) float32, with a full scale of 1."""
        joined = np.concatenate((self._rest, samples))
        whole = len(joined) // self._bin * self._bin
        self._rest = joined[whole:].copy()
        self._append(np.abs(joined[:whole]).reshape(-1, self._bin).max(axis=1, initial=0))
        while self._count > self._most:
            pairs = self._count // 2 * 2
            if self._count % 2:  # the last bin becomes part of the rest, as its peak
                self._rest = np.concatenate((np.full(self._bin, self._found[self._count - 1]), self._rest))
            self._found = self._found[:pairs].reshape(-1, 2).max(axis=1)
            self._count, self._bin = pairs // 2, self._bin * 2

    def _append(self, values: Float32) -> None:
        total = self._count + len(values)
        if total > len(self._found):
            grown = np.empty(max(total, 2 * len(self._found), 1024), np.float32)
            grown[: self._count] = self._found[: self._count]
            self._found = grown
        self._found[self._count : total] = values
        self._count = total

    def values(self) -> NDArray[np.uint8]:
        """Return the peaks (bins,), of which 255 is full scale."""
        rest = [np.abs(self._rest).max()] if len(self._rest) else []
        every = np.concatenate((self._found[: self._count], np.array(rest, np.float32)))
        return eight_bits(every)


def level_bytes(levels_db: NDArray[np.float64]) -> NDArray[np.uint8] | None:
    """Return levels (windows,) in dB, NaN where there is none, as `Sound.levels` holds them."""
    if np.isnan(levels_db).all():
        return None
    low, high = LEVELS_DB
    steps = np.round(1 + 254 * np.clip((levels_db - low) / (high - low), 0, 1))
    return np.nan_to_num(steps, nan=0.0).astype(np.uint8)


def eight_bits(values: Float32) -> NDArray[np.uint8]:
    """Return values from 0 to 1 as integers from 0 to 255. Larger ones become 255."""
    return np.round(np.minimum(values, 1) * 255).astype(np.uint8)
