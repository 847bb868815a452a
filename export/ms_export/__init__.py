"""Export: Keras models to ONNX, with proof."""

import ms_edge  # noqa: F401  # before onnxruntime, which it tells to report nothing
