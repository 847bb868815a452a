"""How far one array differs from another.

Every statement of this project that two systems agree rests on this comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Deviation:
    """The largest difference between two arrays, and the tolerance for it.

    `problem` says why the arrays could not be subtracted; it is empty if they could.
    """

    largest: float
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """True if the difference is within the tolerance; never for NaN or arrays of different shapes."""
        return not self.problem and self.largest <= self.tolerance

    @property
    def shown(self) -> str:
        """The largest difference with two digits, or as many as a comparison with the tolerance needs."""
        for digits in range(1, 17):
            text = f"{self.largest:.{digits}e}"
            if (float(text) > self.tolerance) == (self.largest > self.tolerance):
                break
        return text

    @property
    def allowed(self) -> str:
        """The tolerance with all of its digits: 1e-04, 2.5e-05."""
        texts = (f"{self.tolerance:.{digits}e}" for digits in range(17))
        return next((text for text in texts if float(text) == self.tolerance), str(self.tolerance))

    def __str__(self) -> str:
        return self.problem or f"{self.shown} (at most {self.allowed})"


def deviation(found: ArrayLike, expected: ArrayLike, tolerance: float, scale: float = 1.0) -> Deviation:
    """Return the largest absolute difference of two arrays, divided by `scale`, computed in float64.

    It is 0 if both arrays are empty, NaN if any value is NaN, and infinite if the shapes differ.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return Deviation(float("inf"), tolerance, f"shape {found.shape} instead of {expected.shape}")
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, which does not pass
        largest = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)) / scale
    return Deviation(largest, tolerance)
