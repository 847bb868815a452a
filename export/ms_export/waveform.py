"""The front end as ONNX nodes before an exported network: one file that takes samples and runs
wherever ONNX does.

waveform  (batch, clip_samples)
windowed  (batch x frames, fft_length)     fft_length is n1 x n2, as near to a square as possible
partial   (2 x k1, n2 x batch x frames)    a product with the transform of n1 points: real and imaginary parts
parts     (k1, 2 x k2, batch x frames)     for each k1 a product with the rest of the transform of fft_length points
spectrum  (bins, batch x frames)           amplitude or power of bin k1 + n1 x k2
mel       (bands, batch x frames)          a product, if the spec has mel bands
features  (batch, *spec.feature_shape)

One step of the algorithm of Cooley and Tukey (1965) makes two short products of one long product: a
fifth of the arithmetic and a sixth of the constants. Sums of tens of terms also round less than
sums of hundreds, whose error would change scores near a full-scale tone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ms_edge.arrays import Float32
from ms_edge.features.frontend import hann_window, mel_filterbank
from ms_edge.features.spec import FEATURES, WAVEFORM, FrontEndSpec
from ms_edge.model.session import MAX_BYTES
from ms_export.errors import ExportError

SPECTRUM = "spectrum"
MAX_BLOCK = 4096  # in samples; a clip is padded with fewer samples than one block


@dataclass(frozen=True)
class _Plan:
    """How the front end of a spec is computed: the blocks that frames are made of, and the two
    factors of the transform.

    A frame of `fft_length` samples is `fft_length // block` blocks, and the first frames of a clip
    are within `blocks` blocks. The transform of `first_points x second_points` points is computed
    for `first_points x second_bins` bins, the first of which are kept.
    """

    frames: int
    block: int
    blocks: int
    first_points: int
    second_points: int
    second_bins: int

    @classmethod
    def of(cls, spec: FrontEndSpec) -> _Plan:
        length, frames = spec.fft_length, spec.frames(spec.clip_samples)
        first_points = max(side for side in range(1, math.isqrt(length) + 1) if length % side == 0)
        # The longest blocks that every frame consists of. Samples after the window have the weight
        # 0.
        block = math.gcd(spec.frame_step, length)
        if block > MAX_BLOCK:
            block = math.gcd(block, MAX_BLOCK)
        return cls(
            frames=frames,
            block=block,
            blocks=-(-((frames - 1) * spec.frame_step + min(spec.frame_length, length)) // block),
            first_points=first_points,
            second_points=length // first_points,
            second_bins=-(-(length // 2 + 1) // first_points),
        )

    def constant_bytes(self, spec: FrontEndSpec) -> int:
        """Return how many bytes the constants of the front end fill, nearly."""
        mel = (spec.fft_length // 2 + 1) * spec.mel.bands if spec.mel else 0
        values = 2 * self.first_points**2 + 4 * spec.fft_length * self.second_bins + spec.fft_length + mel
        return 4 * values + 8 * self.frames * (spec.fft_length // self.block)


class _Nodes:
    """The nodes of the front end and their constants, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"front_end.{output}", **attributes))
        return output

    def constant(self, name: str, value: Float32 | NDArray[np.int64]) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(value, f"front_end.{name}"))
        return self.constants[-1].name

    def integers(self, name: str, *values: int) -> str:
        """Add a constant of int64 and return its name."""
        return self.constant(name, np.array(values, np.int64))

    def slice(
        self, given: str, output: str, begin: tuple[str, int], end: tuple[str, int], axis: tuple[str, int]
    ) -> str:
        """Add a node that takes a part of an axis; each of `begin`, `end` and `axis` is a name and
        a value.
        """
        return self.add("Slice", [given, *(self.integers(*named) for named in (begin, end, axis))], output)

    def reshape(self, given: str, shape_name: str, shape: tuple[int, ...], output: str) -> str:
        """Add a node that reshapes; 0 keeps a size, -1 is what remains."""
        return self.add("Reshape", [given, self.integers(shape_name, *shape)], output)


