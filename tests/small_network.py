"""A network of few layers that replaces a recipe's own, because tracing thirty layers takes ten
seconds for each training.
"""

from __future__ import annotations

import dataclasses

import keras

from ms_train.recipes import mel_dscnn
from ms_train.recipes.recipe import Recipe


def few_layers(recipe: Recipe, average: float | None = None) -> Recipe:
    """Return the recipe with one layer of each kind in `mel_dscnn`; `average` is the momentum of
    averaged weights.
    """

    def build_model(labels: tuple[str, ...], decision: str, epochs: int) -> keras.Model:
        inputs = keras.Input(recipe.spec.feature_shape)
        x = keras.layers.Reshape((*recipe.spec.feature_shape, 1))(keras.layers.BatchNormalization()(inputs))
        x = keras.layers.Conv2D(4, 3, strides=4, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        x = keras.layers.DepthwiseConv2D(3, strides=2)(x)
        x = keras.layers.Dropout(0.3)(keras.layers.Flatten()(x))
        model = keras.Model(inputs, keras.layers.Dense(len(labels), activation="softmax")(x))
        mel_dscnn.compile_model(model, decision == "independent", epochs, 2e-3, 1e-3, average)
        return model

    return dataclasses.replace(recipe, build_model=build_model)
