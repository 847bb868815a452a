"""The level of the music relative to the speech: from the answers for windows to one for a segment.

For each window a network gives a level and its standard deviation, in dB. The level is the
integrated loudness (ITU-R BS.1770-4) of the music minus that of the speech. In training it was
uniform over some range, and a window that says little answers near the middle of that range, with
a large deviation. The level of a segment is the mean of its windows, weighted by their precision
(the inverse of the squared deviation). Errors of windows of one recording are correlated, so n
windows narrow the interval less than n independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ms_edge.arrays import Float32

LEAST_DEVIATION_DB = 0.1


@dataclass(frozen=True)
class Level:
    """The level of the music relative to the speech in dB, and the ends of the interval that holds
    the true level in 90 % of all cases.
    """

    db: float
    interval_db: tuple[float, float]


@dataclass(frozen=True)
class LevelScale:
    """What turns the levels of windows into that of a segment. The model file states it.

    `range_db` are the lowest and the highest level in training. `correlation`, 0 to 1, is that of
    the errors of two windows of one recording. `width` is half the interval in standard deviations.
    Training fits the last two on recordings that the network was not trained on.
    """

    range_db: tuple[float, float]
    correlation: float
    width: float

    def combined(self, levels: Float32, windows: float) -> Level:
        """Return the level of a segment from those of its windows (n, 2), n > 0: level and deviation.

        `windows` is the duration of the segment in windows, since overlapping ones are no new
        evidence. The interval lies within the range.
        """
        low, high = self.range_db
        values: NDArray[np.float64] = levels.astype(np.float64)
        precision = np.clip(values[:, 1], LEAST_DEVIATION_DB, (high - low) / np.sqrt(12)) ** -2.0
        windows = max(1.0, min(windows, len(values)))
        worth = windows / (1 + (windows - 1) * self.correlation)  # in windows whose errors are independent
        db = float(np.sum(values[:, 0] * precision) / np.sum(precision))
        db = min(max(db, low), high)
        half = float(self.width / np.sqrt(worth * np.mean(precision)))
        return Level(db, (max(low, db - half), min(high, db + half)))
