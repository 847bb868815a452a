"""How far one array is from what was expected of it: the comparator under every statement that two systems are equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Deviation:
    """The largest difference of two arrays beside what is allowed. `problem` says why they could not be subtracted."""

    largest: float
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """True within the tolerance; a NaN is not, nor is an array of another shape."""
        return not self.problem and self.largest <= self.tolerance

    @property
    def shown(self) -> str:
        """The largest difference with two digits, or with as many as show on which side of the tolerance it is."""
        for digits in range(1, 17):
            text = f"{self.largest:.{digits}e}"
            if (float(text) > self.tolerance) == (self.largest > self.tolerance):
                break
        return text

    @property
    def allowed(self) -> str:
        """The tolerance with as many digits as it has: 1e-04, 2.5e-05."""
        texts = (f"{self.tolerance:.{digits}e}" for digits in range(17))
        return next((text for text in texts if float(text) == self.tolerance), str(self.tolerance))

    def __str__(self) -> str:
        return self.problem or f"{self.shown} (at most {self.allowed})"


def deviation(found: ArrayLike, expected: ArrayLike, tolerance: float, scale: float = 1.0) -> Deviation:
    """Largest absolute difference of two arrays over `scale`, in float64; 0 where both are empty, NaN where any value is.

    Another shape is a deviation without end.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return Deviation(float("inf"), tolerance, f"shape {found.shape} instead of {expected.shape}")
    with np.errstate(invalid="ignore"):  # an infinity less an infinity is NaN, and a NaN does not pass
        largest = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)) / scale
    return Deviation(largest, tolerance)
