"""Fixtures of the training tests."""

from __future__ import annotations

import pytest
from small_network import few_layers, short_clips

from ms_train.recipes import by_name


@pytest.fixture(scope="session", autouse=True)
def _trained_in_few_rooms(few_rooms):
    """Limit the number of simulated rooms in all tests that train."""


@pytest.fixture(scope="module")
def small_networks():
    """Let all recipes build networks of few layers for clips of a second, for tests in which neither matters."""
    small = {name: few_layers(short_clips(recipe), eager=True) for name, recipe in by_name.recipes().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_name, "recipes", lambda: small)
        yield
