"""The requested device, the obtained device, and whether its results are correct."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import soundfile

import ms_edge
from ms_edge import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import DeviceError
from ms_edge.model.providers import CPU, CUDA
from ms_edge.model.session import BUNDLED, Model
from ms_edge.selftest import doctor


class GpuBuild:
    """Imitate a GPU build of onnxruntime whose CUDA `works`, `raises` or falls back silently."""

    __version__ = onnxruntime.__version__

    def __init__(self, behaviour: str) -> None:
        self.behaviour = behaviour
        self.asked: list[object] = []
        self.shapes: set[tuple[int, ...]] = set()  # of the inputs that CUDA got

    def get_available_providers(self):
        return [CUDA, CPU]

    def SessionOptions(self):  # noqa: N802
        return onnxruntime.SessionOptions()

    def preload_dlls(self):
        print("Failed to load libcublasLt.so.12: cannot open shared object file")

    def InferenceSession(self, content, sess_options, providers, enable_fallback):  # noqa: N802
        self.asked.append(providers)
        if providers == [CPU]:
            return onnxruntime.InferenceSession(content, sess_options=sess_options, providers=providers)
        if self.behaviour == "raises":
            raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient\nsecond line")
        session = onnxruntime.InferenceSession(content, providers=[CPU])
        obtained = [CUDA, CPU] if self.behaviour == "works" else [CPU]

        def run(names, inputs):
            self.shapes |= {value.shape for value in inputs.values()}
            return session.run(names, inputs)

        return SimpleNamespace(
            get_providers=lambda: obtained,
            get_modelmeta=session.get_modelmeta,
            get_inputs=session.get_inputs,
            get_outputs=session.get_outputs,
            run=run,
        )


@pytest.fixture
def gpu_build(monkeypatch):
    def install(behaviour: str) -> GpuBuild:
        build = GpuBuild(behaviour)
        monkeypatch.setitem(sys.modules, "onnxruntime", build)
        return build

    return install


@pytest.mark.parametrize(
    ("behaviour", "device", "provider", "fell_back"),
    [
        ("works", "auto", CUDA, False),
        ("works", "cuda", CUDA, False),
        ("works", "cpu", CPU, False),
        ("raises", "auto", CPU, True),
        ("silent", "auto", CPU, True),
    ],
)
def test_record_names_the_provider_that_ran(gpu_build, samples, capsys, behaviour, device, provider, fell_back):
    gpu_build(behaviour)
    assert cli.main(["classify", "--device", device, "--format", "jsonl", *map(str, samples[:2])]) == 0
    captured = capsys.readouterr()
    assert {json.loads(line)["provider"] for line in captured.out.splitlines()} == {provider}
    expected = "ms-edge: no CUDA device could be used; running on the CPU.\n" if fell_back else ""
    assert captured.err == expected  # one line, and nothing from onnxruntime


@pytest.mark.parametrize("behaviour", ["raises", "silent"])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_unavailable_named_device_exits_with_3(gpu_build, samples, capsys, behaviour, device):
    gpu_build(behaviour)
    assert cli.main(["classify", "--device", device, str(samples[0])]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def test_cuda_is_requested_without_tf32_and_with_a_short_search_of_convolutions(gpu_build):
    build = gpu_build("works")
    Model.load(device="cuda:2")
    assert build.asked == [[(CUDA, {"device_id": "2", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})]]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("bundled", (1, 1599, 48)),
        ("music-speech-large", (1, 1599, 48)),
        ("music-speech-level", (1, 1599, 48)),
        ("music-speech-0.1", (32, 49, 48)),
        ("music-speech-waveform", (32, 16000)),
    ],
)
def test_cuda_gets_files_of_all_lengths_in_one_shape(gpu_build, samples, name, shape):
    """Because each change of the shape takes longer than the network."""
    build = gpu_build("works")
    on_cuda, on_cpu = (Classifier(Model.load(name, device)) for device in ("cuda", "cpu"))
    speech, music = (soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1) for path in samples[:2])
    both = np.concatenate([speech, music])
    for audio in (speech, music, music[:16000], music[: 16000 * 3 + 77], np.resize(both, 16000 * 70 + 5)):
        (one, windows), (other, expected) = on_cuda.analyse(audio, 16000), on_cpu.analyse(audio, 16000)
        assert [(each.label, each.start_s, each.end_s) for each in one.segments] == [
            (each.label, each.start_s, each.end_s) for each in other.segments
        ]
        assert windows.starts.tolist() == expected.starts.tolist()
        assert windows.scores == pytest.approx(expected.scores, abs=1e-5)
        assert (windows.levels is None) == (expected.levels is None)
        if windows.levels is not None:
            assert windows.levels == pytest.approx(expected.levels, abs=1e-3)
    list(on_cuda.stream([music], 16000))
    assert build.shapes == {shape}


@pytest.mark.parametrize("command", [["classify", "a.wav"], ["info"], ["doctor"], ["stream", "-"]])
def test_missing_onnxruntime_error_names_the_command(command):
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'onnxruntime': raise ModuleNotFoundError('No module named onnxruntime', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from ms_edge.cli import main as cli\n"
        f"sys.exit(cli.main({command!r}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert "in a clone of ms-edge: pip install '.[cpu]'" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_doctor_passes_on_a_working_machine(capsys):
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for fact in ("libsndfile", "onnxruntime", "sha256", "right: golden vector", "one clip in", "usable cores"):
        assert fact in shown
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["model"]["sha256"] == Model.load().sha256
    assert found["devices"][0]["provider"] == CPU
    assert found["devices"][0]["score_error"] <= found["devices"][0]["score_tolerance"]
    assert found["devices"][0]["clip_latency_ms"] > 0
    assert found["versions"]["ms-edge"] == ms_edge.__version__


def test_doctor_finds_wrong_scores(tmp_path, capsys):
    """A model whose golden vector has other scores, as if this processor computed wrong ones."""
    content = BUNDLED.read_bytes()
    at = content.index(b'"scores":', content.index(b"ms_edge.golden"))
    digits = content.index(b"0.", at) + 2
    wrong = bytearray(content)
    wrong[digits : digits + 1] = b"1" if content[digits : digits + 1] != b"1" else b"2"
    (tmp_path / "wrong.onnx").write_bytes(wrong)
    assert cli.main(["doctor", "--model", str(tmp_path / "wrong.onnx")]) == 3
    assert "WRONG" in capsys.readouterr().out


def test_missing_gpu_fails_only_if_requested(gpu_build, capsys):
    gpu_build("raises")
    assert cli.main(["doctor"]) == 0
    assert "cuda          not usable: cuda cannot be used: CUDA failure 35" in capsys.readouterr().out
    assert cli.main(["doctor", "--device", "cuda"]) == 3


def test_doctor_warns_about_two_onnxruntimes(monkeypatch):
    both = [
        SimpleNamespace(metadata={"Name": name}, version="1.22.0")
        for name in ("onnxruntime", "onnxruntime-gpu", "numpy")
    ]
    monkeypatch.setattr(doctor, "distributions", lambda: both)
    found = doctor.examine()
    assert found.onnxruntime_distributions == ("onnxruntime 1.22.0", "onnxruntime-gpu 1.22.0")
    assert "uninstall" in found.warnings[0]
    assert "uninstall" in found.text()


def test_doctor_fails_for_an_unusable_model(tmp_path, capsys):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    assert cli.main(["doctor", "--model", str(tmp_path / "a.onnx")]) == 3
    assert "not usable" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals; a crash has a status there")
def test_doctor_survives_a_runtime_that_crashes(tmp_path):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    command = [sys.executable, "-m", "ms_edge.cli", "doctor"]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "ms-edge: onnxruntime ends the process that imports it (SIGILL); it may not suit this processor or this "
        "sandbox: install another version of it, or run ms-edge outside the sandbox.\n"
    )


def test_doctor_does_not_wait_for_a_hanging_import(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(doctor, "PROBE_S", 0.5)
    with pytest.raises(DeviceError, match="does not finish its import within"):
        doctor.examine()


def test_public_api_is_short():
    code = (
        "import sys, ms_edge\n"
        "assert not {'numpy', 'onnxruntime', 'scipy'} & set(sys.modules)\n"
        "found = ms_edge.classify('tests/data/music_zaz.wav')\n"
        "assert isinstance(found, ms_edge.Classification) and found.label == 'music'\n"
        "assert isinstance(found.segments[0], ms_edge.Segment)\n"
        "try: ms_edge.classify('missing.wav')\n"
        "except ms_edge.MsEdgeError as error: print(error)\n"
        "assert all(hasattr(ms_edge, name) for name in ms_edge.__all__)\n"
        "assert dir(ms_edge) == sorted([*ms_edge.__all__, '__version__'])\n"
        "try: ms_edge.nonsense\n"
        "except AttributeError as error: print(error)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.splitlines() == [
        "missing.wav: no such file or directory.",
        "module 'ms_edge' has no attribute 'nonsense'",
    ]


def test_failing_session_is_one_sentence(samples):
    model = Model.load()
    with pytest.raises(ms_edge.ModelError, match="could not run"):
        model.scores(np.zeros((1, 3, 3), np.float32))
    with pytest.raises(DeviceError):
        Model.load(device="nonsense")


def test_doctor_prints_one_line_per_check(tmp_path):
    path = tmp_path / "a\x1b[31m\n.onnx"
    shutil.copy(BUNDLED, path)
    found = doctor.examine(str(path), "cpu")
    assert found.model.path == str(path)
    assert all(line.isprintable() for line in found.text().split("\n"))
    assert len(found.text().split("\n")) == len(doctor.examine(device="cpu").text().split("\n"))
