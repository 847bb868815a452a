"""Networks that answer runs of windows are exported as such and verified, or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.errors import ModelError, MsEdgeError, UsageError
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.windows import windows
from ms_edge.model.session import Model
from ms_edge.selftest.golden import golden_deviations
from ms_export import metadata, steps
from ms_export.cases import Real
from ms_export.network import to_onnx
from ms_export.precision import to_fp16, to_int8
from ms_export.waveform import with_front_end
from ms_train.recipes import mel_residual
from ms_train.scores.outputs import of_windows, with_logits
from ms_train.training.finetune import build_model, trunk

ROOT = Path(__file__).parents[2]
LABELS = ("speech", "music")


@pytest.fixture(scope="module")
def recordings(samples) -> list[np.ndarray]:
    return [read_mono(str(path), 16_000) for path in samples]


def one_by_one(classifier: Classifier, samples: np.ndarray) -> np.ndarray:
    """Return the scores of a recording's windows, each computed alone."""
    front_end = FrontEnd(classifier.spec)
    clips = [clip for _, clip in windows([samples], classifier.spec)]
    return np.concatenate([classifier.model.scores(front_end.features(clip)[np.newaxis]) for clip in clips])


def test_file_states_that_it_takes_any_frames(stepped_model):
    model = Model.load(stepped_model)
    graph = onnx.load(stepped_model)
    assert model.metadata.step_frames == mel_residual.STEP_FRAMES == 4
    given, answered = (
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (graph.graph.input[0], graph.graph.output[0])
    )
    assert (given, answered) == (["batch", "frames", 48], ["batch", "windows", 2])
    # As in other recipes, shapes are constants and normalisations are part of the convolutions.
    operators = [node.op_type for node in graph.graph.node]
    assert not {"Shape", "Gather", "Cast", "BatchNormalization"} & set(operators)
    assert operators.count("Mul") == 1
    assert len(operators) < 40
    assert golden_deviations(model).failed == {}


def test_certificate_shows_runs_of_windows(stepped_model):
    parity = Model.load(stepped_model).metadata.parity["steps"]
    assert parity["runs"] == 6 * 18  # lengths x synthetic signals
    assert parity["single_windows"]["scores"]["largest"] <= parity["single_windows"]["scores"]["tolerance"] == 1e-6
    assert parity["keras"]["scores"]["largest"] <= 2.5e-5
    report = stepped_model.with_suffix(".parity.md").read_text()
    assert "## runs of windows: within tolerance" in report
    assert "*runs of windows*: the scores of each window of such a run" in report


def test_sample_file_holds_this_network(stepped_model):
    found, expected = Model.load(ROOT / "tests" / "data" / "steps.onnx"), Model.load(stepped_model)
    features = np.random.default_rng(0).uniform(-4, 3, (241, 48)).astype(np.float32)
    np.testing.assert_allclose(found.run_scores(features), expected.run_scores(features), atol=1e-4)


@pytest.mark.parametrize("hop_s", [0.08, 0.16, 0.32, 0.48])
def test_windows_in_runs_score_as_alone(stepped_model, recordings, hop_s):
    classifier = Classifier(stepped_model, hop_s=hop_s)
    for samples in recordings:
        expected = one_by_one(classifier, samples)
        np.testing.assert_allclose(classifier.window_scores([samples]).scores, expected, atol=1e-6, rtol=0)
        assert np.ptp(expected) > 0.01


def test_waveform_form_answers_single_windows(stepped_run, stepped_model, recordings, tmp_path):
    graph = with_front_end(stepped_run.spec, onnx.load(stepped_model))
    texts = {entry.key: entry.value for entry in graph.metadata_props if entry.key != "ms_edge.steps"}
    path = tmp_path / "waveform.onnx"
    path.write_bytes(metadata.embed(graph, texts))
    model = Model.load(path)
    assert model.input == "waveform"
    for samples in recordings[:3]:
        found, expected = (Classifier(a, hop_s=0.16).window_scores([samples]) for a in (path, stepped_model))
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("form", ["int8", "fp16"])
def test_variants_also_answer_runs(stepped_run, stepped_model, recordings, tmp_path, form):
    graph = onnx.load(stepped_model)
    texts = {entry.key: entry.value for entry in graph.metadata_props}
    front_end = FrontEnd(stepped_run.spec)
    clips = np.stack([front_end.features(samples[:16_000]) for samples in recordings])
    small = to_fp16(graph) if form == "fp16" else to_int8(graph, clips)
    path = tmp_path / "small.onnx"
    path.write_bytes(metadata.embed(small, texts))
    classifier = Classifier(path, hop_s=0.16)
    assert (
        path.stat().st_size < stepped_model.stat().st_size or form == "int8"
    )  # with so few weights, the scales take a larger share
    expected = one_by_one(classifier, recordings[0])
    np.testing.assert_allclose(classifier.window_scores([recordings[0]]).scores, expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_wrong_run_of_windows_is_found(stepped_run, stepped_model, recordings, monkeypatch):
    model, real = Model.load(stepped_model), {"music": Real(recordings[0], 16_000)}
    assert all(report.passed for report in steps.check(model, stepped_model.read_bytes(), stepped_run, real))
    right = Model.run_scores
    monkeypatch.setattr(Model, "run_scores", lambda self, features: np.roll(right(self, features), 1, axis=0))
    of_windows, of_keras = steps.check(model, stepped_model.read_bytes(), stepped_run, real)
    assert not of_windows.passed
    assert of_windows.describe().startswith("runs of windows differs from single windows: scores")
    assert of_keras.passed  # which tests the graph, not how it is served


def test_uneven_window_steps_are_refused(stepped_run):
    inputs = keras.Input((None, 48), name="features")
    x = keras.layers.Conv1D(2, 48, padding="same")(inputs)
    x = keras.layers.Activation("sigmoid", name="window_scores")(x)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(x), name="padded")
    run = dataclasses.replace(stepped_run, network=with_logits(network, LABELS, "independent", (49, 48)))
    with pytest.raises(MsEdgeError, match="must give one answer for 49 frames"):
        steps.stepped(run)


