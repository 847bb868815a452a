from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ms_edge.cli import main as cli
from ms_edge.errors import DeviceError, ModelError
from ms_edge.model.metadata import Metadata
from ms_edge.model.session import BEFORE, BUNDLED, Model
from ms_edge.selftest.golden import golden_deviations, golden_signal


@pytest.fixture(scope="module")
def bundled() -> Model:
    return Model.load()


@pytest.fixture(scope="module", params=[None, BEFORE])
def shipped(request) -> Model:
    """The bundled model, which takes runs of windows, and the previous one, which takes single windows."""
    return Model.load(request.param)


@pytest.fixture
def entries() -> dict[str, str]:
    import onnxruntime

    return dict(onnxruntime.InferenceSession(BUNDLED.read_bytes()).get_modelmeta().custom_metadata_map)


def test_bundled_model_is_small_and_described(bundled):
    assert BUNDLED.stat().st_size < 850_000
    assert bundled.metadata.labels == ("speech", "music")
    assert bundled.metadata.decision.kind == "independent"
    assert bundled.metadata.training["dataset"] == "open-corpus"
    assert not any("gtzan" in source.lower() for source in bundled.metadata.training["sources"])
    assert len(bundled.metadata.training["licences"]) > 3
    assert bundled.metadata.parity["scores"]["largest"] <= 2.5e-5
    assert all(
        fact in repr(bundled) for fact in ("mel_residual", "speech | music", "16,000 Hz", "CPUExecutionProvider")
    )


def test_large_model_loads_by_its_name_and_keeps_its_limits(bundled, samples, capsys):
    large = Model.load("music-speech-large")
    assert (large.metadata.recipe, large.metadata.step_frames) == ("mel_pair", 8)
    assert large.size < 1_600_000
    assert (large.metadata.labels, large.metadata.spec) == (bundled.metadata.labels, bundled.metadata.spec)
    assert large.metadata.training["data_sha256"] == bundled.metadata.training["data_sha256"]
    assert large.metadata.license == "MIT AND Apache-2.0"
    assert large.metadata.parity["scores"]["largest"] <= 2.5e-5
    assert cli.main(["classify", "--model", "music-speech-large", "--format", "jsonl", *map(str, samples)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["model"] for record in records} == {large.sha256}
    for record in records:
        assert record["label"] == ("music" if "music_" in record["path"] else "speech"), record["path"]


def test_previous_model_loads_by_its_name(bundled, samples, tmp_path, monkeypatch, capsys):
    (tmp_path / BEFORE).write_text("not a model")  # a path to it has a slash: ./music-speech-0.1
    monkeypatch.chdir(tmp_path)
    before = Model.load(BEFORE)
    assert before.sha256 == "3cb85fa1dbc56c71c60d032f07b8feedfaa9333821f4188b3ed12dcb0ecb9bc2"
    assert (before.metadata.recipe, before.metadata.step_frames) == ("mel_patches", None)
    assert before.metadata.labels == bundled.metadata.labels
    assert pickle.loads(pickle.dumps(before)).sha256 == before.sha256
    for jobs in ("1", "2"):
        command = ["classify", "--model", BEFORE, "-j", jobs, "--format", "jsonl", *map(str, samples[-2:])]
        assert cli.main(command) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(record["model"], record["settings"]["hop_s"]) for record in records] == [(before.sha256, 0.5)] * 2
    assert cli.main(["info", BEFORE]) == 0
    assert before.sha256 in capsys.readouterr().out
    with pytest.raises(ModelError):
        Model.load(f"./{BEFORE}")


@pytest.mark.parametrize("name", ["music-speech", "music-speech-0.2", f"{BEFORE}.onnx", "small"])
def test_other_names_are_paths_of_missing_files(name, samples, capsys):
    assert cli.main(["classify", "--model", name, str(samples[0])]) == 3
    names = "bundled, music-speech-waveform, music-speech-level, music-speech-large, music-speech-0.1"
    known = "" if name.endswith(".onnx") else f"; the models of this package are {names}"
    said = f"ms-edge: {name}: the model cannot be read (no such file or directory){known}.\n"
    assert capsys.readouterr().err == said


