"""The level of the music relative to the speech: from the answers for windows to one for a segment.

For each window a network gives a level and its standard deviation, in dB. The level is the
integrated loudness (ITU-R BS.1770-4) of the music minus that of the speech. In training it was
uniform over some range, and a window that says little answers near the middle of that range. Windows
of one segment together say more: their answers are combined as Gaussian evidence (a product of
experts, Hinton 2002), with the range as the prior. Errors of windows of one recording are correlated,
so n windows count for less than n.
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
        middle, spread = (low + high) / 2, (high - low) / np.sqrt(12)
        values: NDArray[np.float64] = levels.astype(np.float64)
        inverse = np.clip(values[:, 1], LEAST_DEVIATION_DB, spread) ** -2.0
        windows = max(1.0, min(windows, len(values)))
        worth = windows / (1 + (windows - 1) * self.correlation) / len(values)  # of each window
        precision = spread**-2 + worth * float(np.sum(inverse - spread**-2))
        db = middle + worth * float(np.sum((values[:, 0] - middle) * inverse)) / precision
        db = min(max(db, low), high)
        half = float(self.width / np.sqrt(precision))
        return Level(db, (max(low, db - half), min(high, db + half)))
