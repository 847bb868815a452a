"""`resized_cnn`: "Classifying Music and Speech with Machine Learning" (CodeAI), after TensorFlow's
simple-audio tutorial.

Whole recordings of 30 seconds at 22,050 Hz; `tf.signal.stft` with frames of 255 samples every 128,
transformed at 256 points (TensorFlow makes a Hann window of odd length symmetric); the magnitude,
without logarithm. The network: resizing to 32 x 32 (bilinear without smoothing, so that values
between the points have no influence), a Normalization layer adapted to the training set,
convolutions of 32 and 64 filters of 3 x 3 (relu), 2 x 2 max pooling, dropout 0.25, dense 128
(relu), dropout 0.5, one neuron for each class. Adam, sparse categorical cross-entropy from logits;
files are split 3 : 1 into training and validation; `tf.data` with cache and prefetch.

The article leaves some points open. The number of epochs is 60 here: the article's code is not
printed, the tutorial has 10 epochs of about a hundred steps, and an epoch has two steps here. The
batch size is the tutorial's 64. The tutorial pads short recordings with zeros; here they are
repeated, as in the runtime. The article's validation set is its test set, and the result it
reports, 100 % of 32 recordings, is that of the best epoch of many. We also split by recording, and
test on a fold that no decision uses.
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
    """Return the compiled network, (batch, 5166, 129) -> logits (batch, labels).

    Raises UsageError for independent labels.
    """
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