def test_golden_vector_matches_this_machine(shipped):
    found = golden_deviations(shipped)
    assert found.features is not None
    assert found.failed == {}


def test_golden_signal_is_pinned():
    states = [1015568748, 1586005467, 2165703038]  # the published sequence that begins with 1
    np.testing.assert_array_equal(golden_signal(1, 3) * 65536 * 16, [(state >> 16) - 32768 for state in states])
    np.testing.assert_array_less(np.abs(golden_signal(1, 2048)[:1024]), 0.5 / 16 + 1e-9)
    assert np.abs(golden_signal(1, 2048)[1024:]).max() > 0.49


def test_batch_of_one_equals_batch_of_many(shipped):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, *shipped.metadata.spec.feature_shape)).astype(np.float32)
    alone = np.concatenate([shipped.scores(row[np.newaxis]) for row in features])
    np.testing.assert_allclose(shipped.scores(features), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "model-not-found"), (b"", "bad-model"), (b"not a model", "bad-model"), (bytes(100_000), "bad-model")],
)
def test_file_that_is_no_model_is_one_sentence(tmp_path: Path, content, code):
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.skipif(os.name != "posix", reason="Windows has no FIFOs in its file system")
def test_special_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo.onnx")
    for path in (tmp_path / "fifo.onnx", Path(os.devnull), tmp_path):
        with pytest.raises(ModelError) as caught:
            Model.load(path)
        assert caught.value.code == "model-not-found"
        assert str(path) in caught.value.message


def test_impossible_file_name_is_one_sentence():
    with pytest.raises(ModelError, match="not a usable file name"):
        Model.load("a\0.onnx")


