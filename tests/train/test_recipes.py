from __future__ import annotations

import keras
import numpy as np
import onnxruntime
import pytest
import soundfile
from onnx import TensorProto, helper, numpy_helper

from ms_edge.errors import MsEdgeError
from ms_train.recipes import mel_pair, mel_residual
from ms_train.recipes.by_name import get_recipe, recipes
from ms_train.scores import outputs
from ms_train.scores.outputs import WINDOW_SCORES
from ms_train.training import yamnet
from ms_train.training.bundled import FOLDER
from ms_train.training.fit import TargetAccuracy

TWO = ("music", "speech")


def test_logstft_cnn_has_the_network_of_the_article():
    recipe = get_recipe("logstft_cnn")
    model = recipe.build_model(TWO, "exclusive", 1)
    assert recipe.spec.feature_shape == (129, 212)
    assert model.count_params() == 2_552_705
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer", "Reshape", *["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"] * 4,
        "Flatten", "Dropout", "Dense", "Dropout", "Dense",
    ]  # fmt: skip
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size, layer.padding) for layer in convolutions] == [
        (n, (3, 3), "valid") for n in (32, 64, 128, 256)
    ]
    assert {layer.activation.__name__ for layer in model.layers if isinstance(layer, keras.layers.Activation)} == {
        "tanh"
    }
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.4, 0.4]
    assert float(model.optimizer.learning_rate) == pytest.approx(3e-6)
    assert (model.loss, recipe.batch_size, recipe.epochs, recipe.target_accuracy, recipe.log_every_epochs) == (
        "binary_crossentropy",
        12,
        500,
        0.95,
        5,
    )
    assert recipe.clips_per_recording == 6


@pytest.mark.parametrize("labels", [("a",), ("a", "b", "c")])
def test_logstft_cnn_tells_two_classes_apart(labels):
    with pytest.raises(MsEdgeError, match="two classes"):
        get_recipe("logstft_cnn").build_model(labels, "exclusive", 1)


@pytest.mark.parametrize(
    ("labels", "decision"), [(TWO, "independent"), (TWO, "exclusive"), (("a", "b", "c"), "exclusive")]
)
def test_mel_dscnn_is_small_and_gives_probabilities(labels, decision):
    recipe = get_recipe("mel_dscnn")
    model = recipe.build_model(labels, decision, 1)
    assert model.count_params() <= 50_000
    scores = model(np.random.default_rng(0).normal(size=(5, *recipe.spec.feature_shape))).numpy()
    assert scores.shape == (5, len(labels))
    assert ((scores >= 0) & (scores <= 1)).all()
    if decision == "exclusive":
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def residual(decision: str = "independent", **settings: float) -> keras.Model:
    """Return a mel_residual with random weights, whose scores differ."""
    keras.utils.set_random_seed(0)
    model = mel_residual.build_model(("speech", "music"), decision, 1, **settings)
    last = next(layer for layer in reversed(model.layers) if layer.weights)
    last.set_weights([20 * last.get_weights()[0], last.get_weights()[1]])
    return model


def of_windows(model: keras.Model) -> keras.Model:
    """Return the scores of every window (batch, windows, labels) for features (batch, frames,
    bins).
    """
    return keras.Model(model.input, model.get_layer(WINDOW_SCORES).output)


def test_mel_residual_has_documented_spec_and_settings():
    recipe = get_recipe("mel_residual")
    assert recipe.spec.feature_shape == (49, 48)
    assert recipe.spec.hop_s * recipe.spec.sample_rate_hz % (mel_residual.STEP_FRAMES * recipe.spec.frame_step) == 0
    assert recipe.settings == {
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "width": 1.5,
        "dense": 96,
        "dropout": 0.1,
        "blocks": 3,
        "average": 0.999,
    }
    model = recipe.build_model(("speech", "music"), "independent", 1)
    assert model.count_params() == 202_274
    assert (model.optimizer.use_ema, model.optimizer.ema_momentum) == (True, 0.999)
    small = recipe.with_settings({"width": "0.5", "blocks": "0", "average": "0"}).build_model(TWO, "exclusive", 1)
    assert small.count_params() < model.count_params() / 4
    assert not small.optimizer.use_ema
    with pytest.raises(MsEdgeError, match="blocks of mel_residual is"):
        recipe.with_settings({"blocks": 4})


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_a_second_is_one_window_of_mel_residual(blocks):
    model = of_windows(residual(width=0.25, blocks=blocks))
    for frames, count in ((49, 1), (51, 1), (53, 2), (49 + 40, 11)):  # the last frame of a window is not used
        assert model(np.zeros((2, frames, 48), np.float32)).shape == (2, count, 2)


