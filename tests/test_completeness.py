"""Whole files give all their frames without a warning, and cut files say that something is missing.

`benchmarks.quality.completeness` does the same with all encoders of a machine, and many more cuts.
"""

from __future__ import annotations

import importlib
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parent.parent
CUTS = 8  # for each file
READ = ("WAV", "RF64", "Wave64", "AIFF", "AU", "CAF", "FLAC", "Ogg", "MP3", "MP2")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def _module(name):
    return importlib.import_module(f"benchmarks.quality.{name}")


@pytest.mark.slow
def test_no_loss_without_a_warning(tmp_path):
    completeness, files = _module("completeness"), _module("completeness_files")
    sounds = list(files.write_all(tmp_path, frozenset({"libsndfile", "PyAV"})))
    assert len({sound.container for sound in sounds}) > 20

    found = completeness.measure([sound for sound in sounds], CUTS)

    assert [f"{each.sound.path.name}: {each.wrong}" for each in found if each.wrong] == []
    assert sum(each.answers["warned"] for each in found) > 500
