"""Score WAV files (16 kHz mono) as in training, with tf.signal and Keras, and print a JSON line per
file.

Arguments: the folder that benchmarks.speed.keras_model wrote, and the labels, separated by commas.
Samples are read and windows are cut as in ms-edge. One traced function scores 64 windows at a time.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ms_edge.audio.file import read_mono
from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import batches
from ms_train.frontend import FrontEndLayer

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
folder, labels = Path(sys.argv[1]), sys.argv[2].split(",")
network = keras.models.load_model(folder / "model.keras", compile=False)
spec = FrontEndSpec.from_json((folder / "spec.json").read_text("utf-8"))
layer = FrontEndLayer(spec)


@tf.function(input_signature=[tf.TensorSpec((None, spec.clip_samples), tf.float32)])
def scores_of(clips):
    """Return scores (windows, labels)."""
    return network(layer(clips), training=False)


for line in sys.stdin:
    samples = read_mono(line.rstrip("\n"), spec.sample_rate_hz)
    found = [
        scores_of(np.stack([batch.samples[at:][: spec.clip_samples] for at in batch.offsets])).numpy()
        for batch in batches([samples], spec, 64)
    ]
    print(json.dumps(dict(zip(labels, np.concatenate(found).mean(axis=0).tolist(), strict=True))), flush=True)