@pytest.mark.parametrize("decision", ["independent", "exclusive"])
def test_windows_of_a_run_score_as_alone(decision):
    model = residual(decision)
    changing = np.random.default_rng(1).normal(0, 0.5, (3, 49 + 5 * mel_residual.STEP_FRAMES, 48))
    features = np.cumsum(changing, axis=1).astype(np.float32)
    together = of_windows(model)(features, training=False).numpy()
    for index in range(6):
        start = index * mel_residual.STEP_FRAMES
        alone = model(features[:, start : start + 49], training=False).numpy()
        np.testing.assert_allclose(together[:, index], alone, atol=1e-6)
    np.testing.assert_allclose(model(features, training=False), together.mean(axis=1), atol=1e-6)
    assert np.ptp(together[..., 0]) > 1e-3
    if decision == "exclusive":
        np.testing.assert_allclose(together.sum(axis=-1), 1, atol=1e-6)


def test_every_recipe_has_a_sufficient_floor():
    from ms_edge.features.frontend import hann_window

    for recipe in recipes().values():
        spec = recipe.spec
        if spec.log_floor is not None:
            seen = hann_window(spec.frame_length)[: spec.fft_length].sum()
            assert spec.log_floor >= 5e-5 * (seen**2 if spec.magnitude == "power" else seen)


def test_unknown_recipe_error_lists_the_recipes():
    with pytest.raises(MsEdgeError, match="logstft_cnn, resized_cnn, mel_dscnn"):
        get_recipe("resnet")


def test_target_accuracy_stops_and_logs_every_fifth_epoch(capsys):
    callback = TargetAccuracy(0.95, 5)
    callback.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    callback.model.stop_training = False
    logs = {"loss": 0.1, "accuracy": 0.9, "val_loss": 0.2, "val_accuracy": 0.94}
    for epoch in range(10):
        callback.on_epoch_end(epoch, logs)
    assert not callback.model.stop_training
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(",")[0] for line in lines] == ["Epoch:   5", "Epoch:  10"]
    callback.on_epoch_end(10, {**logs, "val_accuracy": 0.95})
    assert callback.model.stop_training


def logits_of(model: keras.Model, labels: tuple[str, ...] = ("speech", "music")) -> keras.Model:
    """Return the logits of every window (batch, windows, labels) for features (batch, frames, bins)."""
    found = outputs.of_windows(outputs.with_logits(model, labels, "independent"))
    return keras.Model(found.inputs[0], found.outputs[0])


