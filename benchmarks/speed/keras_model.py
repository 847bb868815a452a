"""Rebuild the Keras network of a model file with the weights in the file, for TensorFlow and
LiteRT. benchmarks.speed starts it.

    python -m benchmarks.speed.keras_model MODEL FOLDER

Builds the network of the file's recipe and sets the weights of the graph. In the graph, batch
normalisation is part of the convolutions; in the rebuilt network it only adds their biases. Writes
FOLDER/model.keras and FOLDER/spec.json if both networks give the same scores. Exits 1 with a
sentence if the model is of another kind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ms_edge.model.session import Model
from ms_train.recipes.by_name import recipes

SAME = 1e-4  # largest difference of scores


def weights(path: str) -> tuple[list[NDArray[Any]], Iterator[tuple[NDArray[Any], NDArray[Any]]]]:
    """Return the scale and offset of the features, then the kernel and the bias of each layer."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    first = [constants[node.input[1]] for node in graph.node[:2] if node.op_type in ("Mul", "Add")]
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    return first, ((constants[node.input[1]], constants[node.input[2]]) for node in layers)


def rebuilt(model: Model) -> keras.Model:
    """Return the network. Raises ValueError if the recipe and the graph do not fit each other."""
    facts = model.metadata
    network = recipes()[facts.recipe].build_model(facts.labels, facts.decision.kind, 1)
    (scale, shift), kernels = weights(model.path)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            ones = np.ones_like(shift)
            layer.set_weights([ones * scale, shift, 0 * ones, ones - layer.epsilon])
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            (kernel, shift), scale = next(kernels), np.float32(1)
            order = (2, 3, 1, 0) if isinstance(layer, keras.layers.Conv2D) else (2, 3, 0, 1)
            layer.set_weights([kernel.transpose(order), *([shift] if layer.use_bias else [])])
        elif isinstance(layer, keras.layers.Dense):
            layer.set_weights(next(kernels))
    if next(kernels, None):
        raise ValueError("the graph has more layers than its recipe")
    features = np.random.default_rng(0).normal(-1, 1, (8, *facts.spec.feature_shape)).astype(np.float32)
    difference = np.abs(np.asarray(network(features, training=False)) - model.scores(features)).max()
    if not difference <= SAME:
        raise ValueError(f"scores differ by {difference:.1e}")
    return network


def main() -> int:
    """Rebuild the network and write it."""
    folder = Path(sys.argv[2])
    try:
        model = Model.load(sys.argv[1] or None, "cpu")
        network = rebuilt(model)
    except Exception as error:  # Keras raises many types
        print(f"its Keras network cannot be made of it: {error}".partition("\n")[0], file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(model.metadata.spec.to_json(), "utf-8")
    network.save(folder / "model.keras")
    return 0


if __name__ == "__main__":
    sys.exit(main())
