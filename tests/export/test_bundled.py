"""The Keras runs of the bundled and the large model, and the bundled one's waveform form, are in the
package, and every command takes their names.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from ms_edge.classifier import Classifier
from ms_edge.cli import main as edge_cli
from ms_edge.model.session import BUNDLED, BUNDLED_NAME, LARGE_NAME, LEVEL_NAME, WAVEFORM_NAME, Model
from ms_edge.selftest.golden import golden_deviations
from ms_export import cli, quantize
from ms_export.source import Run
from ms_train.cli import main as train_cli
from ms_train.scores import metrics
from ms_train.training import level
from ms_train.training.bundled import FOLDER, LARGE_FOLDER, recordings_of


@pytest.fixture(scope="module")
def data(tmp_path_factory, copy_by_label) -> str:
    return f"folder:{copy_by_label(tmp_path_factory.mktemp('data'))}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch, no_pictures, thin_grid):
    """No corpus lies in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "path"), [(BUNDLED_NAME, BUNDLED), (LARGE_NAME, BUNDLED.with_stem(LARGE_NAME))])
def test_run_and_model_file_are_of_one_training(name, path):
    run, model = Run.load(Path(name)), Model.load(name, "cpu")
    assert model.path == str(path)
    metadata = model.metadata
    assert (run.spec, run.labels, run.decision) == (metadata.spec, metadata.labels, metadata.decision)
    assert metadata.training["recordings"] == {part: len(names) for part, names in run.split.items()}
    features = np.random.default_rng(0).normal(-2, 1, (8, *run.spec.feature_shape)).astype(np.float32)
    _, scores = run.network(features, training=False)
    np.testing.assert_allclose(model.scores(features), scores, atol=2.5e-5)


@pytest.mark.parametrize(("folder", "limit"), [(FOLDER, 3_600_000), (LARGE_FOLDER, 1_800_000)])
def test_run_names_no_place_of_its_makers(folder, limit):
    for path in folder.glob("*.json"):
        assert not re.search(r'[":]/|\.\./|client_id', path.read_text()), path
    assert json.loads((folder / "run.json").read_text())["data"] == "open-corpus:data/open-corpus"
    assert sum(path.stat().st_size for path in folder.iterdir()) < limit


def test_waveform_form_answers_as_the_bundled_model(samples):
    bundled, waveform = Classifier(), Classifier(WAVEFORM_NAME)
    assert waveform.model.input == "waveform"
    assert waveform.model.metadata.training["data_sha256"] == bundled.model.metadata.training["data_sha256"]
    assert golden_deviations(waveform.model).failed == {}
    for path in samples:
        one, other = bundled.classify(path), waveform.classify(path)
        assert one.label == other.label
        np.testing.assert_allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "name"),
    [([], BUNDLED_NAME), (["--input", "waveform"], WAVEFORM_NAME), (["--level"], LEVEL_NAME)],
)
def test_convert_makes_the_shipped_network_again(options, name, tmp_path, capsys):
    out = tmp_path / "a.onnx"
    assert cli.main(["convert", "bundled", *options, "-o", str(out)]) == 0
    assert "note: open-corpus:data/open-corpus is not here" in capsys.readouterr().err
    made, shipped = onnx.load(out), onnx.load(Model.load(name).path)
    assert [output.name for output in made.graph.output] == [output.name for output in shipped.graph.output]
    assert [node.op_type for node in made.graph.node] == [node.op_type for node in shipped.graph.node]
    for one, other in zip(made.graph.initializer, shipped.graph.initializer, strict=True):
        np.testing.assert_allclose(onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other), atol=1e-6)


def test_large_model_has_the_weights_of_the_bundled_one():
    """It contains the layers of the bundled model unchanged, except for the last one, which joins both networks."""
    bundled = keras.models.load_model(FOLDER / "model.keras", compile=False)
    large = keras.models.load_model(LARGE_FOLDER / "model.keras", compile=False)
    inside = {weights.tobytes() for weights in large.get_layer("mel_residual_layers").get_weights()}
    assert all(weights.tobytes() in inside for weights in bundled.get_weights()[:-2])


def test_run_of_the_large_model_is_read_from_any_path(tmp_path, monkeypatch):
    copy = shutil.copytree(LARGE_FOLDER, tmp_path / "large")
    monkeypatch.chdir(tmp_path)
    assert recordings_of(copy) == recordings_of(Path("large")) == recordings_of(FOLDER)