def test_mel_pair_answers_with_the_mean_of_both_networks():
    keras.utils.set_random_seed(0)
    recipe = get_recipe("mel_pair")
    assert recipe.spec.hop_s * recipe.spec.sample_rate_hz == mel_pair.STEP_FRAMES * recipe.spec.frame_step
    second = recipe.build_model(("speech", "music"), "independent", 1)
    joined = recipe.joined(second, ("speech", "music"), "independent")
    assert joined.count_params() == 325_234 <= 400_000
    first = keras.models.load_model(FOLDER / "model.keras", compile=False)
    features = np.random.default_rng(0).normal(-2, 1, (3, 49 + 5 * mel_pair.STEP_FRAMES + 7, 48)).astype(np.float32)
    for frames in range(49, features.shape[1] + 1):
        given = features[:, :frames]
        mean = (logits_of(first)(given)[:, ::2] + logits_of(second)(given)) / 2
        assert mean.shape == (3, (frames - 48) // mel_pair.STEP_FRAMES + 1, 2)  # the last frame of a window is not used
        np.testing.assert_allclose(logits_of(joined)(given), mean, rtol=1e-5, atol=1e-5)


def test_mel_pair_joins_labels_in_any_order():
    recipe = get_recipe("mel_pair")
    keras.utils.set_random_seed(0)
    second = recipe.build_model(TWO, "independent", 1)
    joined = recipe.joined(second, TWO, "independent")
    first = keras.models.load_model(FOLDER / "model.keras", compile=False)
    features = np.random.default_rng(0).normal(-2, 1, (3, 49, 48)).astype(np.float32)
    mean = (logits_of(first)(features).numpy()[..., ::-1] + logits_of(second, TWO)(features)) / 2
    np.testing.assert_allclose(logits_of(joined, TWO)(features), mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("labels", "decision"), [(("dog", "cat"), "independent"), (TWO, "exclusive")])
def test_mel_pair_joins_only_what_has_the_labels_of_the_bundled_model(labels, decision):
    recipe = get_recipe("mel_pair")
    second = recipe.build_model(labels, decision, 1)
    assert recipe.joined(second, labels, decision) is second


def yamnet_like(rng: np.random.Generator) -> list[yamnet.Weights]:
    """Return seven layers of YAMNet's shapes, of random weights that keep the variance."""

    def weights(*shape: int, inputs: int) -> yamnet.Weights:
        filters = shape[3] if shape[3] > 1 else shape[2]
        kernel = rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)
        return kernel, rng.normal(0, 0.1, filters).astype(np.float32)

    layers = [weights(3, 3, 1, 32, inputs=9)]
    for made, given in ((64, 32), (128, 64), (128, 128), (256, 128), (256, 256), (512, 256)):
        layers += [weights(3, 3, given, 1, inputs=9), weights(1, 1, given, made, inputs=given)]
    return layers


def test_thinned_layers_give_what_yamnet_gives(samples, capsys):
    """Half of the filters explain nine tenths of what every layer gives, and the weights fit the recipe."""
    sounds = [soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1) for path in samples]
    windows = np.stack([each[start : start + 16000] for each in sounds for start in (8000, 24000)])
    found = yamnet.thinned(yamnet_like(np.random.default_rng(0)), windows)
    errors = [float(line.rpartition(" ")[2]) for line in capsys.readouterr().err.splitlines()]
    assert len(errors) == 8
    assert max(errors) < 0.09  # 0.36 with any other choice of filters, 0.11 with flipped kernels
    with np.load(mel_pair.START) as start:
        shapes = [(start[f"kernel_{n}"].shape, start[f"bias_{n}"].shape) for n in range(len(found))]
        assert len(start.files) == 2 * len(found)
    assert [(kernel.shape, bias.shape) for kernel, bias in found] == shapes


def test_convolutions_of_yamnet_are_those_of_keras():
    """A convolution, a depthwise and a pointwise one: ONNX and Keras layers of the weights read give the same."""
    rng = np.random.default_rng(0)
    shapes = ((4, 1, 3, 3), (4, 1, 3, 3), (5, 4, 1, 1))  # filters, inputs of a group, height, width
    nodes, values = [], []
    for number, (shape, groups) in enumerate(zip(shapes, (1, 4, 1), strict=True)):
        for name, size in (("kernel", shape), ("bias", shape[:1])):
            values.append(numpy_helper.from_array(rng.normal(size=size).astype(np.float32), f"{name}{number}"))
        nodes.append(helper.make_node("Identity", [f"kernel{number}"], [f"rounded{number}"]))  # as 8-bit graphs have
        given = [f"x{number}", f"rounded{number}", f"bias{number}"]
        nodes.append(helper.make_node("Conv", given, [f"x{number + 1}"], group=groups))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", "x3")]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], values)
    features = rng.normal(size=(2, 1, 9, 8)).astype(np.float32)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x0": features})
    layers = [keras.layers.Conv2D(4, 3), keras.layers.DepthwiseConv2D(3), keras.layers.Conv2D(5, 1)]
    network = keras.Sequential([keras.Input((9, 8, 1)), *layers])
    for layer, weights in zip(layers, yamnet.convolutions(graph, 3), strict=True):
        layer.set_weights(weights)
    np.testing.assert_allclose(network(features.transpose(0, 2, 3, 1)), expected.transpose(0, 2, 3, 1), atol=1e-4)
