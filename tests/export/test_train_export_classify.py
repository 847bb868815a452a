"""The whole way on real recordings: fit, convert, classify, for every recipe."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import soundfile

from ms_edge import cli as edge_cli
from ms_edge.audio import read_mono
from ms_edge.golden import golden_error
from ms_edge.model import Model
from ms_export import cli as export_cli
from ms_export.parity import SCORE_TOLERANCE, compare, largest_difference
from ms_export.run import Run
from ms_train import cli as train_cli
from ms_train.recipes import recipes


@pytest.fixture(scope="module")
def data(tmp_path_factory, samples) -> Path:
    root = tmp_path_factory.mktemp("data")
    for path in samples:
        label = path.name.partition("_")[0]
        (root / label).mkdir(exist_ok=True)
        shutil.copy(path, root / label)
    return root


@pytest.fixture(scope="module", params=recipes())
def run(request, tmp_path_factory, data) -> Path:
    """A run folder after one epoch (of two steps, where the recipe draws random windows)."""
    import dataclasses

    from ms_train import recipes as module

    short = {
        name: dataclasses.replace(recipe, steps_per_epoch=recipe.steps_per_epoch and 2, batch_size=8)
        for name, recipe in recipes().items()
    }
    out = tmp_path_factory.mktemp("runs") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "recipes", lambda: short)
        assert (
            train_cli.main(
                [
                    "fit",
                    "--recipe",
                    request.param,
                    "--data",
                    f"folder:{data}",
                    "--out",
                    str(out),
                    "--epochs",
                    "1",
                    "--fold",
                    "1/2",
                ]
            )
            == 0
        )
    return out


@pytest.fixture(scope="module")
def exported(run, data) -> Path:
    out = run.parent / f"{run.name}.onnx"
    # All samples, not only those held out: parity asks for twenty clips of each class, not for unseen ones.
    assert export_cli.main(["convert", str(run), "-o", str(out), "--data", f"folder:{data}"]) == 0
    return out


def test_run_folder_says_everything(run, data):
    found = {path.name for path in run.iterdir()}
    assert found == {
        "model.keras",
        "recipe.json",
        "spec.json",
        "run.json",
        "split.json",
        "data.json",
        "metrics.json",
        "history.csv",
        "curves.png",
    }
    facts = json.loads((run / "run.json").read_text())
    assert (facts["recipe"], facts["labels"], facts["fold"]) == (run.name, ["music", "speech"], "1/2")
    split = json.loads((run / "split.json").read_text())
    everything = [name for part in split.values() for name in part]
    assert sorted(everything) == sorted(json.loads((run / "data.json").read_text()))
    assert len(everything) == len(set(everything)) == len(list(data.glob("*/*.wav")))
    (epoch,) = csv.DictReader((run / "history.csv").open())
    assert set(epoch) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["files"] == len(split["test"])
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_folder_is_not_overwritten(run, data, capsys):
    assert train_cli.main(["fit", "--recipe", "mel_dscnn", "--data", f"folder:{data}", "--out", str(run)]) == 2
    assert "already holds files" in capsys.readouterr().err


def test_exported_model_is_self_describing_and_plain(exported, run):
    model = Model.load(exported)
    assert model.metadata.recipe == run.name
    assert model.metadata.labels == ("music", "speech")
    assert model.metadata.spec.to_json() == Run.load(run).spec.to_json()
    assert model.metadata.parity["clips"] >= 40 + 12
    graph = onnx.load(exported)
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"If", "Loop", "STFT", "Dropout"}
    assert all(initializer.data_location == onnx.TensorProto.DEFAULT for initializer in graph.graph.initializer)


def test_golden_vector_agrees(exported):
    feature_error, score_error = golden_error(Model.load(exported))
    assert feature_error <= 1e-3
    assert score_error <= 1e-5


def test_served_scores_are_those_of_keras_through_the_whole_runtime(exported, run, samples, capsys):
    """From the WAV on: what `ms-edge classify` prints is what Keras says of tf.signal's features of the same windows."""
    from ms_edge.windows import windows
    from ms_train.evaluate import label_scores
    from ms_train.frontend import FrontEndLayer

    loaded = Run.load(run)
    layer = FrontEndLayer(loaded.spec)
    assert edge_cli.main(["classify", "--model", str(exported), "--format", "jsonl", *map(str, samples)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for path, record in zip(samples, records, strict=True):
        clips = np.stack([window for _, window in windows([read_mono(path, loaded.spec.sample_rate_hz)], loaded.spec)])
        expected = label_scores(loaded.network(layer(clips), training=False).numpy()).mean(axis=0)
        assert list(record["scores"].values()) == pytest.approx(expected, abs=SCORE_TOLERANCE + 1e-6)


def test_same_run_same_bytes(exported, run, data):
    again = exported.with_name("again.onnx")
    assert export_cli.main(["convert", str(run), "-o", str(again), "--data", f"folder:{data}"]) == 0
    assert again.read_bytes() == exported.read_bytes()


def test_a_model_that_is_not_its_reference_is_refused_and_nothing_written(run, data, tmp_path, monkeypatch, capsys):
    """The weights that are checked are not those that were converted: one of them is a hundredth off."""
    load = Run.load.__func__

    def disturbed(cls, folder):
        loaded = load(cls, folder)
        conversion = keras.models.clone_model(loaded.network)
        weights = loaded.network.get_weights()
        weights[-1][0] += 1e-2  # of the last bias alone: softmax does not see all of them move
        conversion.set_weights(weights)
        monkeypatch.setattr("ms_export.convert.to_onnx", lambda network, shape: to_onnx(conversion, shape))
        return loaded

    from ms_export.convert import to_onnx

    monkeypatch.setattr(Run, "load", classmethod(disturbed))
    out = tmp_path / "a.onnx"
    assert export_cli.main(["convert", str(run), "-o", str(out), "--data", f"folder:{data}"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_too_few_clips_are_refused(run, samples, tmp_path, capsys):
    for label in ("music", "speech"):
        (tmp_path / "few" / label).mkdir(parents=True)
        audio = read_mono(next(path for path in samples if path.name.startswith(label)), 16_000)
        soundfile.write(tmp_path / "few" / label / "a.wav", audio[: round(1.5 * 16_000)], 16_000)
    arguments = ["convert", str(run), "-o", str(tmp_path / "a.onnx"), "--data", f"folder:{tmp_path / 'few'}"]
    assert export_cli.main(arguments) == 1
    assert "20 are needed" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert export_cli.main(["convert", str(tmp_path), "-o", str(tmp_path / "a.onnx")]) == 1
    assert "not a run folder" in capsys.readouterr().err


def test_comparison_sees_differences_and_nans():
    same = np.ones(3, np.float32)
    assert largest_difference(same, same) == 0
    assert largest_difference(same + np.float32(0.5), same) == 0.5
    assert np.isnan(largest_difference(np.array([np.nan, 1, 1], np.float32), same))
    with pytest.raises(AssertionError):
        largest_difference(same.astype(np.float64), same)
    with pytest.raises(AssertionError):
        largest_difference(same[:2], same)


def test_a_nan_score_does_not_pass(exported, run, monkeypatch):
    loaded = Run.load(run)
    model = Model.load(exported)
    monkeypatch.setattr(Model, "scores", lambda self, features: np.full((1, 2), np.nan, np.float32))
    assert not compare(loaded.network, model, {"silence": np.zeros(loaded.spec.clip_samples, np.float32)}).passed
