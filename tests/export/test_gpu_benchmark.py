"""The script that measures GPUs, on the CPU: everything but CUDA itself."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from benchmarks.speed import gpu
from ms_edge.model.session import BUNDLED


def test_bound_memory_gives_the_same_scores(waveform_model, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    given = [str(waveform_model), "--device", "CPU", "--batches", "1", "5", "--seconds", "0.01", "-o", str(out)]
    assert gpu.main(given) == 0
    batches = json.loads(out.read_text())["batches"]
    assert list(batches) == ["1", "5"]
    for of_batch in batches.values():
        assert list(of_batch) == ["cpu", "cpu, run", "cpu, bound", "cpu, moving"]
        assert all(0 < way["p50_ms"] <= way["p99_ms"] for way in of_batch.values())
    assert "| 5 | cpu, bound | " in capsys.readouterr().out


def test_way_that_keeps_old_input_is_wrong(waveform_model, monkeypatch, capsys):
    move, moved = gpu.Bound.move, set()

    def move_once(self, windows):
        if id(self) not in moved:
            moved.add(id(self))
            move(self, windows)
        return windows

    monkeypatch.setattr(gpu.Bound, "move", move_once)
    assert gpu.main([str(waveform_model), "--device", "cpu", "--batches", "3", "--seconds", "0.01"]) == 1
    assert "| 3 | cpu, bound | wrong: " in capsys.readouterr().out


def test_missing_device_is_reported(waveform_model, tmp_path):
    windows = np.zeros((1, 16_000), np.float32)
    found = gpu.measure(str(waveform_model), "cuda:9", windows, seconds=0.01)
    assert "p50_ms" in found["cpu"]
    if "CUDAExecutionProvider" not in gpu.import_onnxruntime().get_available_providers():
        assert set(found) == {"cpu", *(f"cuda:9, {way}" for way in ("run", "bound", "graph", "moving"))}
    assert all("CUDA" in way["absent"] for name, way in found.items() if name != "cpu")


def test_wrong_way_is_not_timed(waveform_model, monkeypatch, capsys):
    monkeypatch.setattr(gpu.Bound, "__call__", lambda self, windows: np.full((1, 2), np.nan, np.float32))
    assert gpu.main([str(waveform_model), "--device", "cpu", "--batches", "1", "--seconds", "0.01"]) == 1
    assert "| 1 | cpu, bound | wrong: " in capsys.readouterr().out


def test_device_without_any_way_fails(waveform_model, capsys):
    if "CUDAExecutionProvider" in gpu.import_onnxruntime().get_available_providers():
        pytest.skip("for builds without CUDA")
    assert gpu.main([str(waveform_model), "--device", "cuda", "--batches", "1", "--seconds", "0.01"]) == 1
    assert "no CUDA" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", [("--device", "tpu"), ("--batches", "0"), ("--seconds", "0"), ("-o", "/no/where.json")]
)
def test_invalid_options_give_one_sentence(waveform_model, capsys, given):
    with pytest.raises(SystemExit) as ended:
        gpu.main([str(waveform_model), *given])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _affinity():
    """The benchmark keeps this process on one core."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize(("model", "said"), [(str(BUNDLED), "takes features"), ("none.onnx", "cannot be read")])
def test_unsuitable_model_gives_one_sentence(model, said, capsys):
    assert gpu.main([model]) == 2
    assert said in capsys.readouterr().err
