"""int8 and fp16 variants are smaller and as accurate as fp32 on real recordings, or refused."""

from __future__ import annotations

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

from ms_edge.audio.file import read_mono
from ms_edge.cli import main as edge_cli
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.windows import windows
from ms_edge.model.session import Model
from ms_edge.selftest.doctor import examine
from ms_export import cli, metadata, precision, quantize
from ms_export.cases import synthetic_signals
from ms_export.convert import convert
from ms_export.network import IR_VERSION, OPSET, to_onnx
from ms_export.source import Run
from ms_export.waveform import with_front_end
from ms_train.datasets.by_name import dataset_by_name
from ms_train.datasets.dataset import Recording
from ms_train.recipes import logstft_cnn, mel_dscnn
from ms_train.scores.outputs import with_logits
from ms_train.training.fit import Options, fit

# test_bundled.py has a quick test of the command.
pytestmark = pytest.mark.slow

SAMPLES = sorted((Path(__file__).parent.parent / "data").glob("*.wav"))


@pytest.fixture(scope="module", autouse=True)
def _no_time_is_spent_on_timing_parity_and_pictures(thin_the_grid, leave_out_pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "TIMED_S", 0.0)
        thin_the_grid(patch)
        leave_out_pictures(patch)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory, copy_by_label) -> str:
    return f"folder:{copy_by_label(tmp_path_factory.mktemp('data'))}"


def build_fixed_model(labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
    """mel_dscnn with weights that training leaves as they are: seeded convolutions, and a readout
    that is right of every sample.

    What a training arrives at differs between processors, and with it how far rounding moves a
    score. These weights are the same everywhere but for rounding: the readout is the solution of a
    ridge regression, in float64.
    """
    spec = mel_dscnn.SPEC
    clips = {path: windows([read_mono(path, spec.sample_rate_hz)], spec) for path in SAMPLES}
    found = [(path.name.startswith(labels[1]), clip) for path, cut in clips.items() for _, clip in cut]
    features = np.stack([FrontEnd(spec).features(clip) for _, clip in found])
    keras.utils.set_random_seed(0)
    model = mel_dscnn.build_model(labels, decision, epochs)
    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalisations:
        layer.momentum = 0.0  # only the next batch sets its statistics
    model(features, training=True)
    for layer in normalisations:
        layer.momentum = 1.0  # later batches do not change them
    hidden, last = model.layers[-2:]
    values = keras.Model(model.input, hidden.input).predict(features, verbose=0).astype(np.float64)
    answers = np.where([second for second, _ in found], 1.0, -1.0)
    centred = values - values.mean(axis=0)
    products = centred @ centred.T
    ridge = 0.1 * np.trace(products) / len(products) * np.eye(len(products))
    weights = centred.T @ np.linalg.solve(products + ridge, answers - answers.mean())
    constant = answers.mean() - values.mean(axis=0) @ weights
    # Of the hidden layer two units, what speaks for each label, since it knows no negative values;
    # the others count for nothing.
    kernel, bias = hidden.get_weights()
    kernel[:, :2], bias[:2] = np.stack([-weights, weights], axis=1), [-constant, constant]
    hidden.set_weights([kernel, bias])
    # Half of it: of logits under 1, all that they are away from their tolerances is steepness.
    last.set_weights([0.5 * np.eye(len(kernel[0]), 2, dtype=np.float32), np.array([0.01, -0.01], np.float32)])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    out = tmp_path_factory.mktemp("runs") / "quick"
    quick = dataclasses.replace(mel_dscnn.RECIPE, build_model=build_fixed_model, batch_size=8, steps_per_epoch=1)
    fit(quick, dataset_by_name(data), data, out, Options(epochs=1))
    return out


@pytest.fixture(scope="module")
def exported(run, data) -> Path:
    out = run.parent / "quick.onnx"
    convert(Run.load(run), out, data=data)
    return out


@pytest.fixture(scope="module")
def small(exported, run, tmp_path_factory) -> Path:
    """Return the folder of both variants."""
    out = tmp_path_factory.mktemp("variants") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "MAX_LOSS_POINTS", 5.0)  # one of the 22 clips is 4.5 points
        assert cli.main(["quantize", str(exported), "--against", str(run), "-o", str(out)]) == 0
    return out


@pytest.fixture(scope="module", params=["int8", "fp16"])
def variant(request, small) -> Path:
    return small / f"quick-{request.param}.onnx"


def labels(model: Path, samples: list[Path], capsys) -> list[str]:
    assert edge_cli.main(["classify", "--model", str(model), "--format", "jsonl", *map(str, samples)]) == 0
    return [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]


def test_variant_gives_the_labels_of_fp32(variant, exported, samples, capsys):
    found = labels(variant, samples, capsys)
    assert found == labels(exported, samples, capsys)
    assert set(found) == {"music", "speech"}


