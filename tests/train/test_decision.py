"""Calibration and thresholds of independent labels: fitted, folded into the network, and written
into runs.
"""

from __future__ import annotations

import dataclasses
import json
from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from scipy.special import expit, logit

from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.features.spec import FrontEndSpec
from ms_edge.model.metadata import Decision
from ms_train.augment.augmentations import chain
from ms_train.augment.pool import Pool
from ms_train.datasets.cache import Cache
from ms_train.datasets.dataset import Dataset, Recording
from ms_train.frontend import FrontEndLayer
from ms_train.recipes.by_name import get_recipe
from ms_train.recipes.recipe import Recipe
from ms_train.scores.losses import compile_for
from ms_train.scores.metrics import predict
from ms_train.training import decision
from ms_train.training.decision import (
    Held,
    choose_thresholds,
    decide,
    decide_again,
    draw,
    exact_by_kind,
    fit_logits,
    fold,
    kinds_of,
    read_held,
)
from ms_train.training.fit import Options, fit
from ms_train.training.runs import TrainedRun, decision_of

SPEC = FrontEndSpec(8_000, 256, 128, 256, log_floor=0.05, clip_s=0.5, hop_s=0.5)
LABELS = ("speech", "music")
HZ = {"speech": 1_000, "music": 2_000}
WINDOWS = 320


def tone(label: str | None, seed: int) -> np.ndarray:
    """Return a tone of 1,000 Hz for speech, of 2,000 Hz for music, and noise for other labels."""
    rng = np.random.default_rng(seed)
    noise = 0.03 * rng.standard_normal(16_000)
    return (noise + (0.1 * np.sin(2 * np.pi * HZ[label] / 8_000 * np.arange(16_000)) if label else 0)).astype(
        np.float32
    )


def recording(label: str | None, number: int, split: str | None = None) -> Recording:
    name = f"{split}/{label}-{number}"
    return Recording(name, label, f"{label}-{number}", name, lambda rate: tone(label, number), split)


def build_model(labels: tuple[str, ...], kind: str, epochs: int) -> keras.Model:
    """Return a dense layer on the mean over time; it is not trained, `telling` sets its weights."""
    inputs = keras.Input(SPEC.feature_shape)
    bands = keras.layers.GlobalAveragePooling1D()(keras.layers.Permute((2, 1))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(len(labels), activation="sigmoid")(bands))
    compile_for(model, True, keras.optimizers.SGD(0.0))
    return model


