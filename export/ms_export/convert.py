"""A run folder to one self-describing ONNX file, or to nothing where TensorFlow and the edge runtime part."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import onnx
import tensorflow as tf
import tf2onnx

from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.golden import golden_error
from ms_edge.model import Model
from ms_export import metadata
from ms_export.parity import FEATURE_TOLERANCE, SCORE_TOLERANCE, Difference, compare, synthetic_signals
from ms_export.run import Run

OPSET = 15  # read by onnxruntime 1.10 and later
IR_VERSION = 8


def convert(
    folder: Path, out: Path, *, data: str | None = None, archive: Path | None = None, licence: str = "unspecified"
) -> Difference:
    """Convert the run in `folder` to `out`, checking what is served against TensorFlow from the waveform on.

    The file appears whole and only if every stage is within its tolerance over the run's held-out clips and all
    synthetic signals. Raises MsEdgeError(`no-parity`) otherwise; then nothing is written.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError("usage", f"{out}: give -o a file in a folder that exists.")
    run = Run.load(folder)
    clips = run.real_clips(data, archive) | synthetic_signals(run.spec, run.spec.clip_samples)
    graph = to_onnx(run.network, run.spec.feature_shape)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(metadata.embed(graph, metadata.entries(run, licence, {})))
        difference = compare(run.network, Model.load(partial, "cpu"), clips)
        if not difference.passed:
            raise MsEdgeError("no-parity", f"{difference.describe()}; nothing was written.")
        partial.write_bytes(
            metadata.embed(graph, metadata.entries(run, licence, metadata.parity_entry(difference, len(clips))))
        )
        feature_error, score_error = golden_error(Model.load(partial, "cpu"))
        if not (feature_error <= FEATURE_TOLERANCE and score_error <= SCORE_TOLERANCE):
            raise MsEdgeError(
                "no-parity",
                f"The golden vector differs by {feature_error:.1e} and {score_error:.1e}; nothing was written.",
            )
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def to_onnx(network: keras.Model, feature_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Features (batch, *feature_shape) -> scores (batch, labels) as ONNX, probabilities in label order."""

    @tf.function(input_signature=[tf.TensorSpec((None, *feature_shape), tf.float32, name="features")])
    def scores(features: tf.Tensor) -> tf.Tensor:
        outputs = network(features, training=False)
        if outputs.shape[1] == 1:  # one sigmoid neuron: the probability of the second label
            outputs = tf.concat([1.0 - outputs, outputs], axis=1)
        return tf.identity(outputs, name="scores")

    graph, _ = tf2onnx.convert.from_function(scores, input_signature=scores.input_signature, opset=OPSET)
    graph.ir_version = IR_VERSION
    graph.doc_string = graph.graph.doc_string = ""
    graph.graph.name = network.name
    _canonicalise(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _canonicalise(graph: onnx.GraphProto) -> None:
    """Names in graph order and nothing but the graph: tf2onnx counts upwards as long as the process lives."""
    del graph.value_info[:]
    names = {graph.input[0].name: "features", graph.output[0].name: "scores"}
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
    for value, name in ((graph.input[0], "features"), (graph.output[0], "scores")):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
