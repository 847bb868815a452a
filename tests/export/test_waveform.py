"""A model with the front end in its graph answers what the edge path answers: on hard signals, on
recordings, for every kind of spec.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import ModelError, MsEdgeError
from ms_edge.features.frontend import FrontEnd
from ms_edge.features.spec import FrontEndSpec, MelSpec
from ms_edge.model.check import read_contents
from ms_edge.model.operators import OPERATORS
from ms_edge.model.session import BEFORE, BUNDLED, Model
from ms_edge.selftest.golden import golden_deviations
from ms_export.cases import synthetic_signals
from ms_export.network import to_onnx
from ms_export.tolerances import TOLERANCES
from ms_export.waveform import with_front_end
from ms_train.recipes.by_name import recipes
from ms_train.scores.outputs import of_windows, with_logits

DATA = Path(__file__).parent.parent / "data"

SPECS = {
    "odd frame, linear": FrontEndSpec(16_000, 255, 128, 256, clip_s=1.0, hop_s=1.0),
    "odd frame cropped": FrontEndSpec(8_000, 401, 150, 256, clip_s=1.0, hop_s=1.0, log_floor=0.02),
    "cropped, power": FrontEndSpec(8_000, 512, 100, 128, clip_s=1.0, hop_s=1.0, magnitude="power"),
    "padded, power, log": FrontEndSpec(
        8_000, 200, 80, 512, clip_s=1.0, hop_s=1.0, magnitude="power", log_floor=1.0, layout="frames_bins"
    ),
    "padded, mel, linear": FrontEndSpec(
        16_000, 400, 160, 512, clip_s=1.0, hop_s=1.0, mel=MelSpec(24, 0.0, 8000.0), layout="bins_frames"
    ),
    "cropped, mel": FrontEndSpec(
        16_000, 400, 160, 256, clip_s=1.0, hop_s=1.0, mel=MelSpec(24, 0.0, 8000.0), log_floor=0.02, layout="frames_bins"
    ),
    "not a power of two": FrontEndSpec(22_050, 600, 200, 600, clip_s=1.0, hop_s=1.0, layout="frames_bins"),
    "twice a prime": FrontEndSpec(16_000, 502, 125, 502, clip_s=1.0, hop_s=1.0),
    "padded by far": FrontEndSpec(16_000, 400, 160, 8192, clip_s=0.1, hop_s=0.1, log_floor=0.02),
    "steps that share nothing with the transform": FrontEndSpec(8_000, 255, 77, 256, clip_s=0.5, hop_s=0.5),
    "steps longer than frames": FrontEndSpec(16_000, 256, 700, 256, clip_s=1.0, hop_s=1.0),
    "one frame": FrontEndSpec(16_000, 16_000, 16_000, 512, clip_s=1.0, hop_s=1.0, log_floor=0.02),
}


def linear_network(spec: FrontEndSpec) -> onnx.ModelProto:
    """Return a network from features to the softmax of a random projection that separates clips."""
    values = clips_features(spec).reshape(-1, spec.feature_shape[0] * spec.feature_shape[1])
    kernel = np.random.default_rng(0).normal(size=(values.shape[1], 2))
    weights, bias = standardised(values, kernel, 0.3)  # steeper ones depend on float32 rounding
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["features"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"]),
        ],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *spec.feature_shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def untrained_network(name: str) -> onnx.ModelProto:
    """A recipe's network with random weights and the statistics that training would have found,
    which tells clips apart.
    """
    keras.utils.set_random_seed(0)
    recipe = recipes()[name]
    network = recipe.build_model(("music", "speech"), "exclusive", 1)
    features, last = clips_features(recipe.spec), next(layer for layer in reversed(network.layers) if layer.weights)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # only the next batch sets its statistics, as training would
    network(features, training=True)
    values = keras.Model(network.input, last.input).predict(features, verbose=0)
    kernel = last.get_weights()[0]
    inputs, outputs = kernel.shape[-2:]
    # No more: a random network answers to what float32 rounds off a full-scale tone. Of such a
    # tone's mel_dscnn features SciPy's and TensorFlow's transforms, the same library, are 2e-4 from
    # float64's; logits of deviation 1 then move by 1e-3.
    weights, bias = standardised(values.reshape(-1, inputs), kernel.reshape(inputs, outputs), 0.15)
    last.set_weights([weights.reshape(kernel.shape), bias])
    both = with_logits(network, ("music", "speech"), "exclusive")
    runs = of_windows(both)
    return to_onnx(runs, (None, recipe.spec.bins), name) if runs else to_onnx(both, recipe.spec.feature_shape, name)


def all_clips(spec: FrontEndSpec) -> dict[str, np.ndarray]:
    """Named clips (clip_samples,): every synthetic signal, the start and the end of every
    recording.
    """
    clips = {name: make().astype(np.float32) for name, make in synthetic_signals(spec, spec.clip_samples).items()}
    for path in sorted(DATA.glob("*.wav")):
        audio = read_mono(path, spec.sample_rate_hz)
        audio = np.resize(audio, max(spec.clip_samples, len(audio)))  # a short one is repeated
        clips[f"{path.name}, start"] = audio[: spec.clip_samples]
        clips[f"{path.name}, end"] = audio[-spec.clip_samples :]
    return clips


def clips_features(spec: FrontEndSpec) -> np.ndarray:
    """Return the features (clips, *spec.feature_shape) of all clips."""
    return np.stack([FrontEnd(spec).features(clip) for clip in all_clips(spec).values()])


def standardised(values: np.ndarray, kernel: np.ndarray, deviation: float) -> list[np.ndarray]:
    """A kernel and a bias whose answers to `values` (n, inputs) have mean 0 and that standard
    deviation.
    """
    logits = values.astype(np.float64) @ kernel
    scale = deviation / logits.std(axis=0)
    return [(kernel * scale).astype(np.float32), (-logits.mean(axis=0) * scale).astype(np.float32)]


CASES = {name: recipe.spec for name, recipe in recipes().items()} | SPECS
# Together these crop and pad, and have odd, long and single frames, each layout and each kind of values.
QUICK = (
    "odd frame cropped",
    "padded, power, log",
    "padded, mel, linear",
    "cropped, mel",
    "not a power of two",
    "steps longer than frames",
    "one frame",
)


@pytest.fixture(
    scope="module", params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def case(request) -> tuple[FrontEndSpec, onnx.ModelProto]:
    name = request.param
    return CASES[name], untrained_network(name) if name in recipes() else linear_network(CASES[name])


def session(model: onnx.ModelProto, level: str = "ORT_ENABLE_ALL", outputs: tuple[str, ...] = ()):
    """Return a session of the graph with inner values among its outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    for name in outputs:
        shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_features_and_scores_equal_the_edge_path(case):
    spec, network = case
    clips = all_clips(spec)
    edge = np.stack([FrontEnd(spec).features(clip) for clip in clips.values()])
    (expected,) = session(network).run(["scores"], {"features": edge})
    given = {"waveform": np.stack(list(clips.values()))}
    features, scores = session(with_front_end(spec, network), outputs=("features",)).run(["features", "scores"], given)
    assert features.shape == edge.shape
    expected = expected.reshape(scores.shape)  # a network that answers runs of windows gives one window each
    # Without a logarithm, differences grow with the values, which are in the thousands.
    allowed = TOLERANCES["features"] if spec.log_floor else 2e-6 * np.abs(edge).max(axis=(1, 2), keepdims=True)
    assert (np.abs(features - edge) <= allowed).all()
    assert np.abs(scores - expected).max() <= TOLERANCES["scores"]
    assert np.ptp(expected[:, 0]) > 0.1, "the network tells these clips apart, so that the above means something"


