from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ms_train.recipes.by_name import get_recipe
from ms_train.scores.losses import DecidableAccuracy, compile_for, decidable_crossentropy

TARGETS = np.array([[1, 0], [np.nan, 1], [0, np.nan], [np.nan, np.nan]], np.float32)
SCORES = np.array([[0.9, 0.2], [0.3, 0.4], [0.6, 0.9], [0.5, 0.5]], np.float32)


def test_undecided_targets_have_no_loss():
    expected = -np.array([np.log(0.9) + np.log(0.8), np.log(0.4), np.log(0.4), 0]) / 2
    np.testing.assert_allclose(decidable_crossentropy(TARGETS, SCORES), expected, rtol=1e-5)


def test_decided_targets_have_the_loss_of_keras():
    targets = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(
        decidable_crossentropy(targets, SCORES[:2]), keras.losses.binary_crossentropy(targets, SCORES[:2]), rtol=1e-5
    )


def test_undecided_targets_have_no_gradient():
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(decidable_crossentropy(tf.constant(TARGETS), scores))
    gradient = tape.gradient(loss, scores).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient == 0, np.isnan(TARGETS))


def test_accuracy_counts_decided_targets():
    metric = DecidableAccuracy(name="accuracy")
    metric.update_state(TARGETS, SCORES)
    assert float(metric.result()) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    "name",
    [
        "mel_dscnn",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mel_patches", "mel_residual", "mel_attention")),
    ],
)
def test_recipes_learn_from_undecidable_targets(name, tmp_path):
    recipe = get_recipe(name)
    model = recipe.build_model(("speech", "music"), "independent", 1)
    model.run_eagerly = True  # tracing takes seconds
    features = np.random.default_rng(0).standard_normal((4, *recipe.spec.feature_shape)).astype(np.float32)
    history = model.fit(features, TARGETS, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")  # compiled
    loaded.run_eagerly = True
    assert np.isfinite(loaded.evaluate(features, TARGETS, verbose=0)).all()


def test_exclusive_labels_keep_their_loss():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs))
    compile_for(model, False, keras.optimizers.SGD())
    assert model.loss == "categorical_crossentropy"
