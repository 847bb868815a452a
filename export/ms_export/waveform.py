"""The front end as a graph in front of an exported network: one file that runs wherever ONNX does, on samples.

waveform  (batch, clip_samples)
seen      (batch, 1, samples some whole frame sees)
parts     (batch, 2 x bins, frames)   real and imaginary: a convolution with the windowed discrete Fourier transform
spectrum  (batch, bins, frames)       amplitude or power
mel       (batch, bands, frames)      if the spec has mel bands: a convolution of length 1
features  (batch, *spec.feature_shape)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ms_edge.errors import MsEdgeError
from ms_edge.frontend import hann_window, mel_filterbank
from ms_edge.model import MAX_BYTES
from ms_edge.spec import FEATURES, WAVEFORM, FrontEndSpec

Float32 = NDArray[np.float32]

SPECTRUM = "spectrum"


def with_front_end(spec: FrontEndSpec, network: onnx.ModelProto) -> onnx.ModelProto:
    """waveform float32 (batch, clip_samples) -> what `network` answers to its features, as ONNX.

    `network` is `ms_export.graph.to_onnx`'s, features float32 (batch, *spec.feature_shape) -> scores; it is not changed, its
    names, opset, IR version and metadata are kept. Float32 sums in another order than NumPy's transform do: scores are equal
    within 1e-4. Raises MsEdgeError(`too-large`) where the transform's constants would fill more than a model file may have.
    """
    if len(network.graph.input) != 1 or network.graph.input[0].name != FEATURES:
        raise MsEdgeError("bad-graph", "The front end can only be put before a model that takes features.")
    seen, bins, frames = (
        min(spec.frame_length, spec.fft_length),
        spec.fft_length // 2 + 1,
        spec.frames(spec.clip_samples),
    )
    if 2 * bins * seen * 4 + network.ByteSize() > MAX_BYTES:
        raise MsEdgeError(
            "too-large",
            f"A transform of {spec.fft_length} points makes this model larger than the {MAX_BYTES >> 20} MiB that one may have; "
            "convert it with --input features.",
        )
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

    # Frames are counted by frame_length, and the convolution would fit in more of what they see.
    last = (frames - 1) * spec.frame_step + seen
    ends = [constant(name, np.array([value], np.int64)) for name, value in (("first", 0), ("last", last), ("axis", 1))]
    x = add("Slice", [WAVEFORM, *ends], "samples")
    x = add("Unsqueeze", [x, ends[2]], "seen")
    x = add("Conv", [x, constant("transform", _windowed_dft(spec, seen))], "parts", strides=[spec.frame_step])
    x = add("Mul", [x, x], "squares")
    add("Split", [x], "real_squares", "imaginary_squares", axis=1)
    amplitude = spec.magnitude == "amplitude"
    x = add("Add", ["real_squares", "imaginary_squares"], "power" if amplitude else SPECTRUM)
    if amplitude:
        x = add("Sqrt", [x], SPECTRUM)
    if spec.mel:
        x = add("Conv", [x, constant("mel", np.ascontiguousarray(mel_filterbank(spec).T[:, :, np.newaxis]))], "mel")
    if spec.log_floor is not None:
        x = add("Add", [x, constant("log_floor", np.array(spec.log_floor, np.float32))], "floored")
        x = add("Log", [x], "logarithm")
    if spec.layout == "frames_bins":
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
        return spectra.swapaxes(1, 2), features

    return computed


def _windowed_dft(spec: FrontEndSpec, seen: int) -> Float32:
    """The rows of the transform, (2 x bins, 1, seen) float32: cosines, then sines, each times the window."""
    bins = np.arange(spec.fft_length // 2 + 1)
    # Whole turns are taken off while the numbers are whole: the angles are exact to the last digit.
    angles = 2 * np.pi / spec.fft_length * (np.outer(bins, np.arange(seen)) % spec.fft_length)
    rows = np.concatenate([np.cos(angles), -np.sin(angles)]) * hann_window(spec.frame_length)[:seen]
    return rows[:, np.newaxis].astype(np.float32)
