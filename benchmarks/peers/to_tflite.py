"""Convert the network that benchmarks.speed.keras_model wrote to .tflite. Arguments: its FOLDER,
and the FILE to write.
"""

import sys
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from ms_edge.features.spec import FrontEndSpec

folder = Path(sys.argv[1])
network = keras.models.load_model(folder / "model.keras", compile=False)
spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))


@tf.function(input_signature=[tf.TensorSpec((None, *spec.feature_shape), tf.float32)])
def scores(features):
    """Return scores (windows, labels)."""
    return network(features, training=False)


# Otherwise the variables of Keras 3 have no values, and all scores are NaN.
frozen = convert_variables_to_constants_v2(scores.get_concrete_function())
converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
Path(sys.argv[2]).write_bytes(converter.convert())
