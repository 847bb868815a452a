"""Whole files give all their frames without a warning, and cut files say that something is missing.

`benchmarks.quality.completeness` does the same with all encoders of a machine, and many more cuts.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CUTS = 6  # for each file
FILES = 2  # of each container, but all with --everything (`make parity`)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def _module(name):
    return importlib.import_module(f"benchmarks.quality.{name}")


def _written(folder, *names):
    """Return the sounds of these containers and codecs that libsndfile and PyAV write."""
    wanted = {tuple(name.split("/")) for name in names}
    files = _module("completeness_files")
    sounds = files.write_all(folder, frozenset({"libsndfile", "PyAV"}), containers={name for name, _ in wanted})
    found = [sound for sound in sounds if (sound.container, sound.codec) in wanted]
    assert {(sound.container, sound.codec) for sound in found} == wanted
    return found


@pytest.mark.slow
def test_no_loss_without_a_warning(tmp_path, everything):
    completeness, files = _module("completeness"), _module("completeness_files")
    containers = defaultdict(list)
    for sound in files.write_all(tmp_path, frozenset({"libsndfile", "PyAV"})):
        containers[sound.container].append(sound)
    assert len(containers) > 20
    sounds = [sound for several in containers.values() for sound in several[: None if everything else FILES]]

    found = list(completeness.measure(sounds, defaultdict(lambda: CUTS)))

    assert [f"{each.sound.path.name}: {each.wrong}" for each in found if each.wrong] == []
    assert sum(each.answers["warned"] for each in found) > 3.4 * len(sounds)


def test_oracle_sees_a_silent_loss(tmp_path, monkeypatch):
    completeness = _module("completeness")
    (sound,) = _written(tmp_path, "MP2/MP2")
    real = completeness.answer

    def silent(path):
        return dataclasses.replace(real(path), warnings=())

    monkeypatch.setattr(completeness, "answer", silent)

    found = completeness.examine(sound, 40)

    assert found.whole == []
    assert len(found.unreported) > 10
    assert found.answers["not detectable"] >= 5
    ends = _module("completeness_counts").count(sound).ends
    assert not ends & set(found.unreported)


def test_oracle_sees_missing_and_extra_frames(tmp_path):
    completeness, counts = _module("completeness"), _module("completeness_counts")
    (sound,) = _written(tmp_path, "MP2/MP2")
    expected, intact = counts.count(sound), completeness.answer(sound.path)
    assert intact.frames == expected.least == expected.most

    for wrong in (intact.frames - 1, intact.frames + 1):
        assert completeness._compared(sound, expected, dataclasses.replace(intact, frames=wrong))
    assert completeness._compared(sound, expected, dataclasses.replace(intact, warnings=("truncated",)))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("MP2/MP2", True),
        ("MP3/MP3 (no length)", True),
        ("MP3/MP3", False),
        ("ADTS/AAC", True),
        ("AMR/AMR-NB", True),
        ("MP4/AAC", False),
        ("MP4/AAC (fragmented)", True),
        ("MPEG-TS/AAC", True),
        ("Matroska/Opus", False),
        ("WAV/PCM", False),
        ("Ogg/Vorbis", False),
    ],
)
def test_places_where_a_loss_cannot_show(name, ends, tmp_path):
    for sound in _written(tmp_path, name):
        data = sound.path.read_bytes()
        found = _module("completeness_counts").ends_of(sound, data)
        assert bool(found) == ends
        assert not ends or max(found) <= len(data) < max(found) + len(data) / 10


def test_alac_in_caf_is_read_to_its_end(tmp_path):
    for sound in _written(tmp_path, "CAF/ALAC"):
        assert _module("completeness").examine(sound, 0).whole == []
