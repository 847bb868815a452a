"""The front end as a graph in front of an exported network: one file that runs wherever ONNX does, on samples.

waveform  (batch, clip_samples)
windowed  (batch x frames, fft_length)     fft_length is n1 x n2, as nearly a square as may be
partial   (2 x k1, n2 x batch x frames)    a product with the transform of n1 points: real and imaginary
parts     (k1, 2 x k2, batch x frames)     products with what is left of the transform of fft_length points, one a k1
spectrum  (bins, batch x frames)           amplitude or power of bin k1 + n1 x k2
mel       (bands, batch x frames)          if the spec has mel bands: a product
features  (batch, *spec.feature_shape)

Two short products in place of one long one (Cooley and Tukey 1965, once): a fifth of the arithmetic, a sixth of the constants, and sums
of tens of terms round less than sums of hundreds, which a network near a full-scale tone would tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
MAX_BLOCK = 4096  # samples; a clip is padded by fewer than one block


def with_front_end(spec: FrontEndSpec, network: onnx.ModelProto) -> onnx.ModelProto:
    """waveform float32 (batch, clip_samples) -> what `network` answers to its features, as ONNX.

    `network` is `ms_export.network.to_onnx`'s, features float32 (batch, *spec.feature_shape) -> scores; it is not changed, its
    names, opset, IR version and metadata are kept. One that answers runs of windows gets the frames of one window, and its metadata
    no longer says that it takes more. Float32 sums in
    another order than NumPy's transform do: scores are equal within 1e-4. Raises ExportError(`too-large`) where the front end's
    constants would fill more than a model file may have.
    """
    if len(network.graph.input) != 1 or network.graph.input[0].name != FEATURES:
        raise ExportError("bad-graph", "The front end can only be put before a model that takes features.")
    length, bins, frames = spec.fft_length, spec.fft_length // 2 + 1, spec.frames(spec.clip_samples)
    first_points = max(side for side in range(1, math.isqrt(length) + 1) if length % side == 0)
    second_points = length // first_points
    second_bins = -(-bins // first_points)
    # Frames are put together of the longest blocks that they all consist of. What lies past the window counts nothing.
    block = math.gcd(spec.frame_step, length)
    if block > MAX_BLOCK:
        block = math.gcd(block, MAX_BLOCK)
    blocks = -(-((frames - 1) * spec.frame_step + min(spec.frame_length, length)) // block)
    values = 2 * first_points**2 + 4 * length * second_bins + length + (bins * spec.mel.bands if spec.mel else 0)
    if 4 * values + 8 * frames * (length // block) + network.ByteSize() > MAX_BYTES:
        raise ExportError(
            "too-large",
            f"A transform of {spec.fft_length} points makes this model larger than the {MAX_BYTES >> 20} MiB that one may have; "
            "convert it with --input features.",
        )
    window, first, second = _transform(spec, first_points, second_points, second_bins)
    model = onnx.ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(operator: str, inputs: list[str], *outputs: str, **attributes: int | list[int]) -> str:
        nodes.append(helper.make_node(operator, inputs, outputs, name=f"front_end.{outputs[0]}", **attributes))
        return outputs[0]

    def constant(name: str, value: Float32 | NDArray[np.int64]) -> str:
        constants.append(numpy_helper.from_array(value, f"front_end.{name}"))
        return constants[-1].name

    def integers(name: str, *values: int) -> str:
        return constant(name, np.array(values, np.int64))

    beyond = blocks * block - spec.clip_samples
    if beyond > 0:
        x = add("Pad", [WAVEFORM, integers("beyond", 0, 0, 0, beyond)], "samples")
    else:  # No frame looks at the rest.
        ends = [integers(name, value) for name, value in (("begin", 0), ("end", blocks * block), ("samples_axis", 1))]
        x = add("Slice", [WAVEFORM, *ends], "samples")
    x = add("Reshape", [x, integers("by_block", 0, blocks, block)], "blocks")
    found = np.arange(frames)[:, np.newaxis] * (spec.frame_step // block) + np.arange(length // block)
    x = add("Gather", [x, constant("found", np.minimum(found, blocks - 1))], "found_blocks", axis=1)
    x = add("Reshape", [x, integers("by_frame", -1, length)], "frames")
    x = add("Mul", [x, constant("window", window)], "windowed")
    x = add("Transpose", [x], "by_sample")
    x = add("Reshape", [x, integers("by_first_sample", first_points, -1)], "by_first_sample")
    x = add("MatMul", [constant("first", first), x], "partial")
    x = add("Reshape", [x, integers("by_part", 2, first_points, -1)], "by_part")
    x = add("Transpose", [x], "by_first_bin", perm=[1, 0, 2])
    x = add("Reshape", [x, integers("by_second_sample", first_points, 2 * second_points, -1)], "by_second_sample")
    x = add("MatMul", [constant("second", second), x], "parts")
    x = add("Mul", [x, x], "squares")
    x = add("Reshape", [x, integers("by_square", first_points, 2, second_bins, -1)], "by_square")
    x = add("ReduceSum", [x, integers("parts_axis", 1)], "powers", keepdims=0)
    x = add("Transpose", [x], "by_second_bin", perm=[1, 0, 2])
    x = add("Reshape", [x, integers("by_bin", first_points * second_bins, -1)], "by_bin")
    amplitude = spec.magnitude == "amplitude"
    ends = [integers(name, value) for name, value in (("no_bin", 0), ("bins", bins), ("bins_axis", 0))]
    x = add("Slice", [x, *ends], "power" if amplitude else SPECTRUM)
    if amplitude:
        x = add("Sqrt", [x], SPECTRUM)
    if spec.mel:
        x = add("MatMul", [constant("mel", np.ascontiguousarray(mel_filterbank(spec).T)), x], "mel")
    if spec.log_floor is not None:
        x = add("Add", [x, constant("log_floor", np.array(spec.log_floor, np.float32))], "floored")
        x = add("Log", [x], "logarithm")
    x = add("Reshape", [x, integers("by_clip", spec.bins, -1, frames)], "by_clip")
    add("Transpose", [x], FEATURES, perm=[1, 0, 2] if spec.layout == "bins_frames" else [1, 2, 0])

    for kept, new in ((graph.node, nodes), (graph.initializer, constants)):
        after = list(kept)
        del kept[:]
        kept.extend([*new, *after])
    if len(graph.output[0].type.tensor_type.shape.dim) == 3:  # (batch, windows, labels): one window
        _fix_sizes(graph, network, frames)
        for node in graph.node:
            node.output[:] = ["front_end.of_window" if name == graph.output[0].name else name for name in node.output]
        constants_after = numpy_helper.from_array(np.array([1], np.int64), "front_end.windows_axis")
        graph.initializer.append(constants_after)
        graph.node.append(
            helper.make_node(
                "Squeeze", ["front_end.of_window", constants_after.name], ["scores"], name="front_end.scores"
            )
        )
        del graph.output[0].type.tensor_type.shape.dim[1]
        entries = [entry for entry in model.metadata_props if entry.key != "ms_edge.steps"]
        del model.metadata_props[:]
        model.metadata_props.extend(entries)
    shape = ["batch", spec.clip_samples]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


def _fix_sizes(graph: onnx.GraphProto, network: onnx.ModelProto, frames: int) -> None:
    """Give each Reshape that leaves the number of frames open the sizes it makes of one window: then it makes none of none, too."""
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
    """What a model file made of `with_front_end` computes within, under onnxruntime's defaults on the CPU.

    waveforms float32 (n, clip_samples) -> spectra (n, frames, fft_length // 2 + 1) and features (n, *spec.feature_shape), float32.
    """
    shown = onnx.load_from_string(model)
    for name in (SPECTRUM, FEATURES):
        shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])

    def computed(waveforms: Float32) -> tuple[Float32, Float32]:
        spectra, features = session.run([SPECTRUM, FEATURES], {WAVEFORM: waveforms})
        return spectra.reshape(len(spectra), len(waveforms), -1).transpose(1, 2, 0), features

    return computed


def _transform(
    spec: FrontEndSpec, first_points: int, second_points: int, second_bins: int
) -> tuple[Float32, Float32, Float32]:
    """The window (fft_length,), and the constants of both products: (2 x k1, n1) and (k1, 2 x k2, 2 x n2), float32.

    Of n1 and k1 there are `first_points`, of n2 `second_points`, of k2 `second_bins`. With n = n2 + second_points n1 and
    k = k1 + first_points k2, exp(-2 pi i n k / N) is exp(-2 pi i n1 k1 / first_points), the first product's, times
    exp(-2 pi i n2 k / N), the second's.
    """
    length = spec.fft_length
    window = np.zeros(length)
    seen = min(spec.frame_length, length)
    window[:seen] = hann_window(spec.frame_length)[:seen]
    n1, n2, k2 = np.arange(first_points), np.arange(second_points), np.arange(second_bins)
    inner = _turned(np.outer(n1, n1), first_points)
    outer = _turned((n1[:, np.newaxis, np.newaxis] + first_points * k2[:, np.newaxis]) * n2, length)
    # A complex product as a real one: both parts of the answer are of both parts of what is given.
    first = np.concatenate([inner.real, inner.imag])
    second = np.block([[outer.real, -outer.imag], [outer.imag, outer.real]])
    return window.astype(np.float32), first.astype(np.float32), second.astype(np.float32)


def _turned(steps: NDArray[np.int64], turn: int) -> NDArray[np.complex128]:
    """exp(-2 pi i steps / turn). Whole turns are taken off while the numbers are whole: the angles are exact to the last digit."""
    return np.exp(-2j * np.pi / turn * (steps % turn))
