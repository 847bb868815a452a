"""`mel_attention`: log-mel frames under self-attention, small enough for the edge: what `mel_dscnn` is held against.

The front end is `mel_dscnn`'s. Two strided convolutions make 13 tokens of a second, two pre-norm transformer blocks (Vaswani et al. 2017;
four heads of 12) look at all of them, and a learned weighting over time (attention pooling, Lin et al. 2017) makes one vector. No
recurrence: an unrolled one is a long graph, a rolled one needs ONNX's Loop, which our runtime refuses.
"""

from __future__ import annotations

import dataclasses

import keras

from ms_train.recipes import mel_dscnn
from ms_train.recipes.ranges import Range

HEADS = 4


def build_model(
    labels: tuple[str, ...],
    decision: str,
    epochs: int,
    *,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-3,
    width: int = 48,
    blocks: int = 2,
    dropout: float = 0.3,
) -> keras.Model:
    """(batch, 49, 48) -> (batch, labels): softmax where labels exclude one another, one sigmoid each where they do not."""
    inputs = keras.Input(mel_dscnn.SPEC.feature_shape, name="features")
    x = keras.layers.BatchNormalization(momentum=mel_dscnn.MOMENTUM, name="band_normalisation")(inputs)
    for _ in range(2):
        x = keras.layers.Conv1D(width, 5, strides=2, padding="same", activation="relu")(x)
    tokens = x.shape[1]
    places = keras.layers.Embedding(tokens, width, name="places")
    x = x + places(keras.ops.arange(tokens))
    for _ in range(blocks):
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(HEADS, width // HEADS, dropout=0.1)(y, y)
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(2 * width, activation="relu")(y)
        x = x + keras.layers.Dropout(0.1)(keras.layers.Dense(width)(y))
    x = keras.layers.LayerNormalization()(x)
    weights = keras.layers.Softmax(axis=1)(keras.layers.Dense(1)(x))
    x = keras.ops.sum(x * weights, axis=1)
    x = keras.layers.Dropout(dropout)(x)
    independent = decision == "independent"
    outputs = keras.layers.Dense(len(labels), activation="sigmoid" if independent else "softmax")(x)
    model = keras.Model(inputs, outputs, name="mel_attention")
    mel_dscnn.compile_model(model, independent, epochs, learning_rate, weight_decay)
    return model


RECIPE = dataclasses.replace(
    mel_dscnn.RECIPE,
    name="mel_attention",
    build_model=build_model,
    ranges={
        **{name: mel_dscnn.RECIPE.ranges[name] for name in ("learning_rate", "weight_decay", "dropout")},
        "width": Range(choices=(24, 32, 48, 64, 96)),  # of a whole number a head
        "blocks": Range(1, 4),
    },
)
