"""`resized_cnn`: "Classifying Music and Speech with Machine Learning" (CodeAI), after TensorFlow's simple-audio tutorial.

Whole recordings of 30 seconds at 22,050 Hz; `tf.signal.stft` with frames of 255 samples every 128 (transformed at 256 points: an
odd Hann window, which TensorFlow makes symmetric); the magnitude, no logarithm. In the graph: resized to 32 x 32 (bilinear, without
smoothing: what lies between the points is not looked at), a Normalization layer adapted to the training set, convolutions of 32 and 64
filters of 3 x 3 (relu), 2 x 2 max pooling, dropout 0.25, dense 128 (relu), dropout 0.5, one neuron a class. Adam, sparse categorical
cross-entropy from logits; files split 3 : 1 into training and validation; `tf.data` with cache and prefetch.

What the article leaves open, and what stands here: the number of epochs (60; its code is not printed, the tutorial has 10 of some
hundred steps, and there are two steps an epoch here), the batch (the tutorial's 64), the padding (the tutorial's zeros; here the
runtime's rule, a short recording over and over). What it gets wrong: its validation set is its test set, and 100 % of
32 recordings, the best epoch of many, is what it reports. We split by recording too, and test on a fold that no decision has seen.
"""

from __future__ import annotations

import keras

from ms_edge.errors import UsageError
from ms_edge.features.spec import FrontEndSpec
from ms_train.recipes.ranges import Range
from ms_train.recipes.recipe import Recipe

SPEC = FrontEndSpec(
    sample_rate_hz=22_050,
    frame_length=255,
    frame_step=128,
    fft_length=256,
    magnitude="amplitude",
    mel=None,
    log_floor=None,
    layout="frames_bins",
    clip_s=30.0,
    hop_s=30.0,
)


def build_model(
    labels: tuple[str, ...],
    decision: str,
    epochs: int,
    *,
    learning_rate: float = 1e-3,
    filters: int = 32,
    dense: int = 128,
    dropout: float = 0.5,
) -> keras.Model:
    """(batch, 5166, 129) -> logits (batch, labels). Raises UsageError where labels do not exclude one another."""
    if decision != "exclusive":
        raise UsageError(f"resized_cnn answers with one class of several; these labels are {decision}.")
    inputs = keras.Input(SPEC.feature_shape, name="features")
    x = keras.layers.Reshape((*SPEC.feature_shape, 1))(inputs)
    x = keras.layers.Resizing(32, 32)(x)
    x = keras.layers.Normalization()(x)
    x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
    x = keras.layers.Conv2D(2 * filters, 3, activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dropout(0.25)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(dense, activation="relu")(x)
    x = keras.layers.Dropout(dropout)(x)
    outputs = keras.layers.Dense(len(labels))(x)
    model = keras.Model(inputs, outputs, name="resized_cnn")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


RECIPE = Recipe(
    name="resized_cnn",
    spec=SPEC,
    build_model=build_model,
    batch_size=64,
    epochs=60,
    clips_per_recording=1,
    val_share=0.25,
    ranges={
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "filters": Range(8, 64, log=True),
        "dense": Range(16, 256, log=True),
        "dropout": Range(0.0, 0.7),
    },
)