def with_front_end(spec: FrontEndSpec, network: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model from waveform float32 (batch, clip_samples) to what `network` answers to the
    features of these.

    `network` is a result of `ms_export.network.to_onnx`, from features float32 (batch,
    *spec.feature_shape) to scores. It is not changed; the new model keeps its names, opset, IR
    version and metadata. If `network` answers runs of windows, the new model gives it the frames of
    one window, and its metadata no longer says that it takes more. Float32 sums in another order
    than in NumPy's transform: scores are equal within 1e-4. Raises ExportError(`too-large`) if the
    constants of the front end make the model larger than a model file may be.
    """
    if len(network.graph.input) != 1 or network.graph.input[0].name != FEATURES:
        raise ExportError("bad-graph", "The front end can only be put before a model that takes features.")
    plan = _Plan.of(spec)
    if plan.constant_bytes(spec) + network.ByteSize() > MAX_BYTES:
        raise ExportError(
            "too-large",
            f"A transform of {spec.fft_length} points makes this model larger than the {MAX_BYTES >> 20} MiB that one may have; "
            "convert it with --input features.",
        )
    front_end = _Nodes()
    frames = _add_frames(front_end, spec, plan)
    spectrum = _add_spectrum(front_end, spec, plan, frames)
    _add_features(front_end, spec, plan, spectrum)
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    _put_first(graph.node, front_end.nodes)
    _put_first(graph.initializer, front_end.constants)
    if len(graph.output[0].type.tensor_type.shape.dim) == 3:  # (batch, windows, labels)
        _answer_one_window(model, network, plan.frames)
    shape: list[str | int | None] = ["batch", spec.clip_samples]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def _add_frames(to: _Nodes, spec: FrontEndSpec, plan: _Plan) -> str:
    """Add what cuts the waveform into windowed frames, (batch x frames, fft_length), and return the
    name of these.
    """
    length, block, blocks = spec.fft_length, plan.block, plan.blocks
    missing = blocks * block - spec.clip_samples
    if missing > 0:
        x = to.add("Pad", [WAVEFORM, to.integers("beyond", 0, 0, 0, missing)], "samples")
    else:  # no frame holds the last samples
        x = to.slice(WAVEFORM, "samples", ("begin", 0), ("end", blocks * block), ("samples_axis", 1))
    x = to.reshape(x, "by_block", (0, blocks, block), "blocks")
    found = np.arange(plan.frames)[:, np.newaxis] * (spec.frame_step // block) + np.arange(length // block)
    x = to.add("Gather", [x, to.constant("found", np.minimum(found, blocks - 1))], "found_blocks", axis=1)
    x = to.reshape(x, "by_frame", (-1, length), "frames")
    return to.add("Mul", [x, to.constant("window", _window(spec))], "windowed")


def _add_spectrum(to: _Nodes, spec: FrontEndSpec, plan: _Plan, frames: str) -> str:
    """Add the transform of windowed frames and return the name of the spectrum, (bins, batch x
    frames).
    """
    first, second = _transform(spec.fft_length, plan)
    x = to.add("Transpose", [frames], "by_sample")
    x = to.reshape(x, "by_first_sample", (plan.first_points, -1), "by_first_sample")
    x = to.add("MatMul", [to.constant("first", first), x], "partial")
    x = to.reshape(x, "by_part", (2, plan.first_points, -1), "by_part")
    x = to.add("Transpose", [x], "by_first_bin", perm=[1, 0, 2])
    x = to.reshape(x, "by_second_sample", (plan.first_points, 2 * plan.second_points, -1), "by_second_sample")
    x = to.add("MatMul", [to.constant("second", second), x], "parts")
    x = to.add("Mul", [x, x], "squares")
    x = to.reshape(x, "by_square", (plan.first_points, 2, plan.second_bins, -1), "by_square")
    x = to.add("ReduceSum", [x, to.integers("parts_axis", 1)], "powers", keepdims=0)
    x = to.add("Transpose", [x], "by_second_bin", perm=[1, 0, 2])
    x = to.reshape(x, "by_bin", (plan.first_points * plan.second_bins, -1), "by_bin")
    amplitude = spec.magnitude == "amplitude"
    bins = spec.fft_length // 2 + 1
    x = to.slice(x, "power" if amplitude else SPECTRUM, ("no_bin", 0), ("bins", bins), ("bins_axis", 0))
    return to.add("Sqrt", [x], SPECTRUM) if amplitude else x


def _add_features(to: _Nodes, spec: FrontEndSpec, plan: _Plan, spectrum: str) -> None:
    """Add what makes features, (batch, *spec.feature_shape), from a spectrum: mel bands, logarithm
    and layout.
    """
    x = spectrum
    if spec.mel:
        x = to.add("MatMul", [to.constant("mel", np.ascontiguousarray(mel_filterbank(spec).T)), x], "mel")
    if spec.log_floor is not None:
        x = to.add("Add", [x, to.constant("log_floor", np.array(spec.log_floor, np.float32))], "floored")
        x = to.add("Log", [x], "logarithm")
    x = to.reshape(x, "by_clip", (spec.bins, -1, plan.frames), "by_clip")
    to.add("Transpose", [x], FEATURES, perm=[1, 0, 2] if spec.layout == "bins_frames" else [1, 2, 0])


def _put_first(kept: Any, new: Sequence[Any]) -> None:
    """Insert messages before those of a repeated protobuf field, which cannot be assigned to."""
    after = list(kept)
    del kept[:]
    kept.extend([*new, *after])


def _answer_one_window(model: onnx.ModelProto, network: onnx.ModelProto, frames: int) -> None:
    """Change a model of scores (batch, windows, labels) to scores (batch, labels), those of the one
    window of its features.
    """
    graph = model.graph
    _fix_sizes(graph, network, frames)
    for node in graph.node:
        node.output[:] = ["front_end.of_window" if name == graph.output[0].name else name for name in node.output]
    axis = numpy_helper.from_array(np.array([1], np.int64), "front_end.windows_axis")
    graph.initializer.append(axis)
    graph.node.append(
        helper.make_node("Squeeze", ["front_end.of_window", axis.name], ["scores"], name="front_end.scores")
    )
    del graph.output[0].type.tensor_type.shape.dim[1]
    entries = [entry for entry in model.metadata_props if entry.key != "ms_edge.steps"]
    del model.metadata_props[:]
    model.metadata_props.extend(entries)


def _fix_sizes(graph: onnx.GraphProto, network: onnx.ModelProto, frames: int) -> None:
    """Give each Reshape that leaves the number of frames open the sizes that it gives for one
    window.

    Then a batch of no windows works too.
    """
    known = onnx.ModelProto()
    known.CopyFrom(network)
    known.graph.input[0].type.tensor_type.shape.dim[1].dim_value = frames
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(known, data_prop=True).graph.value_info
    }
    for node in graph.node:
        made = sizes.get(node.output[0], [])[1:]
        if node.op_type == "Reshape" and made and min(made) > 0:
            shape = numpy_helper.from_array(np.array([-1, *made], np.int64), f"front_end.{node.name}")
            graph.initializer.append(shape)
            node.input[1] = shape.name
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def computed_features(model: bytes) -> Callable[[Float32], tuple[Float32, Float32]]:
    """Return a function that gives what a model of `with_front_end` computes inside, with
    onnxruntime's defaults on the CPU.

    It takes waveforms, float32 (n, clip_samples), and returns spectra (n, frames, fft_length // 2 +
    1) and features (n, *spec.feature_shape), float32.
    """
    shown = onnx.load_from_string(model)
    for name in (SPECTRUM, FEATURES):
        shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])

    def computed(waveforms: Float32) -> tuple[Float32, Float32]:
        spectra, features = session.run([SPECTRUM, FEATURES], {WAVEFORM: waveforms})
        return spectra.reshape(len(spectra), len(waveforms), -1).transpose(1, 2, 0), features

    return computed


def _window(spec: FrontEndSpec) -> Float32:
    """Return the weights of a frame's samples, (fft_length,): the Hann window, cropped or followed
    by zeros.
    """
    window = np.zeros(spec.fft_length)
    seen = min(spec.frame_length, spec.fft_length)
    window[:seen] = hann_window(spec.frame_length)[:seen]
    return window.astype(np.float32)


def _transform(length: int, plan: _Plan) -> tuple[Float32, Float32]:
    """Return the constants of both products, float32: (2 x k1, n1) and (k1, 2 x k2, 2 x n2).

    n1 and k1 count `first_points`, n2 `second_points`, k2 `second_bins`. With n = n2 +
    second_points n1 and k = k1 + first_points k2, exp(-2 pi i n k / N) is exp(-2 pi i n1 k1 /
    first_points), which is in the first product, times exp(-2 pi i n2 k / N), which is in the
    second.
    """
    n1, n2, k2 = np.arange(plan.first_points), np.arange(plan.second_points), np.arange(plan.second_bins)
    inner = _turned(np.outer(n1, n1), plan.first_points)
    outer = _turned((n1[:, np.newaxis, np.newaxis] + plan.first_points * k2[:, np.newaxis]) * n2, length)
    # A complex product as a real one: each part of the result depends on both parts of the input.
    first = np.concatenate([inner.real, inner.imag])
    second = np.block([[outer.real, -outer.imag], [outer.imag, outer.real]])
    return first.astype(np.float32), second.astype(np.float32)


def _turned(steps: NDArray[np.int64], turn: int) -> NDArray[np.complex128]:
    """Return exp(-2 pi i steps / turn). Whole turns are removed while the numbers are integers, so
    that no angle is rounded twice.
    """
    return np.asarray(np.exp(-2j * np.pi / turn * (steps % turn)), np.complex128)
