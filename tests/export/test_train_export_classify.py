"""Train, convert and classify real recordings with each recipe."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import soundfile
from small_network import few_layers

from ms_edge.audio.file import read_mono
from ms_edge.cli import main as edge_cli
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations
from ms_export import cli as export_cli
from ms_export.convert import compare
from ms_export.network import to_onnx
from ms_export.source import Run
from ms_train.cli import main as train_cli
from ms_train.recipes import mel_residual
from ms_train.recipes.by_name import recipes

# For tests that do not depend on the recipe: the quick one, with few layers.
only_one = pytest.mark.parametrize("run", ["mel_dscnn"], indirect=True)
LOGSTFT_CNN = pytest.param("logstft_cnn", marks=pytest.mark.slow)
MEL_RESIDUAL = pytest.param("mel_residual", marks=pytest.mark.slow)
# Where little does: one network of labels that exclude one another in a neuron, one of mel bands
# that answers runs of windows. Clips of five seconds and two million weights take long.
NIGHTLY = pytest.param("logstft_cnn", marks=[pytest.mark.slow, pytest.mark.nightly])
two = pytest.mark.parametrize("run", [NIGHTLY, MEL_RESIDUAL], indirect=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory, copy_by_label) -> Path:
    return copy_by_label(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=[LOGSTFT_CNN, "mel_dscnn", MEL_RESIDUAL])
def run(request, tmp_path_factory, data) -> Path:
    """Return a run folder after one epoch (of two steps if the recipe draws random windows)."""
    from ms_train.recipes import by_name as module
    from ms_train.training import fit

    short = {
        name: dataclasses.replace(recipe, steps_per_epoch=recipe.steps_per_epoch and 2, batch_size=8)
        for name, recipe in recipes().items()
    }
    short["mel_dscnn"] = few_layers(short["mel_dscnn"])
    out = tmp_path_factory.mktemp("runs") / request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "recipes", lambda: short)
        patch.setattr(fit, "STATISTICS_BATCHES", 2)
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
def exported(run, data, thin_the_grid) -> Path:
    """The model file of a run. The whole grid is compared only of mel_residual: mel_dscnn has its
    front end, and that of logstft_cnn is compared in test_parity.py.
    """
    out = run.parent / f"{run.name}.onnx"
    with pytest.MonkeyPatch.context() as patch:
        if run.name != "mel_residual":
            thin_the_grid(patch)
        # All samples, not only those held out: parity asks for twenty clips of each class, not for
        # unseen ones.
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
        "recordings.json",
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
    graph = onnx.load(exported)
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"If", "Loop", "STFT", "Dropout", "BatchNormalization"}
    # Shapes are constants, and what normalised is in the convolutions; but for the features' own,
    # which none comes before.
    assert not operators & {"Shape", "Gather", "Cast"}
    assert [node.op_type for node in graph.graph.node].count("Slice") == 3 * (
        run.name == "mel_residual"
    )  # the input of a block
    assert [node.op_type for node in graph.graph.node].count("Mul") == (run.name != "logstft_cnn")
    assert model.metadata.step_frames == (mel_residual.STEP_FRAMES if run.name == "mel_residual" else None)
    assert all(initializer.data_location == onnx.TensorProto.DEFAULT for initializer in graph.graph.initializer)


def test_golden_vector_agrees(exported):
    found = golden_deviations(Model.load(exported))
    assert found.features.largest <= 1e-3
    assert found.scores.largest <= 1e-5


def test_served_scores_equal_those_of_keras(exported, run, samples, capsys):
    """From the WAV on: what `ms-edge classify` prints is what Keras says of tf.signal's features of
    the same windows.
    """
    from ms_edge.features.windows import windows
    from ms_train.frontend import FrontEndLayer

    loaded = Run.load(run)
    layer = FrontEndLayer(loaded.spec)
    assert edge_cli.main(["classify", "--model", str(exported), "--format", "jsonl", *map(str, samples)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for path, record in zip(samples, records, strict=True):
        clips = np.stack([window for _, window in windows([read_mono(path, loaded.spec.sample_rate_hz)], loaded.spec)])
        _, expected = loaded.network(layer(clips), training=False)
        assert list(record["scores"].values()) == pytest.approx(expected.numpy().mean(axis=0), abs=1e-5)


@pytest.mark.slow
@two
def test_same_run_same_bytes_in_another_process(exported, run, data):
    again = exported.with_name("again.onnx")
    arguments = ["convert", str(run), "-o", str(again), "--data", f"folder:{data}"]
    # Another order of all sets of names than in this process.
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-m", "ms_export.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == exported.read_bytes()


def test_certificate_stands_beside_the_model(exported, everything):
    parity = Model.load(exported).metadata.parity
    assert parity["cases"] >= 40 + (100 if everything or exported.stem == "mel_residual" else 28)
    assert len(parity["cases_sha256"]) == 64
    assert {"tensorflow", "onnxruntime", "soxr"} <= parity["versions"].keys()
    for stages in (parity, parity["resampled"]):
        for stage in (
            "samples",
            "spectrum",
            "features",
            "logits",
            "scores",
        ):  # labels are not clear after so short a training
            shown = stages is not parity and stage in ("logits", "scores")  # with no tolerance
            assert (stages[stage]["tolerance"] is None) == shown
            assert shown or 0 <= stages[stage]["largest"] <= stages[stage]["tolerance"], stage
    report = exported.with_suffix(".parity.md").read_text("utf-8")
    assert f"]({exported.stem}.parity.png)" in report
    for name in ("tf.signal, float64", "NumPy/SciPy, float64", "as served", "no optimisations", "batch 64, 4 threads"):
        assert f"{name}: within tolerance" in report
    assert exported.with_suffix(".parity.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in exported.parent.glob(".*")} == set()


@pytest.mark.slow
@only_one
@pytest.mark.usefixtures("thin_grid")
def test_check_reports_the_same_for_the_file(exported, run, data, everything, tmp_path, capsys):
    arguments = ["check", str(exported), "--against", str(run), "--data", f"folder:{data}"]
    arguments += ["--all"] if everything else []
    assert export_cli.main([*arguments, "--report", str(tmp_path / "report.md")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 9
    assert all(line.endswith("yes") for line in lines[1:])
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.png"}


@only_one
@pytest.mark.usefixtures("few_cases")
def test_check_finds_a_changed_weight(exported, run, data, tmp_path, capsys):
    model = onnx.load(exported)
    largest = max(
        (weights for weights in model.graph.initializer if weights.data_type == onnx.TensorProto.FLOAT),
        key=lambda weights: len(weights.raw_data),
    )
    values = onnx.numpy_helper.to_array(largest) * np.float32(1.1)
    largest.CopyFrom(onnx.numpy_helper.from_array(values, largest.name))
    onnx.save(model, tmp_path / "changed.onnx")
    arguments = ["check", str(tmp_path / "changed.onnx"), "--against", str(run), "--data", f"folder:{data}"]
    assert export_cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert "differs from TensorFlow: logits" in captured.err
    assert "NO" in captured.out
    assert "the golden vector's scores differ" in captured.err


@only_one
@pytest.mark.usefixtures("few_cases")
def test_differing_model_is_refused_and_not_written(run, data, tmp_path, monkeypatch, capsys):
    """The weights that are checked are not those that were converted: one of them is a hundredth
    off.
    """
    load = Run.load.__func__

    def disturbed(cls, folder):
        loaded = load(cls, folder)
        conversion = keras.models.clone_model(loaded.network)
        weights = loaded.network.get_weights()
        weights[-1][0] += 1e-2  # only one bias, since softmax does not change if all move
        conversion.set_weights(weights)
        monkeypatch.setattr("ms_export.convert.to_onnx", lambda _, *rest: to_onnx(conversion, *rest))
        return loaded

    monkeypatch.setattr(Run, "load", classmethod(disturbed))
    out = tmp_path / "a.onnx"
    assert export_cli.main(["convert", str(run), "-o", str(out), "--data", f"folder:{data}"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@two
@pytest.mark.usefixtures("thin_grid")
def test_waveform_model_gives_the_same_answer(exported, run, data, samples, capsys):
    """`--input waveform`: the same scores within 1e-4, proven when it is converted and again where
    it runs.
    """
    waveform = exported.with_name(f"{exported.stem}-waveform.onnx")
    arguments = ["convert", str(run), "-o", str(waveform), "--data", f"folder:{data}", "--input", "waveform"]
    assert export_cli.main(arguments) == 0
    model = Model.load(waveform)
    assert model.input == "waveform"
    assert model.metadata.golden.score_tolerance == 1e-4
    parity = model.metadata.parity["scores"]
    assert parity["largest"] <= parity["tolerance"] <= 1e-4
    assert edge_cli.main(["doctor", "--model", str(waveform), "--device", "cpu"]) == 0
    capsys.readouterr()
    records = []
    for path in (exported, waveform):
        assert edge_cli.main(["classify", "--model", str(path), "--format", "jsonl", *map(str, samples)]) == 0
        records.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for usual, found in zip(*records, strict=True):
        assert found["scores"] == pytest.approx(usual["scores"], abs=1e-4)


@pytest.mark.slow
@only_one
@pytest.mark.usefixtures("thin_grid")
def test_waveform_model_with_another_front_end_is_refused(run, data, tmp_path, monkeypatch, capsys):
    from ms_export.waveform import with_front_end

    def wrong(spec, network):
        return with_front_end(dataclasses.replace(spec, log_floor=1.01 * spec.log_floor), network)

    monkeypatch.setattr("ms_export.convert.with_front_end", wrong)
    arguments = ["convert", str(run), "-o", str(tmp_path / "a.onnx"), "--data", f"folder:{data}", "--input", "waveform"]
    assert export_cli.main(arguments) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("run", [NIGHTLY, "mel_dscnn", MEL_RESIDUAL], indirect=True)
@pytest.mark.usefixtures("thin_grid", "no_pictures")
def test_one_short_recording_a_class_is_enough(run, samples, tmp_path, capsys):
    for label in ("music", "speech"):
        (tmp_path / "few" / label).mkdir(parents=True)
        audio = read_mono(next(path for path in samples if path.name.startswith(label)), 16_000)
        soundfile.write(tmp_path / "few" / label / "a.wav", audio[: round(1.5 * 16_000)], 16_000)
    arguments = ["convert", str(run), "-o", str(tmp_path / "a.onnx"), "--data", f"folder:{tmp_path / 'few'}"]
    assert export_cli.main(arguments) == 0
    assert "1 of music, 1 of speech (named for it)" in (tmp_path / "a.parity.md").read_text()
    shutil.rmtree(tmp_path / "few" / "music")
    (tmp_path / "few" / "voice").mkdir()
    (tmp_path / "few" / "voice" / "b.wav").write_bytes(samples[0].read_bytes())
    assert export_cli.main(arguments) == 1
    assert "No recording of 'music' can be read to compare with TensorFlow" in capsys.readouterr().err


def test_folder_without_run_is_refused(tmp_path, capsys):
    assert export_cli.main(["convert", str(tmp_path), "-o", str(tmp_path / "a.onnx")]) == 1
    assert "not a run folder" in capsys.readouterr().err


@only_one
@pytest.mark.usefixtures("few_cases")
def test_nan_score_fails(exported, run, monkeypatch):
    loaded = Run.load(run)
    monkeypatch.setattr(Model, "scores", lambda self, features: np.full((len(features), 2), np.nan, np.float32))
    served = next(report for report in compare(loaded, exported, {}) if report.name == "as served")
    assert not served.passed
    assert "scores nan" in served.describe()


@pytest.mark.slow
@only_one
def test_run_and_export_have_the_same_evaluation(exported, run, data, tmp_path):
    found = []
    for subject, options in ((run, ()), (exported, ("--data", f"folder:{data}"))):
        out = tmp_path / subject.name
        assert train_cli.main(["evaluate", str(subject), "--part", "all", "-o", str(out), *options]) == 0
        found.append(json.loads((out / "report.json").read_text()))
    ours, theirs = (found[index]["files"] for index in (0, 1))
    assert ours["confusion"] == theirs["confusion"]
    for one, other in zip(ours["answers"], theirs["answers"], strict=True):
        assert one["name"] == other["name"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert "was trained on" in found[0]["warnings"][0]
    assert "made with exactly these recordings" in found[1]["warnings"][0]
    assert ours["accuracy"] == theirs["accuracy"]