def test_variant_passes_the_self_test(variant):
    found = examine(str(variant), "cpu")
    assert found.ok
    assert found.devices[0].score_error < 1e-6  # on the machine that made it


def test_variant_is_checked_by_its_labels(variant, run, data, tmp_path, capsys):
    arguments = ["check", str(variant), "--against", str(run), "--data", data, "--report", str(tmp_path / "report.md")]
    assert cli.main(arguments) in (0, 1)  # after so short a training, many windows are near a border
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        variant.stem.rpartition("-")[2]
    ]
    assert "| label |" in (tmp_path / "report.md").read_text("utf-8")


def test_waveform_model_is_not_quantised(exported, run, tmp_path, capsys):
    model, waveform = onnx.load(exported), tmp_path / "waveform.onnx"
    texts = {entry.key: entry.value for entry in model.metadata_props}
    waveform.write_bytes(metadata.embed(with_front_end(mel_dscnn.SPEC, model), texts))
    assert cli.main(["quantize", str(waveform), "--against", str(run), "-o", str(tmp_path / "small")]) == 1
    assert "takes the waveform; give the model of the same run that takes features" in capsys.readouterr().err


def test_variant_is_smaller_and_describes_itself(variant, exported, capsys):
    assert variant.stat().st_size < 0.6 * exported.stat().st_size
    original, model = Model.load(exported), Model.load(variant)
    name = variant.stem.rpartition("-")[2]
    parity = model.metadata.parity
    assert (parity["variant"], parity["of_sha256"], parity["clips"]) == (name, original.sha256, 22)
    assert parity["lost_points"] == pytest.approx(100 * (parity["fp32_accuracy"] - parity["accuracy"]), abs=1e-3)
    same = ("spec", "labels", "decision", "recipe", "license", "training")
    assert all(getattr(model.metadata, key) == getattr(original.metadata, key) for key in same)
    assert edge_cli.main(["info", str(variant)]) == 0
    assert f"parity.variant {name}" in " ".join(capsys.readouterr().out.split())


def test_batching_keeps_a_variants_scores(variant, exported):
    original, model = Model.load(exported), Model.load(variant)
    spec = model.metadata.spec
    signals = synthetic_signals(spec, spec.clip_samples)
    features = np.stack([FrontEnd(spec).features(make().astype(np.float32)) for make in signals.values()])
    together = model.scores(features)
    np.testing.assert_array_equal(together, np.concatenate([model.scores(row[np.newaxis]) for row in features]))
    assert np.abs(together - original.scores(features)).max() < 0.3


def test_graphs_suit_old_runtimes(small):
    int8, fp16 = (onnx.load(small / f"quick-{name}.onnx") for name in ("int8", "fp16"))
    for model in (int8, fp16):
        assert model.ir_version == IR_VERSION
        assert [(found.domain, found.version) for found in model.opset_import] == [("", OPSET)]
        used = {name for node in model.graph.node for name in node.input}
        assert {initializer.name for initializer in model.graph.initializer} <= used
        onnx.checker.check_model(model, full_check=True)
    made_by = {name: node.op_type for node in int8.graph.node for name in node.output}
    for node in int8.graph.node:
        if node.op_type == "Conv":
            assert [made_by[name] for name in node.input] == ["DequantizeLinear"] * len(node.input)
    types = [initializer.data_type for initializer in fp16.graph.initializer]
    assert onnx.TensorProto.FLOAT16 in types
    assert onnx.TensorProto.FLOAT not in types


