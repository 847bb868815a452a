"""What tests of training share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _trained_in_few_rooms(few_rooms):
    """For all tests that train."""
