"""Convert a Keras network to an ONNX graph that is small, has only standard operators, and is the
same in every process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx  # type: ignore[import-untyped]
from onnx import helper, numpy_helper

OUTPUTS = ("scores", "level")
OPSET = 15  # read by onnxruntime 1.10 and later
IR_VERSION = 8


def to_onnx(network: keras.Model, feature_shape: tuple[int | None, ...], name: str) -> onnx.ModelProto:
    """Convert a network of logits and scores to ONNX: features float32 (batch, *feature_shape) to
    scores (batch, labels).

    If the network has a third output, it becomes the graph's second, `level` (batch, 2).

    If the first size of `feature_shape` is None, the graph takes any number of frames and gives
    scores (batch, windows, labels). Everything that is the same for each clip is computed here and
    not on the device: normalisations are folded into the convolutions before them, and shapes
    become constants.
    """

    def answer(features: tf.Tensor) -> tuple[tf.Tensor, ...]:
        _, *outputs = network(features, training=False)
        return tuple(tf.identity(output, name=name) for output, name in zip(outputs, OUTPUTS, strict=False))

    signature = [tf.TensorSpec((None, *feature_shape), tf.float32, name="features")]
    scores = tf.function(answer, input_signature=signature)
    traced, _ = tf2onnx.convert.from_function(scores, input_signature=scores.input_signature, opset=OPSET)
    _bind_captures(traced.graph, scores.get_concrete_function())
    graph = _optimised(_with_constant_shapes(traced, feature_shape))
    _put_activation_last(graph.graph)
    graph.graph.name = name
    return canonical(graph)


def canonical(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with our opset and IR version and with names in graph order, and check it.

    The names that tf2onnx gives depend on what the process converted before.
    """
    graph.ir_version = IR_VERSION
    del graph.opset_import[:]
    graph.opset_import.add(domain="", version=OPSET)
    graph.producer_name = graph.producer_version = graph.doc_string = graph.graph.doc_string = ""
    _rename(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _rename(graph: onnx.GraphProto) -> None:
    """Name nodes and values by their place in the graph, and its input and outputs `features`,
    `scores` and, if there is one, `level`.
    """
    del graph.value_info[:]
    ends = dict(zip((value.name for value in graph.output), OUTPUTS, strict=False))
    names = {graph.input[0].name: "features", **ends}
    initializers = {initializer.name: initializer for initializer in graph.initializer}
    for index, node in enumerate(graph.node):
        for kind, values in (("constant", node.input), ("value", node.output)):
            for name in values:
                if name and name not in names:
                    names[name] = f"{kind}_{len(names)}"
        node.name = f"{node.op_type}_{index}"
        node.doc_string = ""
        node.input[:] = [names.get(name, "") for name in node.input]
        node.output[:] = [names.get(name, "") for name in node.output]
    ordered = [initializers[name] for name in names if name in initializers]
    for initializer in ordered:
        initializer.name = names[initializer.name]
        initializer.doc_string = ""
    kept = [onnx.TensorProto.FromString(initializer.SerializeToString()) for initializer in ordered]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for value, name in zip((graph.input[0], *graph.output), ("features", *OUTPUTS), strict=False):
        value.name = name
        sizes = value.type.tensor_type.shape.dim
        sizes[0].dim_param = "batch"
        if len(sizes) > 2 and not sizes[1].HasField("dim_value"):
            sizes[1].dim_param = "frames" if name == "features" else "windows"


def _put_activation_last(graph: onnx.GraphProto) -> None:
    """Swap a last transposition of the scores with the sigmoid or softmax before it, so that the
    input of the last node is the logits.
    """
    made_by = {name: (place, node) for place, node in enumerate(graph.node) for name in node.output}
    to, last = made_by[graph.output[0].name]
    at, activation = made_by.get(last.input[0], (to, last))
    if activation.op_type not in ("Sigmoid", "Softmax") or last.op_type != "Transpose":
        return
    perm = list(helper.get_node_attr_value(last, "perm"))
    transposition = helper.make_node("Transpose", activation.input, activation.output, last.name, perm=perm)
    attributes: dict[str, Any] = {}
    if activation.op_type == "Softmax":
        axis = next((found.i for found in activation.attribute if found.name == "axis"), -1)
        attributes = {"axis": perm.index(axis % len(perm))}
    answer = helper.make_node(activation.op_type, last.input, last.output, activation.name, **attributes)
    graph.node[at].CopyFrom(transposition)
    graph.node[to].CopyFrom(answer)


def _bind_captures(graph: onnx.GraphProto, function: tf.types.experimental.ConcreteFunction) -> None:
    """Make constants of captured tensors that are no variables, such as the mean of a Normalization
    layer.

    tf2onnx leaves these as inputs of the graph.
    """
    values = {placeholder.name: tensor for tensor, placeholder in function.graph.captures}
    for value in list(graph.input):
        if value.name in values:
            graph.input.remove(value)
            graph.initializer.append(numpy_helper.from_array(values[value.name].numpy(), value.name))


def _with_constant_shapes(model: onnx.ModelProto, feature_shape: tuple[int | None, ...]) -> onnx.ModelProto:
    """Replace the computed shape of each Reshape by a constant; Keras computes the batch size with
    six nodes.

    The shapes are observed with batches of 2 and of 3. The one size that is proportional to the
    batch becomes -1.
    """
    constants = {initializer.name for initializer in model.graph.initializer}
    computed = [node for node in model.graph.node if node.op_type == "Reshape" and node.input[1] not in constants]
    sizes = [size for size in feature_shape if size is not None]
    if not computed or len(sizes) < len(feature_shape):
        return model
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    names = [node.output[0] for node in computed]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    by_two, by_three = (
        [np.array(value.shape) for value in session.run(names, {given: np.zeros((batch, *sizes), np.float32)})]
        for batch in (2, 3)
    )
    for node, two, three in zip(computed, by_two, by_three, strict=True):
        grows = two != three
        if grows.sum() > 1 or (3 * two != 2 * three)[grows].any():
            continue
        node.input[1] = f"{node.name}.shape"
        model.graph.initializer.append(numpy_helper.from_array(np.where(grows, -1, two), node.input[1]))
    needed = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    kept = [node for node in model.graph.node if needed.intersection(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph after onnxruntime's basic optimisations, which depend on no device and add
    no operators of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)
