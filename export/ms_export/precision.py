"""A model's graph in lower precision: int8, calibrated on clips, and fp16."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from ms_edge.arrays import Float32
from ms_edge.features.spec import FrontEndSpec
from ms_edge.features.windows import windows
from ms_export.network import canonical
from ms_train.datasets import clips
from ms_train.datasets.dataset import Recording

Item = TypeVar("Item")

CALIBRATION_CLIPS_PER_LABEL = 100
EVERY_SIXTH = 6  # of those clips again too loud and too quiet
CLIPPED_GAIN = 10.0  # +20 dB, then cut off at full scale
QUIET_GAIN = 0.01  # -40 dB

# What multiplies, and what may stand between two of them without leaving int8. The normalisation of the features before the
# first convolution and the last layer, whose logits a step of 1/255 of their range would coarsen to 0.03 in score, remain
# fp32: together they hold a few hundred weights.
INT8_OPERATORS = ["Conv", "MatMul", "Gemm", "Relu", "MaxPool", "AveragePool", "Reshape", "Transpose"]
MULTIPLYING_OPERATORS = ("Conv", "MatMul", "Gemm")
BATCH = 64


def calibration_clips(recordings: Sequence[Recording], spec: FrontEndSpec) -> Float32:
    """What int8's ranges are taken from: (clips, clip_samples) float32.

    A hundred clips of each label (noise too), spread over its recordings; a sixth of them again 20 dB louder and clipped, and
    again 40 dB quieter; and silence.
    """
    found: list[Float32] = []
    for label in dict.fromkeys(recording.label for recording in recordings):
        mine = _spread([recording for recording in recordings if recording.label == label], CALIBRATION_CLIPS_PER_LABEL)
        each = -(-CALIBRATION_CLIPS_PER_LABEL // len(mine))
        for _, audio in clips.read_all(mine, spec.sample_rate_hz, f"{label or 'noise'} to calibrate"):
            found += _spread([samples for _, samples in windows([audio], spec)], each)
    some = found[::EVERY_SIXTH]
    clipped = [np.clip(CLIPPED_GAIN * samples, -1, 1) for samples in some]
    quiet = [QUIET_GAIN * samples for samples in some]
    return np.stack([*found, *clipped, *quiet, np.zeros(spec.clip_samples)]).astype(np.float32)


def to_int8(graph: onnx.ModelProto, calibration: Float32) -> onnx.ModelProto:
    """The model with 8-bit weights (one scale for each channel) and activations, as QDQ, ranges from features (clips, ...)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = (calibration[at : at + BATCH] for at in range(0, len(calibration), BATCH))

        def get_next(self) -> dict[str, Float32] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"features": batch}

    with tempfile.TemporaryDirectory() as temporary:
        fp32, prepared, quantized = (Path(temporary) / f"{name}.onnx" for name in ("fp32", "prepared", "quantized"))
        onnx.save(graph, fp32)
        # Shapes and folded constants, as its documentation advises; shapes by formula are for transformers and need sympy.
        quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
        last = [node.name for node in onnx.load(prepared).graph.node if node.op_type in MULTIPLYING_OPERATORS][-1:]
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=INT8_OPERATORS,
            nodes_to_exclude=last,
            per_channel=True,
            # Weights of 7 bits: with 8, x86 processors without VNNI overflow their 16-bit sums and answer otherwise (by up to
            # 0.07 in score, measured); with 7 the answers are the same to the bit.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _plain(onnx.load(quantized))


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The model with 16-bit weights and activations between float32 features and float32 scores."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto.FromString(graph.SerializeToString())
    return _plain(convert_float_to_float16(copy, keep_io_types=True))


def _plain(graph: onnx.ModelProto) -> onnx.ModelProto:
    """What `ms-export convert` writes: nodes in order, names in graph order, its opset and IR version, nothing unused."""
    known = {"", graph.graph.input[0].name, *(initializer.name for initializer in graph.graph.initializer)}
    pending, ordered = list(graph.graph.node), []
    while pending:  # converters append nodes at the end
        ready = next(node for node in pending if known.issuperset(node.input))
        pending.remove(ready)
        ordered.append(ready)
        known.update(ready.output)
    del graph.graph.node[:]
    graph.graph.node.extend(ordered)
    return canonical(graph)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many of them, each from the middle of its equal share."""
    count = min(len(items), count)
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]
