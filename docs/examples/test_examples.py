"""The examples in other languages give what ms-edge gives: `make test-examples`, which gets what they need first."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.model.session import WAVEFORM_NAME, Model

EXAMPLES = Path(__file__).parent
ROOT = EXAMPLES.parent.parent
INSTALLED = ROOT / "build" / "examples"  # node_modules and onnxruntime_c_api.h
SAMPLES = sorted((ROOT / "tests" / "data").glob("*.wav"))
NODE, WEB, C = PROGRAMS = ("onnxruntime-node", "onnxruntime-web", "c")
RUN = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def model() -> Path:
    """The bundled model with its front end in the graph."""
    return Path(Model.load(WAVEFORM_NAME).path)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """classify.c, compiled with every warning as an error, against the library in onnxruntime's wheel."""
    folder = tmp_path_factory.mktemp("c")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)  # the name by which programs find it
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsanitize=address,undefined"]
    command = ["cc", *strict, f"-I{INSTALLED}", EXAMPLES / "classify.c", folder / "libonnxruntime.so.1"]
    subprocess.run([*command, f"-Wl,-rpath,{folder}", "-lm", "-o", folder / "classify"], check=True)
    return folder / "classify"


@pytest.fixture(params=PROGRAMS)
def program(request, model) -> Callable[..., RUN]:
    """A function that runs an example on a recording."""
    if request.param == C:
        command, runtime = [request.getfixturevalue("built")], []
    else:  # node looks for packages beside the script
        command, runtime = ["node", shutil.copy(EXAMPLES / "classify.mjs", INSTALLED)], [request.param]

    def run(recording: Path, model: Path = model) -> RUN:
        arguments = [*command, model, recording, *runtime]
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # what is in use at the end is no leak
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60, env=environment)

    return run


def answer(run: RUN) -> dict[str, object]:
    """Return what an example printed."""
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    print(run.stdout.strip())  # shown by pytest -s
    return json.loads(run.stdout)


# onnxruntime-web takes seconds to start, so it reads every fourth.
@pytest.mark.parametrize(
    ("program", "sample"),
    [(name, sample) for name in PROGRAMS for sample in SAMPLES[:: 4 if name == WEB else 1]],
    indirect=["program"],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_recording_gets_the_scores_of_ms_edge(program, sample, tmp_path):
    """Of every sample recording, as 16 kHz mono."""
    path = sample
    if soundfile.info(sample).samplerate != 16_000:
        path = tmp_path / sample.name
        soundfile.write(path, read_mono(sample, 16_000), 16_000, subtype="PCM_16")
    expected, found = Classifier().classify(path), answer(program(path))
    assert found["label"] == expected.label == sample.name.partition("_")[0]
    assert found["scores"] == pytest.approx(expected.scores, abs=1e-4)


@pytest.mark.parametrize("kind", ["half a second", "silence before", "odd chunk before", "no size", "20 s"])
def test_windows_are_those_of_ms_edge(program, tmp_path, kind):
    """Short ones are repeated, silence does not count, other chunks are skipped, batches are joined."""
    audio = read_mono(SAMPLES[0], 16_000)
    changed = {
        "half a second": audio[:8_000],
        "silence before": np.concatenate([np.zeros(40_000), audio]),
        "20 s": np.tile(audio, 4)[:320_123],
    }
    path = tmp_path / "a.wav"
    soundfile.write(path, changed.get(kind, audio), 16_000, subtype="PCM_16")
    if kind == "odd chunk before":
        wav = path.read_bytes()
        path.write_bytes(wav[:12] + b"LIST\x05\0\0\0INFO\0\0" + wav[12:])
    elif kind == "no size":
        wav = path.read_bytes()
        path.write_bytes(wav[:40] + b"\xff" * 4 + wav[44:])
    expected = Classifier().classify(path)
    assert answer(program(path))["scores"] == pytest.approx(expected.scores, abs=1e-4)


def test_silence_is_silence(program, tmp_path):
    """No window counts."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 16_000, subtype="PCM_16")
    assert answer(program(tmp_path / "a.wav")) == {"label": "silence"}


def test_exclusive_labels_have_one_winner(program, model, tmp_path):
    """Even if both labels are over their thresholds."""
    changed = onnx.load(model)
    for entry in changed.metadata_props:
        if entry.key == "ms_edge.decision":
            entry.value = json.dumps({"kind": "exclusive"})
    onnx.save(changed, tmp_path / "exclusive.onnx")
    speech, music = (
        read_mono(ROOT / "tests" / "data" / f"{name}.wav", 16_000) for name in ("speech_italian_man", "music_zaz")
    )
    soundfile.write(tmp_path / "a.wav", 0.5 * speech + 0.5 * music, 16_000, subtype="PCM_16")
    both, one = answer(program(tmp_path / "a.wav")), answer(program(tmp_path / "a.wav", tmp_path / "exclusive.onnx"))
    assert both["label"] == "speech+music"
    assert one["scores"] == both["scores"]
    assert one["label"] == max(one["scores"], key=one["scores"].get)


@pytest.mark.parametrize("kind", ["another rate", "no samples", "no WAV"])
def test_what_cannot_be_read_is_refused(program, tmp_path, kind):
    """The examples neither resample nor guess."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 8_000 if kind == "another rate" else 16_000)
    wav = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes({"another rate": wav, "no samples": wav[:36], "no WAV": bytes(60)}[kind])
    run = program(tmp_path / "a.wav")
    assert run.returncode == 1
    assert {"another rate": "8000,16, not 1,1,16000,16", "no samples": "samples", "no WAV": "WAV"}[kind] in (
        run.stderr.replace("the recording is not 16-bit mono PCM at the rate of the model", "8000,16, not 1,1,16000,16")
    )
