"""Export trained networks to ONNX model files, and compare each file with TensorFlow.

`source` reads a run or a Keras model, `network`, `steps` and `waveform` make the graph, `convert`
writes the file. `parity` compares the `cases` of each of the `implementations` with the `reference`
within `tolerances`, and `certificate` reports that. `quantize` and `triton` start from a model
file. These modules may import `ms_train` and `ms_edge`. To add a way to run a model that must equal
TensorFlow, begin with `implementations`.
"""

import ms_edge  # noqa: F401  # before onnxruntime, whose telemetry it turns off
