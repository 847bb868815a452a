"""`mel_residual`: the system of the bundled model, residual convolutions over time that overlapping
windows share.

The front end is that of `mel_patches`: 16 kHz; frames of 25 ms every 20 ms; 48 mel bands from 60 to
7,600 Hz; log(x + 0.02); per-band normalisation inside the network. The layers, with their steps
over time:

features   (frames, 48)
patches    every 40 ms     convolution of four frames by six bands, every two frames and three bands
local      every 80 ms     two depthwise-separable convolutions (Howard et al. 2017), the first every second patch
bands      every 80 ms     one convolution over all remaining bands, because the position in the spectrum matters
residual   every 80 ms     separable convolutions over time, added to their input (He et al. 2016)
windows    every 80 ms     mean and maximum over the steps of one second, and two dense layers: one answer for each window

There is no padding over time. A window's scores therefore depend only on the window, and windows
whose distance is a multiple of 80 ms share all layers but the last line. The layer `window_scores`
gives the scores of every such window in any number of frames. A clip's scores are the mean over its
windows; a clip of one second is one window.
"""

from __future__ import annotations

import dataclasses

import keras

from ms_train.recipes import mel_dscnn, mel_patches
from ms_train.recipes.ranges import Range
from ms_train.scores.outputs import WINDOW_SCORES

SPEC = dataclasses.replace(mel_patches.SPEC, hop_s=0.16)
STEP_FRAMES = 4  # between two windows that share convolutions
EPOCHS = 60
CLIPS_PER_RECORDING = 3  # of the validation recordings, which are scored after each epoch


def build_model(
    labels: tuple[str, ...],
    decision: str,
    epochs: int,
    *,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    width: float = 1.5,
    blocks: int = 3,
    dense: int = 96,
    dropout: float = 0.1,
    average: float = 0.999,
) -> keras.Model:
    """Return the compiled network, (batch, any frames, 48) -> (batch, labels), with a softmax for
    exclusive labels and sigmoids for independent ones.

    It needs 49 frames (one second). `width` multiplies the filters of every convolution; `blocks`
    are the residual ones; `average` is the momentum of the averaged weights.
    """
    inputs = keras.Input((None, SPEC.bins), name="features")
    x = keras.layers.BatchNormalization(momentum=mel_dscnn.MOMENTUM, name="band_normalisation")(inputs)
    x = keras.ops.expand_dims(x, -1)
    x = _activated(keras.layers.Conv2D(round(32 * width), (4, 6), strides=(2, 3), use_bias=False)(x))
    for filters, stride in ((64, 2), (80, 1)):
        x = _normalised(keras.layers.DepthwiseConv2D(3, strides=stride, use_bias=False)(x))
        x = _activated(keras.layers.Conv2D(round(filters * width), 1, use_bias=False)(x))
    filters = round(96 * width)
    x = _activated(keras.layers.Conv2D(filters, (1, x.shape[2]), use_bias=False)(x))
    for _ in range(blocks):
        added = _activated(keras.layers.DepthwiseConv2D((3, 1), use_bias=False)(x))
        added = _normalised(keras.layers.Conv2D(filters, 1, use_bias=False)(added))
        x = keras.layers.ReLU()(keras.layers.Add()([keras.layers.Cropping2D(((1, 1), (0, 0)))(x), added]))
    patches = (SPEC.feature_shape[0] - 4) // 2 + 1
    steps = (patches - 3) // 2 + 1 - 2 - 2 * blocks  # of one second
    independent = decision == "independent"
    scores = scores_of(x, steps, len(labels), independent, dense, dropout)
    model = keras.Model(inputs, scores, name="mel_residual")
    mel_dscnn.compile_model(model, independent, epochs, learning_rate, weight_decay, average or None)
    return model


def scores_of(
    x: keras.KerasTensor, steps: int, labels: int, independent: bool, dense: int, dropout: float
) -> keras.KerasTensor:
    """Return scores (batch, labels), the mean over the layer `window_scores` (batch, windows, labels), of
    values (batch, any steps, 1, filters): a window is the mean and maximum over `steps` of them.
    """
    mean, most = (
        layer((steps, 1), strides=1)(x) for layer in (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
    )
    x = keras.layers.Dropout(dropout)(keras.layers.Concatenate()([mean, most]))
    x = keras.layers.Dropout(dropout)(keras.layers.Conv2D(dense, 1, activation="relu")(x))
    x = keras.ops.squeeze(keras.layers.Conv2D(labels, 1)(x), 2)
    scores = keras.layers.Activation("sigmoid" if independent else "softmax", name=WINDOW_SCORES)(x)
    return keras.layers.GlobalAveragePooling1D()(scores)


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.BatchNormalization(momentum=mel_dscnn.MOMENTUM)(x)


def _activated(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.ReLU()(_normalised(x))


RECIPE = dataclasses.replace(
    mel_dscnn.RECIPE,
    name="mel_residual",
    spec=SPEC,
    build_model=build_model,
    epochs=EPOCHS,
    clips_per_recording=CLIPS_PER_RECORDING,
    ranges={**mel_dscnn.RECIPE.ranges, "blocks": Range(choices=(0, 1, 2, 3)), "average": Range(0.0, 0.9999)},
)
