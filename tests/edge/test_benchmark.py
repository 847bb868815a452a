"""`ms-edge benchmark`: it times correct answers only, and names the device that ran."""

from __future__ import annotations

import json
from types import SimpleNamespace

import onnxruntime
import pytest

from ms_edge.cli import main as cli
from ms_edge.model.providers import CPU, CUDA
from ms_edge.model.session import BUNDLED, Model
from ms_edge.selftest import benchmark

SHORT = ["benchmark", "--seconds", "0.1"]


def test_result_is_printed_as_table_and_json(capsys):
    assert cli.main(SHORT) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].split()[0] == "cpu"
    assert len(shown[-1].split()) == 1 + 3 + 3 + 1
    assert cli.main([*SHORT, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "ms-edge-benchmark/1"
    assert found["ok"] is True
    assert found["model"]["sha256"] == Model.load().sha256
    (device,) = found["devices"]
    assert (device["device"], device["provider"], device["ok"]) == ("cpu", CPU, True)
    for name in ("window_ms", "hop_ms"):
        assert 0 < device[name]["p50"] <= device[name]["p95"] <= device[name]["p99"]
        assert device[name]["runs"] > 0
    assert device["times_real_time"] > 0


def test_a_wrong_model_is_not_timed(tmp_path, capsys):
    content = bytearray(BUNDLED.read_bytes())
    digits = content.index(b"0.", content.index(b'"scores":', content.index(b"ms_edge.golden"))) + 2
    content[digits : digits + 1] = b"1" if content[digits : digits + 1] != b"1" else b"2"
    (tmp_path / "wrong.onnx").write_bytes(content)
    assert cli.main([*SHORT, "--model", str(tmp_path / "wrong.onnx")]) == 3
    assert "WRONG, not timed: scores" in capsys.readouterr().out
    assert cli.main([*SHORT, "--json", "--model", str(tmp_path / "wrong.onnx")]) == 3
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert "times_real_time" not in device


def test_inconsistent_scores_are_not_timed(monkeypatch):
    monkeypatch.setattr(benchmark, "_live", lambda *_: iter([SimpleNamespace(scores={"speech": 2.0, "music": 0.0})]))
    found = benchmark.measure(seconds=0.1)
    assert found.ok is False
    assert isinstance(found.devices[0], benchmark.Wrong)


@pytest.mark.parametrize(("device", "status"), [("auto", 0), ("cuda", 3)])
def test_listed_but_unavailable_provider_is_not_measured(monkeypatch, capsys, device, status):
    """onnxruntime lists CUDA, but silently runs on the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "AzureExecutionProvider", CPU])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda content, providers, **rest: real(content, providers=[CPU], **rest)
    )
    assert cli.main([*SHORT, "--json", "--device", device]) == status
    *others, cuda = json.loads(capsys.readouterr().out)["devices"]
    assert cuda["error"]["code"] == "no-device"
    assert [other["provider"] for other in others] == ([CPU] if device == "auto" else [])


def test_audio_of_one_window_can_be_measured(monkeypatch):
    """A stream of one window has no second hop to time."""
    monkeypatch.setattr(benchmark, "AUDIO_S", 0.5)
    assert benchmark.measure(seconds=0.1).ok is True


@pytest.mark.parametrize("command", ["benchmark", "doctor", "info"])
def test_invalid_device_is_a_usage_error(command, capsys):
    assert cli.main([command, "--device", "foo:1"]) == 2
    assert "foo:1" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
def test_seconds_out_of_range_are_refused(seconds, capsys):
    assert cli.main(["benchmark", f"--seconds={seconds}"]) == 2
    assert "--seconds must be" in capsys.readouterr().err


def test_unusable_model_gives_exit_status_3(tmp_path, capsys):
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    assert cli.main([*SHORT, "--model", str(tmp_path / "a.onnx")]) == 3
    assert "not usable" in capsys.readouterr().out
