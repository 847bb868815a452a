"""Fixtures of the training tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _trained_in_few_rooms(few_rooms):
    """Limit the number of simulated rooms in all tests that train."""