def telling(sure: float = 1.0, shift: float = 0.0) -> keras.Model:
    """Return a network that detects the tones, with logits multiplied by `sure`, plus `shift`."""
    model = build_model(LABELS, "independent", 1)
    kernel = np.zeros((SPEC.bins, 2), np.float32)
    for column, hz in enumerate(HZ.values()):
        kernel[hz * 256 // 8_000, column] = sure
    model.layers[-1].set_weights([kernel, np.full(2, shift, np.float32)])
    return model


@pytest.fixture
def recipe(monkeypatch) -> Recipe:
    monkeypatch.setattr(decision, "WINDOWS", WINDOWS)
    known = get_recipe("mel_dscnn")
    augment = chain("channel")
    return dataclasses.replace(
        known,
        spec=SPEC,
        build_model=build_model,
        batch_size=4,
        steps_per_epoch=2,
        clips_per_recording=2,
        augment=augment,
    )


@pytest.fixture(scope="module")
def pool() -> Pool:
    sounds = [recording(label, number) for label in (*LABELS, None) for number in range(3)]
    return Pool([(each, each.read(8_000)) for each in sounds], LABELS, "independent", SPEC)


def unsure(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated logits (n, 2) and targets drawn with their probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, (count, 2))
    return z, (rng.random((count, 2)) < expit(z)).astype(np.float32)


def test_wrong_scale_and_offset_are_found():
    z, targets = unsure(20_000)
    scale, offset = fit_logits((z - (1.0, -2.0)) / (0.5, 3.0), targets)
    np.testing.assert_allclose(scale, (0.5, 3.0), rtol=0.04)
    np.testing.assert_allclose(offset, (1.0, -2.0), atol=0.1)


def test_calibrated_logits_stay_nearly_as_they_are():
    scale, offset = fit_logits(*unsure(20_000))
    np.testing.assert_allclose(scale, 1, atol=0.04)
    np.testing.assert_allclose(offset, 0, atol=0.06)


def test_logits_of_few_windows_are_hardly_changed():
    scale, offset = fit_logits(np.array([[3.0, -2.0], [-3.0, 2.0]]), np.array([[1, 0], [0, 1]], np.float32))
    assert (scale >= 1).all()
    assert (scale < 1.5).all()
    np.testing.assert_allclose(offset, 0, atol=1e-6)


def test_undecidable_targets_change_nothing():
    z, targets = unsure(3_000)
    odd = np.where(np.arange(500)[:, None] % 2 == np.arange(2), np.nan, 1).astype(np.float32)
    more, asked = np.concatenate([z, np.full((500, 2), -8.0)]), np.concatenate([targets, odd])
    for column in range(2):  # the other column of these rows counts
        known = np.isfinite(asked[:, column])
        alone = fit_logits(more[known][:, [column]], asked[known][:, [column]])
        np.testing.assert_array_equal([each[column] for each in fit_logits(more, asked)], np.ravel(alone))
    thresholds = choose_thresholds(expit(z), targets, kinds_of(targets, LABELS))
    kinds = kinds_of(asked, LABELS)
    assert set(kinds[3_000:]) == {""}
    np.testing.assert_array_equal(choose_thresholds(expit(more), asked, kinds), thresholds)
    assert exact_by_kind(expit(more), asked, kinds, thresholds) == exact_by_kind(
        expit(z), targets, kinds_of(targets, LABELS), thresholds
    )


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_within_error_of_the_best(seed):
    z, targets = unsure(1_500, seed)
    scores, kinds = expit(z + np.array([1.5, -1.0])), kinds_of(targets, LABELS)
    grid = np.arange(5, 96, 5) / 100

    def mean(pair):
        return np.mean(list(exact_by_kind(scores, targets, kinds, np.array(pair)).values()))

    shares = exact_by_kind(scores, targets, kinds, chosen := choose_thresholds(scores, targets, kinds))
    counts = {kind: (kinds == kind).sum() for kind in shares}
    error = np.sqrt(sum(share * (1 - share) / counts[kind] for kind, share in shares.items())) / len(shares)
    assert mean(chosen) >= max(map(mean, product(grid, grid))) - 1.1 * error
    np.testing.assert_allclose(chosen, expit([1.5, -1.0]), atol=0.15)  # equal to a half without the shift


def test_thresholds_stay_at_half_unless_others_improve():
    targets = np.array(list(product((0, 1), repeat=2)) * 50, np.float32)
    kinds = kinds_of(targets, LABELS)
    for yes, no, expected in (((0.9, 0.6), (0.4, 0.1), (0.5, 0.5)), ((0.9, 0.45), (0.7, 0.15), (0.71, 0.45))):
        chosen = choose_thresholds(np.where(targets > 0, yes, no), targets, kinds)
        np.testing.assert_allclose(chosen, expected, atol=0.011)
    z, targets = unsure(3_000)
    np.testing.assert_allclose(choose_thresholds(expit(z), targets, kinds_of(targets, LABELS)), 0.5, atol=0.03)


def last_dense() -> keras.Model:
    return telling(3.0, 1.0)


def dense_and_activation() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(keras.layers.Dense(2)(x)))


def pooled_convolution() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Reshape((*SPEC.feature_shape, 1))(inputs))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1)(x))
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(x))


def dense_without_bias() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    return keras.Model(inputs, keras.layers.Dense(2, "sigmoid", use_bias=False)(keras.layers.Flatten()(inputs)))


