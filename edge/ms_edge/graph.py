"""What a model file computes, read from its bytes before onnxruntime sees them: the operators a network needs, and no more.

onnxruntime computes what depends on constants alone while it loads a model, and a hundred bytes of those can fill any
memory. So a graph is walked first: Protocol Buffers' wire format (protobuf.dev/programming-guides/encoding) with the field
numbers of onnx.proto, as far as that takes. What is not understood is refused, and nothing is computed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from itertools import zip_longest

from ms_edge.errors import ModelError

Wire = int | memoryview  # a number, or bytes: text, a message or packed numbers

# What ms-export writes (features, waveform, int8, fp16), and what Keras' usual layers become. Left out is what makes much of
# little (Expand, Tile, Range, ConstantOfShape, ConvTranspose …), draws at random, or holds graphs of its own.
OPERATORS = frozenset((
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Conv", "DequantizeLinear",
    "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Flatten", "Floor", "GRU", "Gather", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Greater", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LSTM",
    "LayerNormalization", "LeakyRelu", "Less", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Not",
    "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "RNN", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Resize", "Selu", "Shape", "Sigmoid", "Sign", "Slice",
    "Softmax", "Softplus", "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Transpose",
    "Unsqueeze", "Where",
))  # fmt: skip
# Of constants alone only these: they make no more values than there are in the file.
OF_CONSTANTS = (
    "Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
MAX_PADDED = 4096  # values that padding may make of one
DOMAINS = (b"", b"ai.onnx")
FLOAT, INT64 = 1, 7  # TensorProto.DataType


def require_known_operators(content: bytes) -> None:
    """Raise ModelError(`bad-model`) unless a model's bytes are a graph of `OPERATORS` within these limits."""
    try:
        whole = list(_fields(memoryview(content)))
        parts = [part for number, graph in whole if number == 7 for part in _fields(_bytes(graph))]
        if any(number in (20, 25) for number, _ in whole):
            raise _refused("functions")
        if any(number == 15 for number, _ in parts):
            raise _refused("sparse constants")
        tensors = [_bytes(value) for number, value in parts if number == 5]
        constants = {bytes(_first(tensor, 8)): tensor for tensor in tensors}
        if len(constants) != len(tensors):
            raise _refused("a name for two constants")
        known = set(constants)
        for number, value in parts:
            if number == 1:
                _require_known(_bytes(value), constants, known)
    except (ValueError, struct.error):
        raise ModelError("bad-model", "not a model that onnxruntime can run: its bytes are no ONNX graph.") from None


def _require_known(node: memoryview, constants: dict[bytes, memoryview], known: set[bytes]) -> None:
    """Look at one node, after those whose values it takes; `known` holds the names of what depends on constants alone."""
    inputs, outputs, operator = [], [], ""
    attributes = []
    for number, value in _fields(node):
        if number == 1:
            inputs.append(bytes(_bytes(value)))
        elif number == 2:
            outputs.append(bytes(_bytes(value)))
        elif number == 4:
            operator = bytes(_bytes(value)).decode("ascii", "backslashreplace")
        elif number == 5:
            attributes.append(_bytes(value))
        elif number == 7 and bytes(_bytes(value)) not in DOMAINS:
            raise _refused(f"operators of {bytes(_bytes(value))[:40].decode('ascii', 'backslashreplace')}")
    if operator not in OPERATORS:
        raise _refused(f"the operator {operator[:40]}")
    if known.issuperset(name for name in inputs if name):
        if operator not in OF_CONSTANTS:
            raise _refused(f"the operator {operator} on constants alone")
        known.update(outputs)
    for attribute in attributes:
        fields = list(_fields(attribute))
        if any(number in (6, 11, 22, 23) for number, _ in fields):
            raise _refused("graphs within its graph or sparse constants")
        if (1, memoryview(b"pads")) in fields:
            _require_little(_numbers(attribute, 8))
    if operator == "Pad":
        pads = constants.get(inputs[1]) if len(inputs) > 1 else None
        if pads is None or [value for number, value in _fields(pads) if number == 2] != [INT64]:
            raise _refused("a Pad of no known width")
        raw = bytes(_first(pads, 9))
        _require_little(_numbers(pads, 7))
        _require_little(list(struct.unpack(f"<{len(raw) // 8}q", raw)))
    if operator == "Resize":
        scales = constants.get(inputs[2]) if len(inputs) == 3 else None
        if scales is None or [value for number, value in _fields(scales) if number == 2] != [FLOAT]:
            raise _refused("a Resize to no known size")
        raw = bytes(_first(scales, 9)) or bytes(_first(scales, 4))  # as bytes, or as packed floats
        if not raw or not all(0 < scale <= 1 for scale in struct.unpack(f"<{len(raw) // 4}f", raw)):
            raise _refused("a Resize that makes more of less")


def _require_little(pads: list[int]) -> None:
    """Pads are those before each axis, then those after."""
    half = len(pads) // 2
    growth = math.prod(1 + max(0, a) + max(0, b) for a, b in zip_longest(pads[:half], pads[half:], fillvalue=0))
    if growth > MAX_PADDED:
        raise _refused(f"padding that makes {growth:,} values of one")


def _refused(what: str) -> ModelError:
    return ModelError("bad-model", f"uses {what}, which models made by ms-export do not.")


def _fields(message: memoryview) -> Iterator[tuple[int, Wire]]:
    """The fields of a message as (number, value). Raises ValueError where it is none."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29:
            raise ValueError("no field")
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("no such kind of field")
        if size > end - at:
            raise ValueError("cut")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    if at < len(message) and message[at] < 0x80:  # nearly all of them
        return message[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")


def _numbers(message: memoryview, wanted: int) -> list[int]:
    """The signed 64-bit numbers of a repeated field, packed or not."""
    found = []
    for number, value in _fields(message):
        if number != wanted:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            item, at = _varint(value, at)
            found.append(item)
    return [(value & (1 << 64) - 1) - ((value >> 63 & 1) << 64) for value in found]


def _first(message: memoryview, wanted: int) -> memoryview:
    """The bytes of a field that comes once, or none."""
    found = [_bytes(value) for number, value in _fields(message) if number == wanted]
    if len(found) > 1:
        raise ValueError("a field twice")
    return found[0] if found else memoryview(b"")


def _bytes(value: Wire) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number instead of bytes")
    return value
