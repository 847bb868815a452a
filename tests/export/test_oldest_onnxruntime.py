"""Model files load in runtimes years older than the one they were made with, and say the same
there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from ms_edge.features.frontend import model_input
from ms_edge.model.session import BEFORE, BUNDLED, Model
from ms_edge.selftest.golden import golden_signal

ROOT = Path(__file__).parent.parent.parent
SINGLE = BUNDLED.with_name(f"{BEFORE}.onnx")  # answers only single windows
PYTHON = ROOT / ".venv-oldest" / ("Scripts" if os.name == "nt" else "bin") / "python"
SCRIPT = """
import sys, numpy, onnxruntime
model, given, answer = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
numpy.save(answer, session.run(["scores"], {session.get_inputs()[0].name: numpy.load(given)})[0])
print(onnxruntime.__version__)
"""


@pytest.mark.parametrize("kind", ["features", "single windows", "waveform"])
def test_models_run_in_the_oldest_onnxruntime(tmp_path, waveform_model, kind):
    """If .venv-oldest is missing, run `make test`, which makes it."""
    model = Model.load({"features": BUNDLED, "single windows": SINGLE, "waveform": waveform_model}[kind])
    spec = model.metadata.spec
    make_input = model_input(spec, model.input)
    inputs = np.stack(
        [make_input(golden_signal(seed, spec.clip_samples)) for seed in (model.metadata.golden.seed, 1, 2)]
    )
    scores = run_in_the_oldest(model, inputs, tmp_path)
    assert scores.reshape(-1, len(model.metadata.labels)) == pytest.approx(model.scores(inputs), abs=1e-5)


def test_runs_of_windows_work_in_oldest_onnxruntime(tmp_path):
    model = Model.load()
    spec, step = model.metadata.spec, model.metadata.step_frames
    length = spec.frame_length + (spec.frames(spec.clip_samples) + 30 * step - 1) * spec.frame_step
    features = model_input(spec, model.input)(golden_signal(1, length))
    (scores,) = run_in_the_oldest(model, features[np.newaxis], tmp_path)
    assert len(scores) == 31
    assert scores == pytest.approx(model.run_scores(features), abs=1e-5)


def run_in_the_oldest(model: Model, inputs: np.ndarray, tmp_path: Path) -> np.ndarray:
    """Return the scores of a model in that runtime."""
    np.save(tmp_path / "inputs.npy", inputs)
    done = subprocess.run(
        [str(PYTHON), "-c", SCRIPT, model.path, str(tmp_path / "inputs.npy"), str(tmp_path / "scores.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, done.stdout.split(".")[:2])) <= (1, 20)
    return np.load(tmp_path / "scores.npy")


LOAD = """
import sys
from ms_edge.errors import ModelError
from ms_edge.model.session import Model
for path in sys.argv[1:]:
    try:
        Model.load(path, "cpu")
        print("loaded")
    except ModelError as error:
        print(error.code)
"""


def test_oldest_onnxruntime_reads_no_external_data(tmp_path):
    """Without the check, it would read any file and any memory, and crash on the last model."""
    paths = [str(BUNDLED)]
    (tmp_path / "weights.bin").write_bytes(bytes(192))
    for location in ("weights.bin", str(tmp_path / "weights.bin"), "*/_ORT_MEM_ADDR_/*"):
        model = onnx.load(BUNDLED)
        tensor = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [48])
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "192")):
            tensor.external_data.add(key=key, value=value)
        paths.append(str(tmp_path / f"{len(paths)}.onnx"))
        Path(paths[-1]).write_bytes(model.SerializeToString())
    done = subprocess.run(
        [str(PYTHON), "-c", LOAD, *paths],
        env={**os.environ, "PYTHONPATH": str(ROOT / "edge")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["loaded", *["bad-model"] * 3]), done.stderr


def test_opset_and_ir_suit_onnxruntime_1_10(waveform_model):
    """The version of December 2021: opset 15, IR 8. (The bundled model was seen running there, on Python 3.9;
    its wheels are for none that we support.)
    """
    for path in (BUNDLED, SINGLE, waveform_model):
        model = onnx.load(path)
        assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", 15)]
        assert model.ir_version == 8
