"""The way of training on WAV files (16 kHz mono): tf.signal and Keras, from a run folder. A JSON line a file.

Arguments: RUN, and the seconds of a window.
Samples are read, and windows cut, as ms-edge does; 64 windows at a time go through one traced function.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from ms_edge.audio import read_mono
from ms_edge.windows import batches
from ms_export.run import Run
from ms_train.frontend import FrontEndLayer

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
run = Run.load(Path(sys.argv[1]))
if run.spec.clip_s != float(sys.argv[2]):
    run = run.in_windows_of(float(sys.argv[2]))
spec, layer = run.spec, FrontEndLayer(run.spec)


@tf.function(input_signature=[tf.TensorSpec((None, spec.clip_samples), tf.float32)])
def scores_of(clips):
    """(windows, labels)."""
    return run.network(layer(clips), training=False)[1]


for line in sys.stdin:
    samples = read_mono(line.rstrip("\n"), spec.sample_rate_hz)
    found = [
        scores_of(np.stack([batch.samples[at:][: spec.clip_samples] for at in batch.offsets])).numpy()
        for batch in batches([samples], spec, 64)
    ]
    print(json.dumps(dict(zip(run.labels, np.concatenate(found).mean(axis=0).tolist(), strict=True))), flush=True)
