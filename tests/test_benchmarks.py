"""The measurements can be started: nothing they import has moved."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["__main__", "accuracy", "systems", "testsets", "transfer"])
def test_a_measurement_can_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    importlib.import_module(f"benchmarks.{name}")
