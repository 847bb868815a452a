"""A network of few layers that replaces a recipe's own, because tracing thirty layers takes ten
seconds for each training, and a recipe whose clips are short.
"""

from __future__ import annotations

import dataclasses

import keras

from ms_train.recipes import mel_dscnn
from ms_train.recipes.recipe import Recipe


def short_clips(recipe: Recipe) -> Recipe:
    """Return the recipe with clips of one second if its own are longer. Its network must take its
    shape from the recipe, as that of `few_layers` does.
    """
    spec = recipe.spec
    return dataclasses.replace(recipe, spec=dataclasses.replace(spec, clip_s=1.0, hop_s=min(1.0, spec.hop_s)))


def few_layers(recipe: Recipe, average: float | None = None, *, eager: bool = False) -> Recipe:
    """Return the recipe with one layer of each kind in `mel_dscnn`; `average` is the momentum of
    averaged weights. An `eager` network is never traced: of a few steps, tracing is most of the
    time.
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
        model.run_eagerly = eager
        return model

    return dataclasses.replace(recipe, build_model=build_model)