def test_bundled_model_keeps_hard_clip_scores(waveform_model):
    """`ms-export convert` refuses what does not; a model is not bundled that it refuses in either
    form.
    """
    clips = all_clips(Model.load().metadata.spec)
    edge = np.stack([FrontEnd(Model.load().metadata.spec).features(clip) for clip in clips.values()])
    (expected,) = session(onnx.load(BUNDLED)).run(["scores"], {"features": edge})
    (scores,) = session(onnx.load(waveform_model)).run(["scores"], {"waveform": np.stack(list(clips.values()))})
    assert np.abs(scores - expected.reshape(scores.shape)).max() <= TOLERANCES["scores"]


def test_graph_is_plain_with_any_batch_size(case):
    spec, network = case
    model = with_front_end(spec, network)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"STFT", "DFT", "If", "Loop", "Scan", "Dropout", "BatchNormalization"}
    assert operators <= OPERATORS.keys()
    read_contents(model.SerializeToString())
    (given,), (answer,) = model.graph.input, model.graph.output
    for value, name, size in ((given, "waveform", spec.clip_samples), (answer, "scores", 2)):
        batch, values = value.type.tensor_type.shape.dim
        assert (value.name, batch.dim_param, values.dim_value) == (name, "batch", size)
    assert (model.ir_version, list(model.opset_import)) == (network.ir_version, list(network.opset_import))
    names = [node.name for node in model.graph.node]
    assert len(set(names) - {""}) == len([name for name in names if name])
    assert network.graph.input[0].name == "features", "the features model is left as it was"


