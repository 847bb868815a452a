"""classify.mjs under node answers what ms_edge answers: `make test-javascript`, which installs what it needs first."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.model.session import BUNDLED, Model
from ms_export.waveform import with_front_end

ROOT = Path(__file__).parent.parent.parent
INSTALLED = ROOT / "build" / "javascript"
SAMPLES = sorted((ROOT / "tests" / "data").glob("*.wav"))


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The bundled model with its front end in the graph."""
    path = tmp_path_factory.mktemp("javascript") / "waveform.onnx"
    graph = with_front_end(Model.load().metadata.spec, onnx.load(BUNDLED))
    path.write_bytes(graph.SerializeToString(deterministic=True))
    return path


def classify(model: Path, recording: Path) -> dict[str, object]:
    """What classify.mjs prints, run beside the packages that it imports."""
    script = shutil.copy(Path(__file__).parent / "classify.mjs", INSTALLED)
    run = subprocess.run(["node", script, model, recording], capture_output=True, text=True, check=True)
    print(recording.name, run.stdout.strip())  # shown by pytest -s
    return json.loads(run.stdout)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_a_recording_gets_the_scores_of_ms_edge(model, sample, tmp_path):
    """As it is where it is 16 kHz mono, otherwise as 16 kHz mono."""
    path = sample
    if soundfile.info(sample).samplerate != 16_000:
        path = tmp_path / sample.name
        soundfile.write(path, read_mono(sample, 16_000), 16_000, subtype="PCM_16")
    expected, found = Classifier().classify(path), classify(model, path)
    assert found["label"] == expected.label == sample.name.partition("_")[0]
    assert found["scores"] == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.parametrize("kind", ["half a second", "silence before", "a list chunk before"])
def test_windows_are_those_of_ms_edge(model, tmp_path, kind):
    """What is short is repeated, what is silent does not vote, other chunks are passed over."""
    audio = read_mono(SAMPLES[0], 16_000)
    audio = {"half a second": audio[:8_000], "silence before": np.concatenate([np.zeros(40_000), audio])}.get(
        kind, audio
    )
    path = tmp_path / "a.wav"
    soundfile.write(path, audio, 16_000, subtype="PCM_16")
    if kind == "a list chunk before":
        wav = path.read_bytes()
        path.write_bytes(wav[:12] + b"LIST\x05\0\0\0INFO\0\0" + wav[12:])
    expected = Classifier().classify(path)
    assert classify(model, path)["scores"] == pytest.approx(expected.scores, abs=1e-4)


def test_silence_is_silence(model, tmp_path):
    """No window votes."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 16_000, subtype="PCM_16")
    assert classify(model, tmp_path / "a.wav") == {"label": "silence"}


def test_another_rate_is_refused(model, tmp_path):
    """classify.mjs does not resample, and says so."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 8_000, subtype="PCM_16")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        classify(model, tmp_path / "a.wav")
    assert "PCM, channels, Hz, bits are 1,1,8000,16, not 1,1,16000,16" in caught.value.stderr
