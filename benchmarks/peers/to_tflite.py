"""The network of a run folder as .tflite, in windows of so many seconds. Arguments: RUN, SECONDS, FILE."""

import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ms_export.run import Run

run = Run.load(Path(sys.argv[1]))
if run.spec.clip_s != float(sys.argv[2]):
    run = run.in_windows_of(float(sys.argv[2]))


@tf.function(input_signature=[tf.TensorSpec((None, *run.spec.feature_shape), tf.float32)])
def scores(features):
    """(windows, labels)."""
    return run.network(features, training=False)[1]


# Keras 3's variables are left without values otherwise, and all scores are NaN.
frozen = convert_variables_to_constants_v2(scores.get_concrete_function())
converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
Path(sys.argv[3]).write_bytes(converter.convert())