def test_silence_is_the_floor_exactly(case):
    spec, network = case
    silence = {"waveform": np.zeros((3, spec.clip_samples), np.float32)}
    model = session(with_front_end(spec, network), outputs=("features",))
    features, scores = model.run(["features", "scores"], silence)
    expected = np.log(np.float32(spec.log_floor)) if spec.log_floor else np.float32(0)
    assert (features == expected).all()
    assert np.isfinite(scores).all()


def test_samples_outside_frames_change_nothing():
    spec = recipes()["logstft_cnn"].spec  # uses 256 of every 512 samples
    model = session(with_front_end(spec, linear_network(spec)), outputs=("features",))
    clips = np.zeros((2, spec.clip_samples), np.float32)
    clips[1].reshape(-1)[[256, 511, 512 * 7 + 300, spec.clip_samples - 1]] = 1.0
    (features,) = model.run(["features"], {"waveform": clips})
    np.testing.assert_array_equal(features[0], features[1])


def test_batch_size_does_not_change_scores(case):
    spec, network = case
    model = session(with_front_end(spec, network))
    clips = list(all_clips(spec).values())
    clips = np.stack([clips[i % len(clips)] for i in range(64)])
    (together,) = model.run(["scores"], {"waveform": clips})
    alone = np.concatenate([model.run(["scores"], {"waveform": clip[np.newaxis]})[0] for clip in clips])
    # Products of another width add in another order; long sums differ more.
    np.testing.assert_allclose(together, alone, atol=5e-6 if spec.fft_length > 4096 else 1e-6)
    np.testing.assert_array_equal(together, model.run(["scores"], {"waveform": clips})[0])


def test_no_windows_give_no_scores(waveform_model):
    model = onnx.load(waveform_model)
    (scores,) = session(model).run(["scores"], {"waveform": np.empty((0, 16_000), np.float32)})
    assert scores.shape == (0, 2)


