"""Run LiteRT (`ai-edge-litert`) with ms-edge's decoding and front end on WAV files: only the
runtime of the network differs.

Arguments: the model as .tflite, and as ONNX for its front end and labels. Prints a JSON line per
file.
"""

import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ms_edge.audio.file import AudioFile
from ms_edge.features.frontend import model_inputs
from ms_edge.features.windows import batches
from ms_edge.model.session import Model

model = Model.load(sys.argv[2] or None, "cpu")
spec, labels = model.metadata.spec, model.metadata.labels
make_inputs = model_inputs(spec, model.input)
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
(given,), answers = interpreter.get_input_details(), interpreter.get_output_details()
scored = answers[-1]["index"]
held = 0
for line in sys.stdin:
    found = []
    with AudioFile(line.rstrip("\n")) as audio:
        for batch in batches(audio.blocks(spec.sample_rate_hz), spec, 32):
            inputs = make_inputs(batch.samples, batch.offsets)
            if len(inputs) != held:
                interpreter.resize_tensor_input(given["index"], inputs.shape)
                interpreter.allocate_tensors()
                held = len(inputs)
            interpreter.set_tensor(given["index"], inputs)
            interpreter.invoke()
            found.append(interpreter.get_tensor(scored))
    print(json.dumps(dict(zip(labels, np.concatenate(found).mean(axis=0).tolist(), strict=True))), flush=True)
