"""The comparison behind every parity statement must never pass by mistake."""

from __future__ import annotations

import numpy as np
import pytest

from ms_edge.selftest.deviation import Deviation, deviation


def test_the_largest_difference_decides():
    found = deviation(np.array([1.0, 2.0, 3.5], np.float32), [1.0, 2.25, 3.0], 0.5)
    assert found.largest == 0.5
    assert found.passed
    assert not deviation([1.0, 2.0, 3.5], [1.0, 2.25, 3.0], 0.49).passed
    assert deviation([10.0], [11.0], 0.5, scale=4.0).largest == 0.25


def test_integers_do_not_wrap_around():
    assert deviation(np.array([0], np.uint8), np.array([1], np.uint8), 0.5).largest == 1.0


@pytest.mark.parametrize("found", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_do_not_pass(found):
    assert not deviation([found, 0.0], [0.0, 0.0], 1e9).passed
    assert not deviation([0.0, 0.0], [found, 0.0], 1e9).passed
    assert not deviation([found], [found], 1e9).passed


def test_arrays_of_other_shapes_do_not_pass():
    found = deviation(np.zeros((3, 1)), np.zeros((3, 4)), 1.0)
    assert not found.passed
    assert str(found) == "shape (3, 1) instead of (3, 4)"


def test_empty_arrays_are_equal():
    assert deviation(np.zeros((0, 4)), np.zeros((0, 4)), 0.0).passed


@pytest.mark.parametrize(
    ("largest", "tolerance", "text"),
    [
        (2.6e-5, 2.5e-5, "2.6e-05 (at most 2.5e-05)"),
        (2.504e-5, 2.5e-5, "2.504e-05 (at most 2.5e-05)"),
        (2.499e-5, 2.5e-5, "2.5e-05 (at most 2.5e-05)"),
        (1.04e-3, 1e-3, "1.04e-03 (at most 1e-03)"),
        (np.nextafter(0.1, 1), 0.1, "1.0000000000000002e-01 (at most 1e-01)"),
        (0.0, 0.0, "0.0e+00 (at most 0e+00)"),
        (np.nan, 1e-3, "nan (at most 1e-03)"),
        (np.inf, 1e-3, "inf (at most 1e-03)"),
        (1.0, np.inf, "1.0e+00 (at most inf)"),
    ],
)
def test_the_text_shows_which_number_is_larger(largest, tolerance, text):
    assert str(Deviation(largest, tolerance)) == text