def curved() -> keras.Model:
    """Return a network whose last layer with weights is followed by a nonlinear one."""
    inputs = keras.Input(SPEC.feature_shape)
    x = keras.layers.Activation("tanh")(keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(x))


def normalised() -> keras.Model:
    inputs = keras.Input(SPEC.feature_shape)
    x = keras.layers.BatchNormalization()(keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(x))


@pytest.mark.parametrize("build", [last_dense, dense_and_activation, pooled_convolution])
def test_folded_weights_scale_and_shift_the_logits(build):
    keras.utils.set_random_seed(1)
    model, scale, offset = build(), np.array([0.4, 1.7]), np.array([0.9, -1.2])
    features = np.random.default_rng(2).normal(0, 0.3, (20, *SPEC.feature_shape)).astype(np.float32)
    before = predict(model, LABELS, "independent", features).astype(np.float64)
    assert fold(model, LABELS, scale, offset, SPEC.feature_shape)
    after = predict(model, LABELS, "independent", features)
    np.testing.assert_allclose(after, expit(logit(before) * scale + offset), atol=1e-4)
    np.testing.assert_allclose(model.predict(features, verbose=0), after, atol=1e-6)


@pytest.mark.parametrize("build", [dense_without_bias, curved, normalised])
def test_unfoldable_network_is_unchanged(build):
    model = build()
    before = [np.copy(each) for each in model.get_weights()]
    assert not fold(model, LABELS, np.array([0.4, 1.7]), np.array([0.9, -1.2]), SPEC.feature_shape)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("augmented", [True, False])
def test_each_kind_has_equally_many_windows(pool, recipe, augmented):
    recipe = recipe if augmented else dataclasses.replace(recipe, augment=None, scenes=False)
    drawn = list(draw(pool, recipe, 3, Cache(None)))
    kinds = kinds_of(np.stack([row for _, row in drawn]), LABELS).tolist()
    assert {kind: kinds.count(kind) for kind in (*LABELS, "several", "other")} == dict.fromkeys(
        (*LABELS, "several", "other"), WINDOWS // 4
    )
    assert {window.shape for window, _ in drawn} == {(SPEC.clip_samples,)}
    again = next(draw(pool, recipe, 3, Cache(None)))
    np.testing.assert_array_equal(again[0], drawn[0][0])


def test_overconfident_network_is_calibrated(pool, recipe):
    held, layer = Held("calib", ("a",), pool), FrontEndLayer(SPEC)
    model = telling(8.0, 12.0)
    features = np.random.default_rng(0).normal(-2, 1, (9, *SPEC.feature_shape)).astype(np.float32)
    before = predict(model, LABELS, "independent", features).astype(np.float64)
    found = decide(model, held, recipe, layer, 0, Cache(None))
    assert found["windows"] == WINDOWS
    for name in ("log_loss", "calibration_error"):
        assert all(np.less(found[name]["after"], found[name]["before"]))
    exact = found["exact_label"]
    assert exact["at_half_before"] < exact["at_half"] < exact["chosen"] + 0.02
    assert {kind: each["windows"] for kind, each in exact["kinds"].items()} == dict.fromkeys(
        exact["kinds"], WINDOWS // 4
    )
    expected = expit(logit(before) * found["scale"] + found["offset"])
    np.testing.assert_allclose(predict(model, LABELS, "independent", features), expected, atol=1e-4)
    again = decide(telling(8.0, 12.0), held, recipe, layer, 0, Cache(None))
    assert again == found


def test_network_without_foldable_layer_gets_only_thresholds(pool, recipe):
    model = normalised()
    found = decide(model, Held("val", (), pool), recipe, FrontEndLayer(SPEC), 0, Cache(None))
    assert (found["scale"], found["offset"]) == ([1, 1], [0, 0])
    assert found["log_loss"]["before"] == found["log_loss"]["after"]
    assert len(found["thresholds"]) == 2


