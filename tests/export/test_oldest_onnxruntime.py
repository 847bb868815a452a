"""Model files load in runtimes years older than the one they were made with, and say the same there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from ms_edge.frontend import FrontEnd
from ms_edge.golden import golden_signal
from ms_edge.model import BUNDLED, Model

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-oldest" / ("Scripts" if os.name == "nt" else "bin") / "python"
SCRIPT = """
import sys, numpy, onnxruntime
model, given, answer = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
numpy.save(answer, session.run(["scores"], {session.get_inputs()[0].name: numpy.load(given)})[0])
print(onnxruntime.__version__)
"""


def test_the_bundled_model_runs_in_the_oldest_onnxruntime(tmp_path):
    """Where this fails for want of .venv-oldest: `make test` makes it."""
    model = Model.load()
    spec = model.metadata.spec
    inputs = np.stack(
        [FrontEnd(spec).features(golden_signal(seed, spec.clip_samples)) for seed in (model.metadata.golden.seed, 1, 2)]
    )
    np.save(tmp_path / "inputs.npy", inputs)
    done = subprocess.run(
        [str(PYTHON), "-c", SCRIPT, str(BUNDLED), str(tmp_path / "inputs.npy"), str(tmp_path / "scores.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, done.stdout.split(".")[:2])) <= (1, 20)
    assert np.load(tmp_path / "scores.npy") == pytest.approx(model.scores(inputs), abs=1e-5)


def test_opset_and_ir_are_those_of_onnxruntime_1_10():
    """Of December 2021: opset 15, IR 8. (Seen running there, on Python 3.9; its wheels are for none that we support.)"""
    model = onnx.load(BUNDLED)
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", 15)]
    assert model.ir_version == 8
