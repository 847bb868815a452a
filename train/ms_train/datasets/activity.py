"""Where in a recording something sounds: levels of short frames against its loud parts and its
background.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32
from ms_train.signals import Audio, Rng

VERSION = 1  # raise it when the same recording gets another activity
FRAME_S = 0.02
BELOW_LOUD_DB = 35.0  # below the 95th percentile of the frames' levels a frame is a pause,
NOISE_MARGIN_DB = 6.0  # and so it is within this of the background (the 10th percentile),
LEAST_BELOW_DB = 10.0  # unless it is within this of the loud parts: music has no background
FLOOR_DB = -80.0  # of full scale: below it there is a 16-bit file's own noise
MARGIN = 3  # frames before and after a recording's first and last active one that belong to it: it rises and decays
BLOCK_FRAMES = 50_000


def activity(samples: Float32, sample_rate_hz: int) -> NDArray[np.bool_]:
    """Which frames of 20 ms of a recording (n,) are active, (n // frame,) bool; the rest of the
    last frame is not looked at.
    """
    frame = frame_samples(sample_rate_hz)
    count = len(samples) // frame
    level = np.empty(count, np.float32)
    for start in range(0, count, BLOCK_FRAMES):  # `samples` may lie on disk
        block = samples[start * frame : min(count, start + BLOCK_FRAMES) * frame].reshape(-1, frame)
        block = block - block.mean(axis=1, keepdims=True)  # an offset is no sound
        level[start : start + len(block)] = np.einsum("ij,ij->i", block, block) / frame
    if not count:
        return np.zeros(0, bool)
    level = 10 * np.log10(level + 1e-12)
    background, loud = np.percentile(level, [10, 95])
    limit = min(max(loud - BELOW_LOUD_DB, background + NOISE_MARGIN_DB), loud - LEAST_BELOW_DB)
    return np.asarray(level > max(limit, FLOOR_DB))


def frame_samples(sample_rate_hz: int) -> int:
    """Samples of a frame."""
    return round(FRAME_S * sample_rate_hz)


class Sound:
    """A recording and where in it something sounds."""

    def __init__(self, audio: Audio, active: NDArray[np.bool_], sample_rate_hz: int) -> None:
        self.audio = audio
        self.frame = frame = frame_samples(sample_rate_hz)
        self._before = np.concatenate([[0], np.cumsum(active, dtype=np.int64)])
        inside = np.flatnonzero(active)
        self.first = max(0, int(inside[0]) - MARGIN) * frame if len(inside) else 0
        self.end = min(len(audio), (int(inside[-1]) + 1 + MARGIN) * frame) if len(inside) else len(audio)

    @property
    def active_samples(self) -> int:
        """Samples that sound."""
        return int(self._before[-1]) * self.frame

    def active_in(self, start: int, end: int) -> int:
        """Samples that sound from `start` to `end`."""
        low, high = (min(max(0, place) // self.frame, len(self._before) - 1) for place in (start, end))
        return int(self._before[high] - self._before[low]) * self.frame

    def start(self, length: int, need: int, rng: Rng, slack: int = 0) -> int:
        """Where a cut of `length` begins, any place alike whose cut has `need` active samples
        `slack` from its ends.

        Where no cut has so many, the cut that has most.
        """
        last = max(0, len(self.audio) - length)
        place = np.arange(0, last + 1, self.frame)
        ends = np.minimum((place + length - slack) // self.frame, len(self._before) - 1)
        begins = np.minimum(-(-(place + slack) // self.frame), ends)
        sounding = (self._before[ends] - self._before[begins]) * self.frame
        wanted = np.flatnonzero(sounding >= need)
        return int(place[rng.choice(wanted) if len(wanted) else sounding.argmax()])