def test_truncated_model_is_one_sentence(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(BUNDLED.read_bytes()[:50_000])
    with pytest.raises(ModelError):
        Model.load(tmp_path / "a.onnx")


TEXTS = [
    b"features", b"scores", b"batch", b"constant_", b"Sigmoid", b"mel_residual", b"ms_edge.license", b'"independent"',
]  # fmt: skip


@pytest.mark.parametrize("wrong", [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"])
@pytest.mark.parametrize("text", TEXTS)
def test_invalid_utf8_is_an_error_without_traceback(tmp_path, samples, capsys, text, wrong):
    content = BUNDLED.read_bytes()
    assert text in content
    path = tmp_path / "a.onnx"
    path.write_bytes(content.replace(text, text[: -len(wrong)] + wrong))
    assert cli.main(["classify", "--model", str(path), str(samples[0])]) == 3
    assert capsys.readouterr().err.endswith(
        "a.onnx: onnxruntime cannot run this model: a name or an entry is not UTF-8.\n"
    )


def test_model_over_the_size_limit_is_refused(tmp_path: Path):
    with (tmp_path / "a.onnx").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(ModelError, match="larger than"):
        Model.load(tmp_path / "a.onnx")


def test_cuda_is_refused_if_not_available():
    import onnxruntime

    assert "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), "the tests run on the CPU build"
    with pytest.raises(DeviceError):
        Model.load(device="cuda")


def test_metadata_round_trip(entries):
    assert Metadata.parse(entries).recipe == "mel_residual"


@pytest.mark.parametrize(
    "key",
    [
        "schema",
        "frontend",
        "frontend_sha256",
        "labels",
        "decision",
        "recipe",
        "training",
        "parity",
        "golden",
        "license",
    ],
)
def test_a_missing_entry_is_named(entries, key):
    del entries[f"ms_edge.{key}"]
    with pytest.raises(ModelError, match=f"ms_edge.{key}"):
        Metadata.parse(entries)


def _with(entries, key, **changes):
    return json.dumps({**json.loads(entries[f"ms_edge.{key}"]), **changes})


@pytest.mark.parametrize(
    ("key", "lie"),
    [
        ("schema", lambda e: "2.0"),
        ("schema", lambda e: ""),
        ("frontend", lambda e: _with(e, "frontend", frame_step=161)),
        ("frontend", lambda e: _with(e, "frontend", hop_s=1 / 16_000)),  # not covered by the digest
        ("frontend_sha256", lambda e: "0" * 64),
        ("labels", lambda e: '["speech"]'),
        ("labels", lambda e: '["speech", "speech"]'),
        ("labels", lambda e: '["speech", 1]'),
        ("labels", lambda e: "{"),
        *[
            ("labels", lambda e, name=name: json.dumps(["speech", name]))
            for name in ("silence", "other", "uncertain", "a+b", "", "a\nb", "\x1b[31mred", "x" * 101)
        ],
        ("decision", lambda e: _with(e, "decision", thresholds=[0.5, 10**400])),
        ("golden", lambda e: _with(e, "golden", score_tolerance=10**400)),
        ("decision", lambda e: _with(e, "decision", kind="coin")),
        ("decision", lambda e: _with(e, "decision", thresholds=[0.5])),
        ("decision", lambda e: _with(e, "decision", thresholds=[0.5, float("nan")])),
        ("decision", lambda e: _with(e, "decision", thresholds=[0.5, 2])),
        ("decision", lambda e: "[]"),
        ("golden", lambda e: _with(e, "golden", scores=[0.5])),
        ("golden", lambda e: _with(e, "golden", feature_mean="x")),
        ("golden", lambda e: _with(e, "golden", seed=-1)),
        ("golden", lambda e: _with(e, "golden", seed=True)),
        ("golden", lambda e: _with(e, "golden", scores=[-500, 7e8])),
        *[("golden", lambda e, value=value: _with(e, "golden", score_tolerance=value)) for value in (1e9, 0.11, 0, -1)],
        *[("golden", lambda e, value=value: _with(e, "golden", feature_tolerance=value)) for value in (1e9, 0.011, 0)],
        ("golden", lambda e: _with(e, "golden", score_tolerance=None)),
        ("training", lambda e: '"text"'),
        ("parity", lambda e: "[" * 100_000),
        ("training", lambda e: " " * (1 << 20) + "{}"),
    ],
)
def test_wrong_metadata_is_refused(entries, key, lie):
    entries[f"ms_edge.{key}"] = lie(entries)
    with pytest.raises(ModelError):
        Metadata.parse(entries)


@pytest.mark.native
@pytest.mark.parametrize("first", ["ms_edge.model.session", "ms_edge.selftest.doctor"])
def test_onnxruntime_telemetry_is_off(tmp_path, first):
    require_no_report(tmp_path, first, threads=1 if sys.platform == "linux" else None)


def require_no_report(home: Path, first: str, threads: int | None = None) -> None:
    """Import the module `first` and load the bundled model in a new process; assert that it keeps and sends nothing.

    onnxruntime's own packages would store an identifier and a database of events in the empty folder `home`, and send them in
    a thread: `threads` is the number that the process may have at the end.
    """
    script = f"import {first}; from ms_edge import Model; Model.load()"
    if threads is not None:
        script += f"; from pathlib import Path; assert len(list(Path('/proc/self/task').iterdir())) == {threads}"
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **places, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not [path for path in home.rglob("*") if path.name in ("Microsoft", ".onnxruntime", "deviceid")]


@pytest.mark.parametrize(("answer", "expected"), [(1.0000001, 1.0), (-1e-7, 0.0), (1.001, None), (np.nan, None)])
def test_scores_rounded_beyond_one_are_accepted(answer, expected):
    model = Model.load(device="cpu")
    model._session = type("Rounding", (), {"run": lambda *_: [np.array([[answer, 0.5]], np.float32)]})()
    inputs = np.zeros((1, *model.metadata.spec.feature_shape), np.float32)
    if expected is None:
        with pytest.raises(ModelError, match="not probabilities"):
            model.scores(inputs)
    else:
        assert model.scores(inputs).tolist() == [[expected, 0.5]]
