"""`mel_dscnn`: our own compact system. Log-mel bands, a depthwise-separable CNN of 34,000 parameters, any number of frames.

16 kHz; frames of 25 ms every 20 ms; 48 mel bands from 60 to 7,600 Hz of the amplitude spectrum; log(x + 0.02); per-band
normalisation inside the network, so that it travels with the weights. Depthwise-separable convolutions follow MobileNet
(Howard et al. 2017); they pad nothing, so that a window's scores are of what is in it, and mean and maximum over time make one
answer of any half a second or more. Served in windows of one second, trained on half a second to ten.

The first convolution looks at patches of 80 ms by six bands, every 40 ms and three bands: four fifths of the work of a convolution on
every frame and band bring nothing that could be heard in validation, and one second costs a single core 12 us in onnxruntime.

The floor of 0.02 is what float32 transforms can be equal to within 1e-3 (1e-4 of the window's sum, 200). A tone
reaches it at -74 dB of full scale, white noise at about -52 dB RMS: what is quieter than that in its band is not heard.
Of the band values of GTZAN recordings 1 % (music) to 3 % (speech) lie under it.
"""

from __future__ import annotations

from functools import partial

import keras

from ms_edge.spec import FrontEndSpec, MelSpec
from ms_train.augmentations import chain
from ms_train.ranges import Range
from ms_train.recipes import Recipe

SPEC = FrontEndSpec(
    sample_rate_hz=16_000,
    frame_length=400,
    frame_step=320,
    fft_length=400,
    magnitude="amplitude",
    mel=MelSpec(bands=48, low_hz=60.0, high_hz=7600.0),
    log_floor=0.02,
    layout="frames_bins",
    clip_s=1.0,
    hop_s=0.5,
)
BATCH_SIZE, EPOCHS, STEPS_PER_EPOCH = 128, 24, 250
# Of batches, by the seconds of their clips: mostly what is served, and every other length that may be.
CLIP_LENGTHS_S = {0.5: 0.1, 1.0: 0.8, 2.0: 0.07, 5.0: 0.02, 10.0: 0.01}
MOMENTUM = 0.9  # of the statistics that normalisation is served with: Keras's 0.99 lags behind trainings of few epochs


def network(
    spec: FrontEndSpec,
    name: str,
    labels: tuple[str, ...],
    decision: str,
    epochs: int,
    *,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-3,
    width: float = 1.0,
    dense: int = 48,
    dropout: float = 0.2,
) -> keras.Model:
    """The network on features (batch, any frames, bins): softmax where labels exclude one another, else one sigmoid each.

    It needs 24 frames (half a second). `width` multiplies the filters of every convolution.
    """
    inputs = keras.Input((None, spec.bins), name="features")
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="band_normalisation")(inputs)
    x = keras.ops.expand_dims(x, -1)
    x = _activated(keras.layers.Conv2D(round(32 * width), (4, 6), strides=(2, 3), use_bias=False)(x))
    for filters, stride in ((64, 2), (80, 1), (96, 2)):
        x = keras.layers.DepthwiseConv2D(3, strides=stride, use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM)(x)
        x = _activated(keras.layers.Conv2D(round(filters * width), 1, use_bias=False)(x))
    # Over time alone: where in the spectrum something is, matters.
    x = keras.layers.Reshape((-1, x.shape[2] * x.shape[3]))(x)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(x), keras.layers.GlobalMaxPooling1D()(x)])
    x = keras.layers.Dropout(dropout)(x)
    x = keras.layers.Dense(dense, activation="relu")(x)
    x = keras.layers.Dropout(dropout)(x)
    independent = decision == "independent"
    outputs = keras.layers.Dense(len(labels), activation="sigmoid" if independent else "softmax")(x)
    model = keras.Model(inputs, outputs, name=name)
    compile_model(model, independent, epochs, learning_rate, weight_decay)
    return model


def compile_model(
    model: keras.Model, independent: bool, epochs: int, learning_rate: float, weight_decay: float
) -> None:
    """AdamW along a cosine over all steps; binary cross-entropy where labels are independent, else categorical."""
    model.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(learning_rate, epochs * STEPS_PER_EPOCH), weight_decay=weight_decay
        ),
        loss="binary_crossentropy" if independent else "categorical_crossentropy",
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy") if independent else "accuracy"],
    )


def _activated(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=MOMENTUM)(x))


build_model = partial(network, SPEC, "mel_dscnn")  # (batch, any frames, 48) -> (batch, labels)

RECIPE = Recipe(
    name="mel_dscnn",
    spec=SPEC,
    build_model=build_model,
    batch_size=BATCH_SIZE,
    epochs=EPOCHS,
    clips_per_recording=30,
    clip_lengths_s=CLIP_LENGTHS_S,
    steps_per_epoch=STEPS_PER_EPOCH,
    augment=chain(("speed", 0.2), ("codec", 0.02), "channel"),
    ranges={
        "learning_rate": Range(2e-4, 2e-2, log=True),
        "weight_decay": Range(1e-5, 1e-1, log=True),
        "width": Range(choices=(0.5, 0.75, 1.0, 1.5, 2.0)),
        "dense": Range(8, 96, log=True),
        "dropout": Range(0.0, 0.6),
    },
)
