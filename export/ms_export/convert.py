"""A run folder to one self-describing ONNX file, or to nothing where TensorFlow and the edge runtime part."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import onnx
import tensorflow as tf
import tf2onnx

from ms_edge.errors import MsEdgeError, UsageError
from ms_edge.golden import golden_deviations
from ms_edge.model import Model
from ms_edge.spec import FEATURES, WAVEFORM
from ms_export import certificate, metadata
from ms_export.implementations import implementations
from ms_export.parity import Report, check, tolerances_of
from ms_export.reference import Reference
from ms_export.run import Run
from ms_export.signals import clip_case, grid
from ms_export.waveform import with_front_end
from ms_train.datasets import Recording

OPSET = 15  # read by onnxruntime 1.10 and later
IR_VERSION = 8


def convert(
    run: Run,
    out: Path,
    *,
    data: str | None = None,
    archive: Path | None = None,
    licence: str = "unspecified",
    input: str = FEATURES,
) -> list[Report]:
    """Convert a run to the model file `out`, checking what is served against TensorFlow from the recording on.

    `input` is what the model takes: `features`, or the `waveform`, with the front end in the graph.
    The file appears whole and only if every stage of every case is within its tolerance: real clips held out from training,
    and the grid. Beside it a report, `NAME.parity.md` and `.parity.png`. Raises MsEdgeError(`no-parity`) otherwise; then
    nothing is written.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError("usage", f"{out}: give -o a file in a folder that exists.")
    graph = to_onnx(run.network, run.spec.feature_shape, run.recipe)
    if input == WAVEFORM:
        graph = with_front_end(run.spec, graph)
    tolerances = tolerances_of(input)
    recordings = run.held_out(data, archive)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        partial = Path(scratch) / out.name
        partial.write_bytes(metadata.embed(graph, metadata.entries(run, licence, {}, tolerances)))
        reports = compare(run, partial, recordings)
        for report in reports:
            if not report.passed:
                raise MsEdgeError("no-parity", f"{report.describe()}; nothing was written.")
        parity = certificate.parity_entry(reports, run.data)
        partial.write_bytes(metadata.embed(graph, metadata.entries(run, licence, parity, tolerances)))
        model = Model.load(partial, "cpu")
        for stage, found in golden_deviations(model).items():
            if not found.passed:
                raise MsEdgeError("no-parity", f"The golden vector's {stage} differ by {found}; nothing was written.")
        report = out.with_suffix(".parity.md")
        certificate.write(reports, model, Path(scratch) / report.name, source_of(recordings, data))
        for written in (report, report.with_suffix(".png"), out):
            os.replace(Path(scratch) / written.name, written)
    return reports


def compare(run: Run, path: Path, recordings: dict[str, list[Recording]], *, everything: bool = False) -> list[Report]:
    """Hold a model file to the run it came from: one report for each way to run it, over real clips and the grid."""
    # The same differences in every process: how TensorFlow parts a sum over its threads is else left to chance.
    tf.config.experimental.enable_op_determinism()
    model = Model.load(path, "cpu")
    spec = model.metadata.spec
    clips = run.real_clips(recordings)
    cases = chain(
        (clip_case(name, samples, spec.sample_rate_hz, real=True) for name, samples in clips.items()),
        grid(spec, run.real_signals(recordings), everything=everything),
    )
    reference = Reference(spec, run.network, run.labels, run.decision)
    return check(implementations(model, path.read_bytes()), reference, cases, spec)


def require_same(model: Model, run: Run) -> None:
    """Raise MsEdgeError(`other-run`) where a model file was not made from this run."""
    for what, have, want in (
        ("recipe", model.metadata.recipe, run.recipe),
        ("front end", model.metadata.spec.digest, run.spec.digest),
        ("labels", model.metadata.labels, run.labels),
        ("decision", model.metadata.decision.kind, run.decision.kind),
    ):
        if have != want:
            raise MsEdgeError(
                "wrong-run",
                f"{model.path}: was not converted from this run: {what} {_text(have)}, in the run {_text(want)}; name its own run "
                "with --against.",
            )


def _text(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def source_of(recordings: dict[str, list[Recording]], data: str | None) -> str:
    """Where the real recordings of a comparison came from, in words."""
    counts = ", ".join(f"{len(found):,} of {label}" for label, found in recordings.items())
    return f"{counts} ({'named for it' if data else 'held out from training'})" if counts else "none"


def to_onnx(network: keras.Model, feature_shape: tuple[int, ...], name: str) -> onnx.ModelProto:
    """Features (batch, *feature_shape) -> scores (batch, labels) as ONNX, probabilities in label order."""

    @tf.function(input_signature=[tf.TensorSpec((None, *feature_shape), tf.float32, name="features")])
    def scores(features: tf.Tensor) -> tf.Tensor:
        _, probabilities = network(features, training=False)
        return tf.identity(probabilities, name="scores")

    graph, _ = tf2onnx.convert.from_function(scores, input_signature=scores.input_signature, opset=OPSET)
    graph.ir_version = IR_VERSION
    graph.doc_string = graph.graph.doc_string = ""
    graph.graph.name = name
    canonicalise(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def canonicalise(graph: onnx.GraphProto) -> None:
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
