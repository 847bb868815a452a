"""Export: Keras models to ONNX, with proof."""
