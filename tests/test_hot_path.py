"""The hot path costs what it did: by counts, never by seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ms_edge.features.frontend import FrontEnd

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def baseline():
    """The stored counts, where they can be compared."""
    from benchmarks.speed.regression import BASELINE, setting

    stored = json.loads(BASELINE.read_text("utf-8"))
    if stored["setting"] != setting():
        pytest.skip(f"counted with {stored['setting']}, this is {setting()}")
    return stored["counts"]


def test_hot_path_keeps_its_calls_and_memory(baseline):
    from benchmarks.speed.regression import counts, grown

    assert grown(counts(), baseline) == []


def test_work_done_twice_is_a_regression(baseline, monkeypatch):
    from benchmarks.speed.regression import counts, grown

    once = FrontEnd._frames
    monkeypatch.setattr(FrontEnd, "_frames", lambda self, samples: once(self, samples) + 0 * once(self, samples))
    assert any(sentence.startswith("calls: ") for sentence in grown(counts(), baseline))


def test_classify_imports_nothing_of_ray():
    program = (
        "import sys; from ms_edge.cli.main import main; main(['classify', 'tests/data/music_zaz.wav']); "
        "print(sorted({'fsspec', 'pandas', 'pyarrow', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_growth_and_missing_baselines_are_reported():
    from benchmarks.speed.regression import grown

    assert grown({"calls": 110, "peak_bytes": 50}, {"calls": 100, "peak_bytes": 100}) == []
    assert grown({"calls": 111}, {"calls": 100}) == ["calls: 111, +11.0% over the baseline's 100"]
    assert grown({"calls": 1}, {}) == ["calls: no baseline; make bench-baseline"]


def test_the_baseline_is_of_the_pinned_versions():
    """Else nothing is compared: `make bench-baseline` after `make lock`."""
    from packaging.requirements import Requirement

    from benchmarks.speed.regression import BASELINE

    stored = json.loads(BASELINE.read_text("utf-8"))["setting"]
    pinned = {}
    for line in (ROOT / "requirements-dev.lock").read_text("utf-8").splitlines():
        if line.startswith(("numpy=", "onnxruntime=", "soundfile=", "soxr=")):
            requirement = Requirement(line.removesuffix("\\"))  # hashes follow
            if not requirement.marker or requirement.marker.evaluate(
                {"python_full_version": f"{stored['python']}.0", "python_version": stored["python"]}
            ):
                pinned[requirement.name] = str(requirement.specifier).removeprefix("==")
    assert pinned == {name: stored[name] for name in ("numpy", "onnxruntime", "soundfile", "soxr")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("valgrind"), reason="needs valgrind")
def test_hot_path_and_start_keep_their_instructions(baseline):
    from benchmarks.speed.regression import grown, instructions

    assert grown(instructions(), baseline) == []
