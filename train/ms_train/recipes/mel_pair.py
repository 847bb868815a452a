"""`mel_pair`: the system of the large bundled model, two networks whose answers are joined.

One is the network of the bundled model (`mel_residual`), with its weights as they are. The other is
trained here. It is the first seven of the 14 layers of YAMNet (Plakal and Ellis,
github.com/tensorflow/models, Apache-2.0), a MobileNet (Howard et al. 2017) for the 521 classes of
AudioSet; each layer keeps half of its filters. YAMNet was trained on two million clips. So its
layers know kinds of sound that no free corpus has, and make other errors than `mel_residual`.
`ms_train.training.yamnet` makes the start weights from YAMNet's. They, and networks trained from
them, are under the Apache licence too.

The front end is that of `mel_residual`. The layers of the second network, with their steps over
time:

features    every 20 ms     (frames, 48)
bands       every 20 ms     YAMNet's 64 bands, estimated from the 48
layer 1     every 20 ms     convolution of two frames by three bands
layer 2     every 20 ms     depthwise-separable convolutions
layers 3-4  every 40 ms     the same; layers 3, 5 and 7 halve time and bands
layers 5-6  every 80 ms
layer 7     every 160 ms
means       every 160 ms    the mean over the four remaining bands, with weights for each filter
windows     every 160 ms    mean and maximum over the steps of one second, and two dense layers

There is no padding over time (YAMNet has some). A window's scores therefore depend only on the
window, and overlapping windows share all layers but the last two. The second network is trained
alone: networks that are trained together learn to make the same errors (Webb et al. 2020, To
Ensemble or Not Ensemble). `joined` then returns a network whose logits are the mean of both. It
answers every 160 ms, for every second window of `mel_residual`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np

from ms_edge.arrays import Float32
from ms_train.recipes import mel_dscnn, mel_residual
from ms_train.recipes.ranges import Range
from ms_train.scores.outputs import WINDOW_SCORES

SPEC = mel_residual.SPEC
STEP_FRAMES = 8  # between two windows that share convolutions
EPOCHS, WARM_UP_STEPS = 30, 300
BANDS = 64  # of YAMNet
LAYERS = ((16, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2))  # filters, and stride
UNUSED_FRAMES = 2  # the last ones of a window, so that both networks have equally many windows
START = Path(__file__).with_suffix(".npz")
# The run folder of the bundled model. `ms_train.training`, which has this path too, imports recipes.
FIRST = Path(__file__).parents[1] / "models" / "music-speech"


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
    independent = decision == "independent"
    scores = mel_residual.scores_of(x, steps, len(labels), independent, dense, dropout)
    model = keras.Model(inputs, scores, name="yamnet_layers")
    with np.load(START) as start:
        for number, each in enumerate(started):
            each.set_weights([start[f"kernel_{number}"], start[f"bias_{number}"]])
    mel_dscnn.compile_model(
        model, independent, epochs, learning_rate, weight_decay, average or None, warm_up_steps=WARM_UP_STEPS
    )
    return model


def joined(model: keras.Model, labels: tuple[str, ...], decision: str) -> keras.Model:
    """Return the network whose logits are the mean of those of `model`, a trained network of
    `build_model`, and of the bundled model's.

    For other labels or exclusive ones, which the bundled model does not know, return `model` itself.
    """
    facts = json.loads((FIRST / "run.json").read_text("utf-8"))
    if facts["decision"] != decision or sorted(facts["labels"]) != sorted(labels):
        return model
    first = keras.models.load_model(FIRST / "model.keras", compile=False)
    order = [facts["labels"].index(label) for label in labels]
    inputs = keras.Input((None, SPEC.bins), name="features")
    step = STEP_FRAMES // mel_residual.STEP_FRAMES
    of_first, kernel_of_first, bias_of_first = _before_last(first)
    of_second, kernel_of_second, bias_of_second = _before_last(model)
    x = keras.layers.Concatenate()([of_first(inputs)[:, ::step], of_second(inputs)])
    last = keras.layers.Conv2D(len(labels), 1)
    x = keras.ops.squeeze(last(x), 2)
    kernels = [kernel_of_first[..., order], kernel_of_second]
    last.set_weights([np.concatenate(kernels, axis=2) / 2, (bias_of_first[order] + bias_of_second) / 2])
    scores = keras.layers.Activation("sigmoid", name=WINDOW_SCORES)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(scores), name="mel_pair")


def _before_last(network: keras.Model) -> tuple[keras.Model, Float32, Float32]:
    """Return a network up to the input of its last layer with weights, and that layer's kernel and
    bias.
    """
    last = next(layer for layer in reversed(network.layers) if layer.weights)
    kernel, bias = last.get_weights()
    return keras.Model(network.inputs[0], last.input, name=f"{network.name}_layers"), kernel, bias


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