def test_calibration_part_is_used_if_there_is_one(recipe, capsys):
    val = [recording(label, 1, "val") for label in (*LABELS, None)]
    calib = [recording(label, 2, "calib") for label in (*LABELS, None)]

    def read(*recordings):
        found = read_held(Dataset("d", LABELS, "independent", recordings), val, recipe, Cache(None))
        return found.part, {name.partition("/")[0] for name in found.names}

    assert read(*val, *calib) == ("calib", {"calib"})
    assert read(*val, *calib[1:]) == ("val", {"val"})  # without speech
    assert read(*val) == ("val", {"val"})
    short = dataclasses.replace(val[0], read=lambda rate: np.zeros(800, np.float32))
    with pytest.raises(MsEdgeError, match="No recording of speech"):
        read_held(Dataset("d", LABELS, "independent", ()), [short, *val[1:]], recipe, Cache(None))


@pytest.fixture
def data(tmp_path) -> Path:
    """Write a manifest with noise, whose labels are therefore independent."""
    lines = ["path,label"]
    for label, number in product((*LABELS, "noise"), range(5)):
        soundfile.write(tmp_path / f"{label}-{number}.wav", tone(label if label in HZ else None, number), 8_000)
        lines.append(f"{label}-{number}.wav,{label if label in HZ else ''}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data.csv"


@pytest.mark.slow
def test_run_can_be_calibrated_again(data, recipe, tmp_path, monkeypatch):
    from ms_train.datasets.by_name import dataset_by_name

    dataset = dataset_by_name(f"csv:{data}")
    labels = dataset.labels
    assert dataset.decision == "independent"
    out = tmp_path / "run"
    metrics = fit(recipe, dataset, f"csv:{data}", out, Options(epochs=1))
    found = TrainedRun.load(out)
    assert metrics["decision"]["part"] == "val"
    assert found.decision == Decision("independent", tuple(metrics["decision"]["thresholds"]))
    assert set(found.split) == {"train", "val", "test"}

    monkeypatch.setattr(decision, "get_recipe", lambda name: recipe)
    before = keras.models.load_model(out / "model.keras", compile=False).get_weights()
    again = decide_again(out)
    assert again["val"] == metrics["val"]
    assert again["decision"]["thresholds"] == metrics["decision"]["thresholds"]
    np.testing.assert_allclose(again["decision"]["scale"], metrics["decision"]["scale"], rtol=1e-3)
    for one, other in zip(keras.models.load_model(out / "model.keras").get_weights(), before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert json.loads((out / "metrics.json").read_text()) == again

    # Where the data have a part for it, the run says which recordings those are.
    calib = tuple(dataclasses.replace(each, split="calib", sha256=each.name) for each in dataset.recordings[::2])
    val = tuple(dataclasses.replace(each, split="val") for each in dataset.recordings[1::2])
    other = dataclasses.replace(dataset, recordings=(*calib, *val))
    monkeypatch.setattr(decision, "dataset_of_run", lambda data: other)
    assert decide_again(out)["decision"]["part"] == "calib"
    split, digests = (json.loads((out / f"{name}.json").read_text()) for name in ("split", "data"))
    assert set(split["calib"]) == {each.name for each in calib}
    assert set(split["calib"]) <= set(digests)
    assert TrainedRun.load(out).labels == labels

    monkeypatch.setattr(decision, "get_recipe", lambda name: dataclasses.replace(recipe, augment=None))
    with pytest.raises(UsageError, match="another mel_dscnn"):
        decide_again(out)
    with pytest.raises(MsEdgeError, match="no complete run folder"):
        decide_again(tmp_path)


def test_a_run_is_served_with_its_thresholds():
    assert decision_of("independent", LABELS, [0.6, 0.4]) == Decision("independent", (0.6, 0.4))
    assert decision_of("independent", LABELS) == Decision("independent", (0.5, 0.5))
    assert decision_of("exclusive", LABELS) == Decision("exclusive", ())
    for wrong in ([float("nan"), 0.5], [0.5], [0.5, 1.5]):
        with pytest.raises(MsEdgeError, match="thresholds must be one number from 0 to 1 for each label"):
            decision_of("independent", LABELS, wrong)