def test_another_window_length_is_refused(stepped_run):
    with pytest.raises(UsageError, match="takes windows of 1 s; leave out --window"):
        stepped_run.in_windows_of(3.0)


@pytest.mark.parametrize("decision", ["independent", pytest.param("exclusive", marks=pytest.mark.slow)])
def test_mean_over_windows_keeps_its_scores(decision):
    keras.utils.set_random_seed(0)
    network = mel_residual.build_model(LABELS, decision, 1, width=0.25)
    served = with_logits(network, LABELS, decision, (49, 48))
    features = np.random.default_rng(0).uniform(-4, 3, (2, 61, 48)).astype(np.float32)
    logits, scores = served(features, training=False)
    np.testing.assert_allclose(scores, network(features, training=False), atol=1e-6)
    per_window = of_windows(served)(features, training=False)[1]
    assert per_window.shape == (2, 4, 2)
    np.testing.assert_allclose(np.mean(per_window, axis=1), scores, atol=1e-6)
    assert not np.allclose(logits, scores)


def test_a_network_without_windows_has_none():
    inputs = keras.Input((49, 48))
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Conv1D(2, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Activation("sigmoid")(pooled))
    assert of_windows(with_logits(network, LABELS, "independent", (49, 48))) is None


@pytest.mark.slow
def test_new_classes_are_learnt_on_windows(stepped_run, tmp_path):
    mel_residual.build_model(LABELS, "independent", 1, width=0.25).save(tmp_path / "model.keras")
    assert trunk(tmp_path).output_shape == (None, None, 1, 48)
    for _ in range(2):  # and again from the trained weights
        network = build_model(tmp_path, False, ("beep", "click", "hiss"), "exclusive", 1)
        served = with_logits(network, ("beep", "click", "hiss"), "exclusive", (49, 48))
        run = dataclasses.replace(stepped_run, network=served, labels=("beep", "click", "hiss"))
        assert steps.stepped(run).step_frames == 4
        network.save(tmp_path / "model.keras")


def changed(path: Path, tmp_path: Path, change) -> Path:
    model = onnx.load(path)
    change(model.graph)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "a.onnx"


def between(*nodes, **constants):
    """Insert nodes between the network, whose result becomes `inner`, and the output."""

    def change(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.output[:] = ["inner" if name == "scores" else name for name in node.output]
        graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())
        graph.node.extend(nodes)

    return change


NODE = helper.make_node


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (  # each frame with each other one: little for one window, too much for a run
            between(
                NODE("Transpose", ["features"], ["turned"], perm=[0, 2, 1]),
                NODE("MatMul", ["features", "turned"], ["pairs"]),
                NODE("Unsqueeze", ["pairs", "one"], ["pair"]),
                NODE("Concat", ["pair"] * 8, ["pairs of pairs"], axis=1),
                NODE("ReduceMax", ["pairs of pairs"], ["most"], axes=[1, 2, 3], keepdims=0),
                NODE("Reshape", ["most", "shape"], ["column"]),
                NODE("Min", ["inner", "column"], ["scores"]),
                one=[1],
                shape=[-1, 1, 1],
            ),
            "more than 16,777,216 values at once for 388 windows",
        ),
        (  # no work for one window and for the longest run, much between
            between(
                NODE("Slice", ["features", "starts", "ends", "axes"], ["few"]),
                NODE("Concat", ["features", "few"], ["more"], axis=1),
                NODE("ReduceMax", ["more"], ["most"], axes=[2]),
                NODE("ReduceMax", ["most"], ["one"], axes=[1]),
                NODE("Min", ["inner", "one"], ["scores"]),
                starts=[-100],
                ends=[20],
                axes=[1],
            ),
            "the operator Slice with an output whose shape is not known",
        ),
        (
            between(
                NODE("Slice", ["inner", "start", "end", "axis", "step"], ["scores"]),
                start=[0],
                end=[2**31],
                axis=[1],
                step=[2],
            ),
            "does not give scores every 4 frames",
        ),
        (
            between(NODE("ReduceMean", ["inner"], ["scores"], axes=[1], keepdims=1)),
            "does not give scores every 4 frames",
        ),
    ],
    ids=["square", "slice from the end", "every other window", "mean"],
)
def test_hostile_graphs_of_any_length_are_refused(stepped_model, tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        Model.load(changed(stepped_model, tmp_path, change))


def test_other_free_axes_are_refused(stepped_model, tmp_path):
    def free_bins(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[2].dim_param = "bins"

    with pytest.raises(ModelError, match="not an ONNX graph"):
        Model.load(changed(stepped_model, tmp_path, free_bins))


def test_single_window_file_with_steps_is_refused(stepped_run, stepped_model, tmp_path):
    graph = to_onnx(steps.stepped(stepped_run).network, (49, 48), "single")
    texts = {entry.key: entry.value for entry in onnx.load(stepped_model).metadata_props}
    (tmp_path / "a.onnx").write_bytes(metadata.embed(graph, texts))
    with pytest.raises(ModelError, match="its metadata says"):
        Model.load(tmp_path / "a.onnx")
    assert json.loads(texts["ms_edge.steps"]) == {"step_frames": 4}
    assert graph.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
