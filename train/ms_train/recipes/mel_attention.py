"""`mel_attention`: self-attention over log-mel frames, small enough for the edge; `mel_dscnn` is
compared with it.

The front end is that of `mel_dscnn`. Two strided convolutions turn a second into 13 tokens. Two
pre-norm transformer blocks (Vaswani et al. 2017; four heads of 12) attend to all of them. A learned
weighting over time (attention pooling, Lin et al. 2017) gives one vector. The network has no
recurrence: unrolled, it would be a long graph; as a loop, it would need ONNX's Loop, which our
runtime refuses.
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
    """Return the compiled network, (batch, 49, 48) -> (batch, labels), with a softmax for exclusive
    labels and sigmoids for independent ones.
    """
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
        "width": Range(choices=(24, 32, 48, 64, 96)),  # multiples of the number of heads
        "blocks": Range(1, 4),
    },
)