@pytest.mark.parametrize("level", ["DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED"])
def test_no_optimisation_changes_the_scores(waveform_model, level):
    graph, spec = onnx.load(waveform_model), Model.load().metadata.spec
    clips = {"waveform": np.stack(list(all_clips(spec).values()))}
    (found,), (served,) = (session(graph, name).run(["scores"], clips) for name in (f"ORT_{level}", "ORT_ENABLE_ALL"))
    np.testing.assert_allclose(found, served, atol=1e-5)


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_waveform import untrained_network
from ms_export.waveform import with_front_end
from ms_train.recipes.by_name import recipes
for name in sys.argv[2:]:
    model = with_front_end(recipes()[name].spec, untrained_network(name))
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
print(digest)
"""


@pytest.mark.slow
def test_two_processes_make_the_same_bytes():
    """With other hash seeds, and with another model converted before: tf2onnx counts its names
    upward.
    """
    digests = set()
    for seed, names in (("1", ["mel_dscnn"]), ("2", ["logstft_cnn", "mel_dscnn"])):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), *names],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout.split()[-1])
    assert len(digests) == 1


# ms-edge with a model that takes the waveform


@pytest.fixture(scope="module")
def both(waveform_model) -> tuple[Model, Model]:
    return Model.load(), Model.load(waveform_model)


def test_command_line_gives_the_same_answer(waveform_model, samples, capsys):
    records = []
    for arguments in ([], ["--model", str(waveform_model)]):
        assert cli.main(["classify", "--timeline", "--format", "jsonl", *arguments, *map(str, samples)]) == 0
        records.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for usual, found in zip(*records, strict=True):
        assert found["label"] == usual["label"]
        assert found["scores"] == pytest.approx(usual["scores"], abs=TOLERANCES["scores"])
        assert found["seconds"] == usual["seconds"]
        assert [(part["start_s"], part["label"]) for part in found["segments"]] == [
            (part["start_s"], part["label"]) for part in usual["segments"]
        ]


def test_any_rate_channels_length_gives_same_answer(both):
    rng = np.random.default_rng(0)
    usual, waveform = map(Classifier, both)
    for rate_hz, samples in ((44_100, 44_100 * 2 + 17), (8_000, 2_400), (16_000, 16_001)):
        audio = rng.normal(0, 0.1, (samples, 2)).astype(np.float32)
        expected, found = (classifier.classify(audio, sample_rate_hz=rate_hz) for classifier in (usual, waveform))
        assert found.scores == pytest.approx(expected.scores, abs=TOLERANCES["scores"])
        assert found.label == expected.label


def test_live_stream_gets_the_same_answer(both, samples):
    audio = read_mono(samples[0], 16_000)
    blocks = [audio[start : start + 1_000] for start in range(0, len(audio), 1_000)]
    expected, found = (list(Classifier(model).stream(blocks, 16_000)) for model in both)
    assert [(part.start_s, part.end_s, part.label) for part in found] == [
        (part.start_s, part.end_s, part.label) for part in expected
    ]


def test_model_states_its_input(both, waveform_model, capsys):
    usual, waveform = both
    assert (usual.input, waveform.input) == ("features", "waveform")
    assert "input    features (windows, 49, 48), or runs of frames: one window every 4 frames" in repr(usual)
    assert "features (windows, 49, 48)\n" in repr(Model.load(BEFORE))
    assert "input    waveform (windows, 16000)" in repr(waveform)
    assert cli.main(["info", str(waveform_model)]) == 0
    assert "waveform (16000 samples): the front end is in the model" in capsys.readouterr().out
    assert cli.main(["info"]) == 0
    assert "features, any number of frames: a window every 4\n" in capsys.readouterr().out
    assert cli.main(["info", BEFORE]) == 0
    assert any(line.split() == ["input", "features"] for line in capsys.readouterr().out.splitlines())


def test_waveform_model_has_its_own_golden_vector(both, waveform_model, capsys):
    found = golden_deviations(both[1])
    assert found.features is None
    assert found.scores.passed
    assert cli.main(["doctor", "--model", str(waveform_model), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "takes the waveform" in printed
    assert "the features are inside the model" in printed
    assert cli.main(["doctor", "--json", "--model", str(waveform_model), "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["input"] == "waveform"
    assert found["devices"][0]["feature_error"] is None


def test_doctor_finds_a_wrong_front_end(tmp_path, capsys):
    """One value of the transform's constants is wrong, and only the scores can show it."""
    wrong = with_front_end(dataclasses.replace(Model.load().metadata.spec, log_floor=0.3), onnx.load(BUNDLED))
    onnx.save(wrong, tmp_path / "a.onnx")
    assert cli.main(["doctor", "--model", str(tmp_path / "a.onnx"), "--device", "cpu"]) == 3
    assert "WRONG" in capsys.readouterr().out


def test_waveform_of_another_length_is_refused(tmp_path):
    spec = dataclasses.replace(Model.load().metadata.spec, clip_s=1.001)  # the same number of frames, 16 samples more
    onnx.save(with_front_end(spec, onnx.load(BUNDLED)), tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="metadata says") as caught:
        Model.load(tmp_path / "a.onnx")
    assert caught.value.code == "bad-shape"


def test_unsuitable_network_is_refused(waveform_model):
    with pytest.raises(MsEdgeError, match="takes features") as caught:
        with_front_end(Model.load().metadata.spec, onnx.load(waveform_model))
    assert caught.value.code == "bad-graph"
    # Twice a prime, of which no two products are to be made; frames of single samples, each in its
    # place.
    for huge in (
        FrontEndSpec(16_000, 8198, 4099, 8198, clip_s=1.0, hop_s=1.0),
        FrontEndSpec(16_000, 2, 3, 512, clip_s=6.0, hop_s=6.0),
    ):
        with pytest.raises(MsEdgeError, match="--input features") as caught:
            with_front_end(huge, linear_network(SPECS["one frame"]))
        assert caught.value.code == "too-large"
