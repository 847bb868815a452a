"""Convert a model's graph to lower precision: int8, calibrated on clips, or fp16."""

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
EVERY_SIXTH = 6  # one clip in six is used again too loud and too quiet
CLIPPED_GAIN = 10.0  # +20 dB, then clipped at full scale
QUIET_GAIN = 0.01  # -40 dB

# Operators that multiply, and operators between two of these that can also work on int8. Two parts
# remain fp32, with a few hundred weights: the normalisation of features before the first
# convolution, and the last layer, because a step of 1/255 of the range of its logits is up to 0.03
# in score.
INT8_OPERATORS = ["Conv", "MatMul", "Gemm", "Relu", "MaxPool", "AveragePool", "Reshape", "Transpose"]
MULTIPLYING_OPERATORS = ("Conv", "MatMul", "Gemm")
BATCH = 64


def calibration_clips(recordings: Sequence[Recording], spec: FrontEndSpec) -> Float32:
    """Return the clips that set the ranges of int8 values: (clips, clip_samples), float32.

    There are a hundred clips of each label (also of noise), from all its recordings. One in six
    occurs again 20 dB louder and clipped, and again 40 dB quieter. The last clip is silence.
    """
    found: list[Float32] = []
    for label in dict.fromkeys(recording.label for recording in recordings):
        mine = _spread([recording for recording in recordings if recording.label == label], CALIBRATION_CLIPS_PER_LABEL)
        each = -(-CALIBRATION_CLIPS_PER_LABEL // len(mine))
        for _, audio in clips.read_all(mine, spec.sample_rate_hz, f"{label or 'noise'} to calibrate"):
            found += _spread([samples for _, samples in windows([audio[:]], spec)], each)
    some = found[::EVERY_SIXTH]
    clipped = [np.clip(CLIPPED_GAIN * samples, -1, 1) for samples in some]
    quiet = [QUIET_GAIN * samples for samples in some]
    return np.stack([*found, *clipped, *quiet, np.zeros(spec.clip_samples)]).astype(np.float32)


def to_int8(graph: onnx.ModelProto, calibration: Float32) -> onnx.ModelProto:
    """Return the model with 8-bit weights (one scale per channel) and activations, in QDQ format.

    `calibration` is features (clips, ...), which set the ranges of the activations.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._batches = (calibration[at : at + BATCH] for at in range(0, len(calibration), BATCH))

        def get_next(self) -> dict[str, Float32] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"features": batch}

    with tempfile.TemporaryDirectory() as temporary:
        fp32, prepared, quantized = (Path(temporary) / f"{name}.onnx" for name in ("fp32", "prepared", "quantized"))
        onnx.save(graph, fp32)
        # Infers shapes and folds constants, as its documentation advises. Symbolic shapes are for
        # transformers and need sympy.
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
            # Weights of 7 bits: with 8 bits, the 16-bit sums of x86 processors without VNNI
            # overflow, and scores differ by up to 0.07 (measured). With 7 bits the scores are equal
            # to the bit.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _plain(onnx.load(quantized))


def to_fp16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with 16-bit weights and activations; features and scores remain float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto.FromString(graph.SerializeToString())
    return _plain(convert_float_to_float16(copy, keep_io_types=True))


def _plain(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph in the form that `ms-export convert` writes: nodes and names in order, our
    opset and IR version.
    """
    known = {"", graph.graph.input[0].name, *(initializer.name for initializer in graph.graph.initializer)}
    pending, ordered = list(graph.graph.node), []
    while pending:  # converters append nodes at the end of the list
        ready = next(node for node in pending if known.issuperset(node.input))
        pending.remove(ready)
        ordered.append(ready)
        known.update(ready.output)
    del graph.graph.node[:]
    graph.graph.node.extend(ordered)
    return canonical(graph)


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` of the items, each from the middle of one of `count` equal parts."""
    count = min(len(items), count)
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]
