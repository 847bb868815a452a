"""`mel_pair`: the system of the large bundled model, two networks whose answers are joined.

One is the network of the bundled model (`mel_residual`), with its weights as they are. The other is trained
here. It is the first seven of the 14 layers of YAMNet (Plakal and Ellis, github.com/tensorflow/models, Apache-2.0),
a MobileNet (Howard et al. 2017) for the 521 classes of AudioSet, with half of their filters. YAMNet was
trained on two million clips, so its layers know kinds of sound that no free corpus has, and they make other errors
than `mel_residual`. `ms_train.training.yamnet` makes the start weights from YAMNet's.

The front end is that of `mel_residual`. The layers of the second network, with their steps over time:

features    every 20 ms     (frames, 48)
bands       every 20 ms     YAMNet's 64 bands, estimated from the 48
layer 1     every 20 ms     convolution of two frames by three bands
layers 2-7  every 160 ms    depthwise-separable convolutions; layers 3, 5 and 7 halve time and bands
means       every 160 ms    the mean over the four remaining bands, with weights for each filter
windows     every 160 ms    mean and maximum over the steps of one second, and two dense layers

There is no padding over time (YAMNet has some), so that a window's scores depend only on the window, and
overlapping windows share all layers but the last two. The second network is trained alone: networks that are
trained together learn to make the same errors (Webb et al. 2020, To Ensemble or Not Ensemble). `joined` then
returns a network whose logits are the mean of both. It answers every 160 ms, for every second window of
`mel_residual`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np

from ms_train.recipes import mel_dscnn, mel_residual
from ms_train.recipes.ranges import Range
from ms_train.scores.losses import compile_for
from ms_train.scores.outputs import WINDOW_SCORES

SPEC = mel_residual.SPEC
STEP_FRAMES = 8  # between two windows that share convolutions
EPOCHS, WARM_UP_STEPS = 30, 300
BANDS = 64  # of YAMNet
LAYERS = ((16, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2))  # filters, and stride
UNUSED_FRAMES = 2  # the last ones of a window, which mel_residual uses and the second network does not
START = Path(__file__).with_suffix(".npz")
FIRST = Path(__file__).parents[1] / "models" / "music-speech"  # the run folder of the bundled model


def build_model(
    labels: tuple[str, ...],
    decision: str,
    epochs: int,
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.05,
    dense: int = 96,
    dropout: float = 0.1,
    average: float = 0.999,
) -> keras.Model:
    """Return the second network, compiled, (batch, any frames, 48) -> (batch, labels), with a softmax
    for exclusive labels and sigmoids for independent ones.

    It needs 49 frames (one second). `average` is the momentum of the averaged weights.
    """
    inputs = keras.Input((None, SPEC.bins), name="features")
    bands = keras.layers.Conv1D(BANDS, 1, name="bands")
    x = keras.ops.expand_dims(bands(inputs[:, :-UNUSED_FRAMES]), -1)
    started: list[keras.Layer] = [bands]
    steps = SPEC.feature_shape[0] - UNUSED_FRAMES
    for filters, stride in LAYERS:
        x = keras.layers.ZeroPadding2D(((0, 0), (0, 1) if stride == 2 else (1, 1)))(x)
        if len(started) == 1:
            convolutions = [keras.layers.Conv2D(filters, (2, 3), strides=(1, 2))]
            steps -= 1
        else:
            convolutions = [keras.layers.DepthwiseConv2D(3, strides=stride), keras.layers.Conv2D(filters, 1)]
            steps = (steps - 3) // stride + 1
        for each in convolutions:
            x = keras.layers.ReLU()(each(x))
        started += convolutions
    equal = keras.initializers.Constant(1 / x.shape[2])
    x = keras.layers.ReLU()(keras.layers.DepthwiseConv2D((1, x.shape[2]), depthwise_initializer=equal)(x))
    mean, most = (
        layer((steps, 1), strides=1)(x) for layer in (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
    )
    x = keras.layers.Dropout(dropout)(keras.layers.Concatenate()([mean, most]))
    x = keras.layers.Dropout(dropout)(keras.layers.Conv2D(dense, 1, activation="relu")(x))
    independent = decision == "independent"
    x = keras.ops.squeeze(keras.layers.Conv2D(len(labels), 1)(x), 2)
    scores = keras.layers.Activation("sigmoid" if independent else "softmax", name=WINDOW_SCORES)(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(scores), name="yamnet_layers")
    with np.load(START) as start:
        for number, each in enumerate(started):
            each.set_weights([start[f"kernel_{number}"], start[f"bias_{number}"]])
    rate = keras.optimizers.schedules.CosineDecay(
        learning_rate / 20,
        max(1, epochs * mel_dscnn.STEPS_PER_EPOCH - WARM_UP_STEPS),
        warmup_target=learning_rate,
        warmup_steps=WARM_UP_STEPS,
    )
    averaging = {"use_ema": True, "ema_momentum": average} if average else {}
    compile_for(model, independent, keras.optimizers.AdamW(rate, weight_decay=weight_decay, **averaging))
    return model


def joined(model: keras.Model, labels: tuple[str, ...], decision: str) -> keras.Model:
    """Return the network whose logits are the mean of those of `model`, a trained network of
    `build_model`, and of the bundled model's.

    For other labels than the bundled model's, return `model` itself.
    """
    facts = json.loads((FIRST / "run.json").read_text("utf-8"))
    if (facts["labels"], facts["decision"]) != (list(labels), decision):
        return model
    first = keras.models.load_model(FIRST / "model.keras", compile=False)
    inputs = keras.Input((None, SPEC.bins), name="features")
    values, kernels, biases = [], [], []
    for network, step in ((first, STEP_FRAMES // mel_residual.STEP_FRAMES), (model, 1)):
        last = next(layer for layer in reversed(network.layers) if layer.weights)
        values.append(keras.Model(network.inputs[0], last.input, name=f"{network.name}_layers")(inputs)[:, ::step])
        kernel, bias = last.get_weights()
        kernels.append(kernel / 2)
        biases.append(bias / 2)
    last = keras.layers.Conv2D(len(labels), 1)
    x = keras.ops.squeeze(last(keras.layers.Concatenate()(values)), 2)
    last.set_weights([np.concatenate(kernels, axis=2), np.sum(biases, axis=0)])
    scores = keras.layers.Activation("sigmoid", name=WINDOW_SCORES)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(scores), name="mel_pair")


RECIPE = dataclasses.replace(
    mel_dscnn.RECIPE,
    name="mel_pair",
    spec=SPEC,
    build_model=build_model,
    joined=joined,
    epochs=EPOCHS,
    clips_per_recording=mel_residual.CLIPS_PER_RECORDING,
    ranges={
        **{name: each for name, each in mel_dscnn.RECIPE.ranges.items() if name != "width"},
        "average": Range(0.0, 0.9999),
    },
)