def test_weights_have_seven_bits(small):
    """With 8 bits, sums of processors without VNNI overflow and scores differ."""
    graph = onnx.load(small / "quick-int8.onnx").graph
    arrays = [onnx.numpy_helper.to_array(initializer) for initializer in graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 12
    assert all(np.abs(array.astype(int)).max() <= 64 for array in weights)


def test_another_process_writes_the_same_bytes(small, exported, run, tmp_path):
    command = (
        "import sys; from pathlib import Path; from ms_export import quantize\n"
        "quantize.TIMED_S, quantize.MAX_LOSS_POINTS = 0.0, 5.0\n"
        "quantize.quantize(*map(Path, sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", command, str(exported), str(run), str(tmp_path / "again")]
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run(arguments, check=True, env={**os.environ, "PYTHONHASHSEED": other}, stderr=subprocess.DEVNULL)
    for path in small.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert len(list(small.iterdir())) == 2


def test_only_the_inaccurate_variant_is_refused(exported, run, tmp_path, monkeypatch, capsys):
    to_int8 = quantize.to_int8

    def deaf(model: onnx.ModelProto, calibration: np.ndarray) -> onnx.ModelProto:
        """Make a variant that always answers music, by a bias of 50 in the last layer."""
        graph = to_int8(model, calibration)
        bias = next(
            initializer
            for initializer in reversed(graph.graph.initializer)
            if initializer.data_type == onnx.TensorProto.FLOAT and list(initializer.dims) == [2]
        )
        values = onnx.numpy_helper.to_array(bias) + np.array([50, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return graph

    monkeypatch.setattr(quantize, "to_int8", deaf)
    out = tmp_path / "small"
    assert cli.main(["quantize", str(exported), "--against", str(run), "-o", str(out)]) == 1
    printed = capsys.readouterr()
    lost = 100 * (Model.load(out / "quick-fp16.onnx").metadata.parity["fp32_accuracy"] - 0.5)
    assert f"int8 loses {round(lost, 3):g} points" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()[:4]] == ["VARIANT", "fp32", "int8", "fp16"]
    assert [path.name for path in out.iterdir()] == ["quick-fp16.onnx"]


def changed(run: Path, to: Path, **facts: object) -> Path:
    """A copy of a run folder with other facts."""
    shutil.copytree(run, to)
    (to / "run.json").write_text(json.dumps({**json.loads((run / "run.json").read_text()), **facts}))
    return to


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"recipe": "logstft_cnn"}, "recipe mel_dscnn, in the run logstft_cnn"),
        ({"labels": ["speech", "music"]}, "labels music, speech, in the run speech, music"),
    ],
)
def test_model_of_another_run_is_refused(exported, run, tmp_path, capsys, facts, what):
    other = changed(run, tmp_path / "other", **facts)
    assert cli.main(["quantize", str(exported), "--against", str(other), "-o", str(tmp_path / "small")]) == 1
    assert what in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_model_with_other_weights_is_refused(small, run, tmp_path, capsys):
    """For example int8 itself: a comparison with it would not be one with fp32."""
    arguments = [str(small / "quick-int8.onnx"), "--against", str(run), "-o", str(tmp_path / "small")]
    assert cli.main(["quantize", *arguments]) == 1
    assert "its scores are not those of the run's network" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_data_of_another_run_are_refused(exported, run, data, tmp_path, capsys):
    shutil.copytree(data.removeprefix("folder:"), tmp_path / "data")
    path = next((tmp_path / "data" / "music").iterdir())
    path.write_bytes(path.read_bytes() + b"\0")
    arguments = ["--against", str(run), "--data", f"folder:{tmp_path / 'data'}", "-o", str(tmp_path / "small")]
    assert cli.main(["quantize", str(exported), *arguments]) == 1
    error = capsys.readouterr().err
    assert "1 of the run's 12" in error
    assert f"music/{path.name}" in error


def test_output_file_is_refused_as_folder(exported, run, tmp_path, capsys):
    (tmp_path / "small").touch()
    assert cli.main(["quantize", str(exported), "--against", str(run), "-o", str(tmp_path / "small")]) == 2
    assert "give -o a folder" in capsys.readouterr().err


def test_calibration_clips_cover_labels_and_levels():
    spec = mel_dscnn.SPEC
    rng = np.random.default_rng(0)
    audios = [rng.uniform(-0.5, 0.5, 3 * spec.clip_samples).astype(np.float32) for _ in range(7)]
    recordings = [
        Recording(f"{index}", ("speech", "music", None)[index % 3], "", "", lambda _, audio=audio: audio)
        for index, audio in enumerate(audios)
    ]
    clips = precision.calibration_clips(recordings, spec)
    assert (clips.shape[1:], clips.dtype) == ((spec.clip_samples,), np.float32)
    peaks = np.abs(clips).max(axis=1)
    assert (peaks == 0).sum() == 1
    assert (peaks == 1).sum() == ((peaks > 0) & (peaks < 0.01)).sum() == 6  # of 7 recordings with 5 windows each
    assert len(clips) == 35 + 6 + 6 + 1


def test_the_other_recipe_too():
    """Without training: tanh, pooling, one neuron made two columns, a dense layer of 2 million
    weights.
    """
    keras.utils.set_random_seed(0)
    spec = logstft_cnn.SPEC
    labels = ("music", "speech")
    network = with_logits(logstft_cnn.build_model(labels, "exclusive", 1), labels, "exclusive")
    graph = to_onnx(network, spec.feature_shape, "logstft_cnn")
    features = np.random.default_rng(0).uniform(-7, 4, (4, *spec.feature_shape)).astype(np.float32)
    import onnxruntime

    def scores(model: onnx.ModelProto) -> np.ndarray:
        return onnxruntime.InferenceSession(model.SerializeToString()).run(["scores"], {"features": features})[0]

    expected = scores(graph)
    for variant, tolerance in ((precision.to_int8(graph, features), 0.05), (precision.to_fp16(graph), 0.005)):
        assert variant.ByteSize() < 0.51 * graph.ByteSize()
        np.testing.assert_allclose(scores(variant), expected, atol=tolerance)
