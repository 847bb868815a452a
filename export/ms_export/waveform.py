"""The front end as a graph in front of an exported network: one file that runs wherever ONNX does, on samples.

waveform  (batch, clip_samples)
windowed  (batch, frames, n1, n2)          frames of fft_length = n1 x n2 samples (as square as may be), times the window
partial   (batch, frames, n2, 2, k1)       a product with the transform of n1 points: real and imaginary
parts     (batch, k1, frames, 2, k2)       a product with what is left of the transform of fft_length points, one matrix a k1
spectrum  (batch, frames, bins)            amplitude or power of bin k1 + n1 x k2
mel       (batch, frames, bands)           if the spec has mel bands: a product
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

from ms_edge.errors import MsEdgeError
from ms_edge.frontend import hann_window, mel_filterbank
from ms_edge.graph import MAX_PADDED
from ms_edge.model import MAX_BYTES
from ms_edge.spec import FEATURES, WAVEFORM, FrontEndSpec

Float32 = NDArray[np.float32]

SPECTRUM = "spectrum"


def with_front_end(spec: FrontEndSpec, network: onnx.ModelProto) -> onnx.ModelProto:
    """waveform float32 (batch, clip_samples) -> what `network` answers to its features, as ONNX.

    `network` is `ms_export.graph.to_onnx`'s, features float32 (batch, *spec.feature_shape) -> scores; it is not changed, its
    names, opset, IR version and metadata are kept. Float32 sums in another order than NumPy's transform do: scores are equal
    within 1e-4. Raises MsEdgeError(`too-large`) where the front end's constants would fill more than a model file may have.
    """
    if len(network.graph.input) != 1 or network.graph.input[0].name != FEATURES:
        raise MsEdgeError("bad-graph", "The front end can only be put before a model that takes features.")
    length, bins, frames = spec.fft_length, spec.fft_length // 2 + 1, spec.frames(spec.clip_samples)
    columns = max(side for side in range(1, math.isqrt(length) + 1) if length % side == 0)
    rows = length // columns
    second_indices = -(-bins // columns)
    # Frames are put together of the longest blocks that they all consist of. What lies past the window counts nothing.
    block = math.gcd(spec.frame_step, length)
    if block > MAX_PADDED:
        block = math.gcd(block, MAX_PADDED)
    blocks = -(-((frames - 1) * spec.frame_step + min(spec.frame_length, length)) // block)
    values = 2 * columns**2 + 4 * length * second_indices + length + (bins * spec.mel.bands if spec.mel else 0)
    if 4 * values + 8 * frames * (length // block) + network.ByteSize() > MAX_BYTES:
        raise MsEdgeError(
            "too-large",
            f"A transform of {spec.fft_length} points makes this model larger than the {MAX_BYTES >> 20} MiB that one may have; "
            "convert it with --input features.",
        )
    window, first, second = _transform(spec, columns, rows, second_indices)
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
    x = add("Reshape", [x, integers("by_first_index", 0, frames, columns, rows)], "frames")
    x = add("Mul", [x, constant("window", window)], "windowed")
    x = add("Transpose", [x], "by_row", perm=[0, 1, 3, 2])
    x = add("MatMul", [x, constant("first", first)], "partial")
    x = add("Reshape", [x, integers("by_part", 0, frames, rows, 2, columns)], "by_part")
    x = add("Transpose", [x], "by_column", perm=[0, 4, 1, 2, 3])
    x = add("Reshape", [x, integers("rows", 0, columns, frames, 2 * rows)], "rows")
    x = add("MatMul", [x, constant("second", second)], "parts")
    x = add("Mul", [x, x], "squares")
    x = add("Reshape", [x, integers("by_square", 0, columns, frames, 2, second_indices)], "by_square")
    x = add("ReduceSum", [x, integers("parts_axis", 3)], "powers", keepdims=0)
    x = add("Transpose", [x], "by_second_index", perm=[0, 2, 3, 1])
    x = add("Reshape", [x, integers("by_bin", 0, frames, columns * second_indices)], "by_bin")
    amplitude = spec.magnitude == "amplitude"
    ends = [integers(name, value) for name, value in (("no_bin", 0), ("bins", bins), ("bins_axis", 2))]
    x = add("Slice", [x, *ends], "power" if amplitude else SPECTRUM)
    if amplitude:
        x = add("Sqrt", [x], SPECTRUM)
    if spec.mel:
        x = add("MatMul", [x, constant("mel", mel_filterbank(spec))], "mel")
    if spec.log_floor is not None:
        x = add("Add", [x, constant("log_floor", np.array(spec.log_floor, np.float32))], "floored")
        x = add("Log", [x], "logarithm")
    if spec.layout == "bins_frames":
        add("Transpose", [x], FEATURES, perm=[0, 2, 1])
    else:
        add("Identity", [x], FEATURES)

    for kept, new in ((graph.node, nodes), (graph.initializer, constants)):
        after = list(kept)
        del kept[:]
        kept.extend([*new, *after])
    shape = ["batch", spec.clip_samples]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(WAVEFORM, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model, full_check=True)
    return model


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
        return spectra, features

    return computed


def _transform(spec: FrontEndSpec, columns: int, rows: int, second_indices: int) -> tuple[Float32, Float32, Float32]:
    """The window (n1, n2), and the constants of both products: (n1, 2 x k1) and (k1, n2 x 2, 2 x k2), float32.

    Of n1 and k1 there are `columns`, of n2 `rows`. With n = n2 + rows n1 and k = k1 + columns k2, exp(-2 pi i n k / N) is
    exp(-2 pi i n1 k1 / columns), the first product's, times exp(-2 pi i n2 k / N), the second's.
    """
    length = spec.fft_length
    window = np.zeros(length)
    seen = min(spec.frame_length, length)
    window[:seen] = hann_window(spec.frame_length)[:seen]
    n1, n2, k2 = np.arange(columns), np.arange(rows), np.arange(second_indices)
    inner = _turned(np.outer(n1, n1), columns)
    outer = _turned(n2[:, np.newaxis] * (n1[:, np.newaxis, np.newaxis] + columns * k2), length)
    # A complex product as a real one: what is real gives both parts, and so does what is imaginary, turned once more.
    first = np.concatenate([inner.real, inner.imag], axis=1)
    second = np.stack(
        [np.concatenate([outer.real, outer.imag], axis=2), np.concatenate([-outer.imag, outer.real], axis=2)], axis=2
    ).reshape(columns, 2 * rows, 2 * second_indices)
    return window.reshape(columns, rows).astype(np.float32), first.astype(np.float32), second.astype(np.float32)


def _turned(steps: NDArray[np.int64], turn: int) -> NDArray[np.complex128]:
    """exp(-2 pi i steps / turn). Whole turns are taken off while the numbers are whole: the angles are exact to the last digit."""
    return np.exp(-2j * np.pi / turn * (steps % turn))