@pytest.mark.parametrize("data", ["folder:sounds", "corrections:a.csv"])
def test_joined_networks_cannot_be_trained_further(data, copy_by_label, tmp_path, capsys):
    copy_by_label(tmp_path / "sounds")
    lines = "sounds/speech/speech_italian_man.wav,0,3,other\nsounds/music/music_zaz.wav,0,3,other\n"
    (tmp_path / "a.csv").write_text(f"path,start_s,end_s,label\n{lines}")
    assert train_cli.main(["finetune", "--from", LARGE_NAME, "--data", data, "--out", "run"]) == 2
    assert "joins two networks and cannot be trained further; give --from bundled" in capsys.readouterr().err


@pytest.mark.slow
def test_large_model_is_equal_to_tensorflow(data, capsys):
    assert cli.main(["check", LARGE_NAME, "--against", LARGE_NAME, "--data", data]) == 0
    assert " no\n" not in capsys.readouterr().out


def test_level_form_has_the_weights_of_the_bundled_model():
    """The trunk is frozen: every constant of the bundled model is in the file with levels, bit by bit."""
    plain, leveled = (onnx.load(Model.load(name).path).graph for name in (BUNDLED_NAME, LEVEL_NAME))
    there = {each.raw_data for each in leveled.initializer}
    assert all(each.raw_data in there for each in plain.initializer)
    assert [output.name for output in leveled.output] == ["scores", "level"]


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["convert", "bundled", "--level", "--input", "waveform", "-o", "a.onnx"], 2, "leave out --input waveform"),
        (["quantize", LEVEL_NAME, "--against", "bundled", "-o", "small"], 1, "has levels of the music"),
    ],
)
def test_levels_are_for_plain_models(command, status, said, capsys):
    assert cli.main(command) == status
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_broken_level_is_found(thin_grid, monkeypatch, capsys, tmp_path):
    """A branch with other weights than those of the file."""
    read = level.read

    def changed(folder):
        branch, scale = read(folder)
        branch.set_weights([weights + 1e-3 for weights in branch.get_weights()])
        return branch, scale

    monkeypatch.setattr(level, "read", changed)
    assert cli.main(["check", LEVEL_NAME, "--against", "bundled"]) == 1
    assert "level of the music differs from TensorFlow: level" in capsys.readouterr().err


def test_quantize_takes_other_recordings_of_the_labels(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quantize, "TIMED_S", 0.0)
    monkeypatch.setattr(quantize, "MAX_LOSS_POINTS", 10.0)  # few clips
    assert cli.main(["quantize", "bundled", "--data", data, "-o", str(tmp_path / "small")]) == 0
    assert {path.name for path in (tmp_path / "small").iterdir()} == {
        "music-speech-int8.onnx",
        "music-speech-fp16.onnx",
    }
    capsys.readouterr()
    assert cli.main(["quantize", "a.onnx", "-o", "small"]) == 2
    assert "a.onnx: also give --against" in capsys.readouterr().err
    assert cli.main(["quantize", "bundled", "-o", "other"]) == 1
    assert "ms-train data fetch open-corpus --to data/open-corpus" in capsys.readouterr().err


def test_triton_serves_the_waveform_form(tmp_path):
    assert cli.main(["triton", "models", "--model", "bundled"]) == 0
    served = tmp_path / "models" / "mel_residual" / "1" / "model.onnx"
    assert served.read_bytes() == Path(Model.load(WAVEFORM_NAME).path).read_bytes()


@pytest.mark.slow
def test_evaluate_scores_the_run(data, monkeypatch, capsys):
    monkeypatch.setattr(metrics, "ROUNDS", 20)
    assert train_cli.main(["evaluate", "bundled", "--data", data]) == 0
    assert re.search(r"label as answered .* 100\.0 % \[", capsys.readouterr().out)
    assert train_cli.main(["evaluate", "bundled"]) == 1
    assert "ms-train data fetch open-corpus --to data/open-corpus" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["info"], ["doctor", "--model"], ["classify", "/dev/null", "--model"]])
def test_ms_edge_takes_the_name(command, capsys):
    name, *options = command
    assert edge_cli.main([name, *options, "bundled"]) in (0, 1)
    assert "cannot be read (no such file" not in capsys.readouterr().err


def test_packaged_list_of_recordings_is_complete():
    used = recordings_of(FOLDER)
    assert used.sha256 == used.files
    assert set(used.sha256) == {name for names in used.split.values() for name in names}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in used.sha256.values())
