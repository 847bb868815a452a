"""The operators that a model file may use, and the shape of what each of them makes.

These are what ms-export writes (features, waveform, int8, fp16), and what Keras' usual layers become, in opset 15. For each of
them the shape of the output follows from the shapes of the inputs and from constants in the file, so the memory that a graph
takes is known before it is run. Left out is whatever draws at random, holds graphs of its own, or makes a shape that depends on
values that are computed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

MAX_RANK = 8
ALL_WINDOWS = 10**9  # a slice to here or beyond takes all of them


class Shape(NamedTuple):
    """The sizes of a value, for one window, and the axis along which there is one such part for each window.

    `batch` is None for values that are the same however many windows there are. For n windows the size along it is n times
    the given one, so memory and windows are proportional.
    """

    sizes: tuple[int, ...]
    batch: int | None = None

    @property
    def values(self) -> int:
        """Count of values for one window."""
        return math.prod(self.sizes)


Attribute = int | str | list[int] | None


class Node:
    """One operator with what its shape depends on; `inputs` are None where an optional one is left out.

    `constant(i)` decodes input i, a constant of few numbers. It raises ValueError where it is none. `any_frames` is true where the
    same graph also takes fewer frames than these: then a rule raises ValueError where those could make a larger output.
    """

    __slots__ = ("any_frames", "attributes", "constant", "inputs", "outputs")

    def __init__(
        self,
        inputs: Sequence[Shape | None],
        outputs: int,
        attributes: Mapping[str, Attribute],
        constant: Callable[[int], bytes | list[int]],
        any_frames: bool = False,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.attributes = attributes
        self.constant = constant
        self.any_frames = any_frames

    def shape(self, index: int) -> Shape:
        """Shape of an input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ValueError("an input is missing")
        return found

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def integers(self, index: int) -> list[int]:
        """The numbers of an input that is a constant of whole numbers."""
        found = self.constant(index)
        if not isinstance(found, list):
            raise ValueError("these are no whole numbers")
        return found

    def floats(self, index: int) -> tuple[float, ...]:
        """The numbers of an input that is a constant of 32-bit floats."""
        found = self.constant(index)
        if not isinstance(found, bytes):
            raise ValueError("these are no floats")
        return struct.unpack(f"<{len(found) // 4}f", found)

    def number(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        found = self.attributes.get(name, default)
        if not isinstance(found, int):
            raise ValueError(f"{name} is no number")
        return found

    def numbers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """An attribute that is a list of whole numbers."""
        found = self.attributes.get(name, None if default is None else list(default))
        if not isinstance(found, list):
            raise ValueError(f"{name} is no list of numbers")
        return found


Rule = Callable[[Node], list[Shape]]


def _same(node: Node) -> list[Shape]:
    return [node.shape(0)]


def _broadcast(node: Node) -> list[Shape]:
    return [broadcast([node.shape(index) for index in range(len(node.inputs))])]


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape of values combined as NumPy does. Raises ValueError where they do not fit one another."""
    if not shapes:
        raise ValueError("no values")
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(len(shape.sizes) for shape in shapes)
    batches = {shape.batch + rank - len(shape.sizes) for shape in shapes if shape.batch is not None}
    if len(batches) > 1:
        raise ValueError("windows along two axes")
    batch = batches.pop() if batches else None
    sizes = []
    columns = zip_longest(*(reversed(shape.sizes) for shape in shapes), fillvalue=1)
    for axis, column in zip(range(rank - 1, -1, -1), columns, strict=True):
        found = set(column)
        if axis == batch:
            if any(shape.batch is None and size != 1 for shape, size in zip(shapes, column, strict=True)):
                raise ValueError("one for each of some windows")
            found = {size for shape, size in zip(shapes, column, strict=True) if shape.batch is not None}
        elif len(found) > 1:
            found.discard(1)
        if len(found) != 1:
            raise ValueError("sizes differ")
        sizes.append(found.pop())
    return Shape(tuple(reversed(sizes)), batch)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError("no such axis")
    return axis % rank


def _at(shape: Shape, axis: int) -> int:
    """An axis that is not that of the windows."""
    axis = _axis(axis, len(shape.sizes))
    if axis == shape.batch:
        raise ValueError("along the windows")
    return axis


def _matmul(node: Node) -> list[Shape]:
    return [_product(node.shape(0), node.shape(1))]


def _product(a: Shape, b: Shape) -> Shape:
    """(..., n, k) times (..., k, m)."""
    if min(len(a.sizes), len(b.sizes)) < 2 or a.sizes[-1] != b.sizes[-2]:
        raise ValueError("sizes differ")
    a_last, b_last = len(a.sizes) - 1, len(b.sizes) - 1
    if a.batch == a_last or (b.batch is not None and b.batch == b_last - 1):
        raise ValueError("a sum over windows")
    leads = [
        Shape(shape.sizes[:-2], None if shape.batch is None or shape.batch >= len(shape.sizes) - 2 else shape.batch)
        for shape in (a, b)
    ]
    lead = broadcast(leads)
    rank = len(lead.sizes) + 2
    batches = {lead.batch} - {None}
    if a.batch == a_last - 1:
        batches.add(rank - 2)
    if b.batch is not None and b.batch == b_last:
        batches.add(rank - 1)
    if len(batches) > 1:
        raise ValueError("windows along two axes")
    return Shape((*lead.sizes, a.sizes[-2], b.sizes[-1]), batches.pop() if batches else None)


def _gemm(node: Node) -> list[Shape]:
    a, b = (
        _transposed(node.shape(index), [1, 0]) if node.number(name, 0) else node.shape(index)
        for index, name in ((0, "transA"), (1, "transB"))
    )
    if not len(a.sizes) == len(b.sizes) == 2:
        raise ValueError("no matrix")
    found = _product(a, b)
    if node.given(2) and broadcast([found, node.shape(2)]) != found:
        raise ValueError("sizes differ")
    return [found]


def _transpose(node: Node) -> list[Shape]:
    shape = node.shape(0)
    return [_transposed(shape, node.numbers("perm", range(len(shape.sizes))[::-1]))]


def _transposed(shape: Shape, perm: list[int]) -> Shape:
    if sorted(perm) != list(range(len(shape.sizes))):
        raise ValueError("no order of the axes")
    return Shape(tuple(shape.sizes[axis] for axis in perm), None if shape.batch is None else perm.index(shape.batch))


def _conv(node: Node) -> list[Shape]:
    x, weight = node.shape(0), node.shape(1)
    if len(x.sizes) != len(weight.sizes) or len(x.sizes) < 3 or weight.batch is not None or x.batch not in (0, None):
        raise ValueError("no convolution")
    return [Shape((x.sizes[0], weight.sizes[0], *_places(node, x, list(weight.sizes[2:]))), x.batch)]


def _pool(node: Node) -> list[Shape]:
    x, kernel = node.shape(0), node.numbers("kernel_shape")
    if len(kernel) != len(x.sizes) - 2 or not kernel or x.batch not in (0, None) or node.number("ceil_mode", 0):
        raise ValueError("no pooling")
    return [Shape((*x.sizes[:2], *_places(node, x, kernel)), x.batch)]


def _places(node: Node, x: Shape, kernel: list[int]) -> list[int]:
    """In how many places a kernel stands along each axis."""
    rank = len(kernel)
    strides, dilations = node.numbers("strides", [1] * rank), node.numbers("dilations", [1] * rank)
    pads, padding = node.numbers("pads", [0] * 2 * rank), node.attributes.get("auto_pad", "NOTSET")
    if not len(strides) == len(dilations) == rank == len(pads) // 2 or min(*strides, *dilations, *kernel) < 1:
        raise ValueError("sizes differ")
    found = []
    for axis, size in enumerate(x.sizes[2:]):
        stride, covered = strides[axis], (kernel[axis] - 1) * dilations[axis] + 1
        if padding in ("SAME_UPPER", "SAME_LOWER"):
            found.append(-(-size // stride))
            continue
        if padding not in ("NOTSET", "VALID"):
            raise ValueError("no such padding")
        padded = size + (pads[axis] + pads[axis + rank] if padding == "NOTSET" else 0)
        if min(pads) < 0 or padded < covered:
            raise ValueError("no place for the kernel")
        found.append((padded - covered) // stride + 1)
    return found


def _global_pool(node: Node) -> list[Shape]:
    x = node.shape(0)
    if len(x.sizes) < 3 or x.batch not in (0, None):
        raise ValueError("no pooling")
    return [Shape((*x.sizes[:2], *[1] * (len(x.sizes) - 2)), x.batch)]


def _reduce(node: Node) -> list[Shape]:
    return [_reduced(node, node.numbers("axes"))]


def _reduce_sum(node: Node) -> list[Shape]:  # the only one of them whose axes are an input in opset 15
    return [_reduced(node, node.integers(1))]


def _reduced(node: Node, axes: list[int]) -> Shape:
    shape = node.shape(0)
    gone = {_at(shape, axis) for axis in axes}
    if not gone:
        raise ValueError("no axes")
    if node.number("keepdims", 1):
        return Shape(tuple(1 if axis in gone else size for axis, size in enumerate(shape.sizes)), shape.batch)
    return _without(shape, gone)


def _without(shape: Shape, gone: set[int]) -> Shape:
    kept = [axis for axis in range(len(shape.sizes)) if axis not in gone]
    batch = None if shape.batch is None else kept.index(shape.batch)
    return Shape(tuple(shape.sizes[axis] for axis in kept), batch)


def _squeeze(node: Node) -> list[Shape]:
    shape = node.shape(0)
    gone = {_at(shape, axis) for axis in node.integers(1)}
    if any(shape.sizes[axis] != 1 for axis in gone):
        raise ValueError("sizes differ")
    return [_without(shape, gone)]


def _unsqueeze(node: Node) -> list[Shape]:
    shape, axes = node.shape(0), node.integers(1)
    rank = len(shape.sizes) + len(axes)
    new = {_axis(axis, rank) for axis in axes}
    if len(new) != len(axes):
        raise ValueError("an axis twice")
    old = [axis for axis in range(rank) if axis not in new]
    sizes = iter(shape.sizes)
    batch = None if shape.batch is None else old[shape.batch]
    return [Shape(tuple(1 if axis in new else next(sizes) for axis in range(rank)), batch)]


def _flatten(node: Node) -> list[Shape]:
    shape, axis = node.shape(0), node.number("axis", 1)
    if axis != len(shape.sizes):
        axis = _axis(axis, len(shape.sizes))
    batch = None if shape.batch is None else int(shape.batch >= axis)
    return [Shape((math.prod(shape.sizes[:axis]), math.prod(shape.sizes[axis:])), batch)]


def _reshape(node: Node) -> list[Shape]:
    """To constant sizes, of which 0 is what it was and -1 what is left: one of these must be that of the windows."""
    shape, wanted = node.shape(0), node.integers(1)
    if node.number("allowzero", 0) or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise ValueError("no shape")
    sizes = [shape.sizes[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    batch = shape.batch if shape.batch is not None and wanted[shape.batch : shape.batch + 1] == [0] else None
    if -1 in wanted:
        hole = wanted.index(-1)
        sizes[hole] = 1
        sizes[hole] = shape.values // math.prod(sizes)
        if batch is None and shape.batch is not None:
            batch = hole
    if math.prod(sizes) != shape.values or (batch is None) != (shape.batch is None):
        raise ValueError("sizes differ")
    return [Shape(tuple(sizes), batch)]


def _concat(node: Node) -> list[Shape]:
    shapes = [node.shape(index) for index in range(len(node.inputs))]
    axis = _axis(node.number("axis", 0), len(shapes[0].sizes))
    if len({(shape.sizes[:axis], shape.sizes[axis + 1 :], shape.batch) for shape in shapes}) != 1:
        raise ValueError("sizes differ")
    sizes = shapes[0].sizes
    return [Shape((*sizes[:axis], sum(shape.sizes[axis] for shape in shapes), *sizes[axis + 1 :]), shapes[0].batch)]


def _split(node: Node) -> list[Shape]:
    shape = node.shape(0)
    axis = _at(shape, node.number("axis", 0))
    size = shape.sizes[axis]
    parts = node.integers(1) if node.given(1) else [size // node.outputs] * node.outputs
    if sum(parts) != size or len(parts) != node.outputs or min(parts) < 0:
        raise ValueError("sizes differ")
    return [Shape((*shape.sizes[:axis], part, *shape.sizes[axis + 1 :]), shape.batch) for part in parts]


def _gather(node: Node) -> list[Shape]:
    shape, found = node.shape(0), node.shape(1)
    axis = _at(shape, node.number("axis", 0))
    if shape.batch is not None and found.batch is not None:
        raise ValueError("windows along two axes")
    batch = shape.batch
    if batch is not None and batch > axis:
        batch += len(found.sizes) - 1
    if found.batch is not None:
        batch = axis + found.batch
    return [Shape((*shape.sizes[:axis], *found.sizes, *shape.sizes[axis + 1 :]), batch)]


def _slice(node: Node) -> list[Shape]:
    shape, starts, ends = node.shape(0), node.integers(1), node.integers(2)
    axes = node.integers(3) if node.given(3) else list(range(len(starts)))
    steps = node.integers(4) if node.given(4) else [1] * len(starts)
    axes = [_axis(axis, len(shape.sizes)) for axis in axes]
    if len(set(axes)) != len(axes):
        raise ValueError("an axis twice")
    sizes = list(shape.sizes)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if node.any_frames and (step < 0 or start < 0 <= end < ALL_WINDOWS):
            raise ValueError("more of less")  # of all operators, only such a slice grows where its input shrinks
        if axis != shape.batch:
            sizes[axis] = len(range(*slice(start, end, step).indices(sizes[axis])))
        elif (start, step) != (0, 1) or end < ALL_WINDOWS:
            raise ValueError("along the windows")
    return [Shape(tuple(sizes), shape.batch)]


def _pad(node: Node) -> list[Shape]:
    shape, pads = node.shape(0), node.integers(1)
    rank = len(shape.sizes)
    if (
        len(pads) != 2 * rank
        or min(pads) < 0
        or (shape.batch is not None and (pads[shape.batch] or pads[shape.batch + rank]))
    ):
        raise ValueError("no padding")
    return [Shape(tuple(size + pads[axis] + pads[axis + rank] for axis, size in enumerate(shape.sizes)), shape.batch)]


def _resize(node: Node) -> list[Shape]:
    shape, scales = node.shape(0), node.floats(2)
    if (
        len(node.inputs) != 3
        or len(scales) != len(shape.sizes)
        or (shape.batch is not None and scales[shape.batch] != 1)
    ):
        raise ValueError("no size")
    if not all(0 < scale <= 1 for scale in scales):
        raise ValueError("more of less")
    # As onnxruntime does: in 32 bits.
    sizes = (
        struct.unpack("<f", struct.pack("<f", size * scale))[0] for size, scale in zip(shape.sizes, scales, strict=True)
    )
    return [Shape(tuple(int(size) for size in sizes), shape.batch)]


_RULES: dict[Rule, str] = {
    _same: "Abs BatchNormalization Cast Ceil Clip DequantizeLinear Elu Erf Exp Floor HardSigmoid HardSwish Identity "
    "InstanceNormalization IsInf IsNaN LeakyRelu Log LogSoftmax Neg Not QuantizeLinear Reciprocal Relu Selu Sigmoid Sign "
    "Softmax Softplus Softsign Sqrt Tanh ThresholdedRelu",
    _broadcast: "Add And Div Equal Greater Less Max Min Mul Or PRelu Pow Sub Sum Where",
    _concat: "Concat",
    _conv: "Conv",
    _flatten: "Flatten",
    _gather: "Gather",
    _gemm: "Gemm",
    _global_pool: "GlobalAveragePool GlobalMaxPool",
    _matmul: "MatMul",
    _pad: "Pad",
    _pool: "AveragePool MaxPool",
    _reduce: "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd",
    _reduce_sum: "ReduceSum",
    _reshape: "Reshape",
    _resize: "Resize",
    _slice: "Slice",
    _split: "Split",
    _squeeze: "Squeeze",
    _transpose: "Transpose",
    _unsqueeze: "Unsqueeze",
}
OPERATORS: Mapping[str, Rule] = {name: rule for rule, names in _RULES.items() for name in names.split()}
# Of constants alone only these: onnxruntime computes them while it loads a model, and they make no more values than they get.
OF_CONSTANTS = frozenset(
    ("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)


def output_shapes(operator: str, node: Node) -> list[Shape]:
    """Return the shape of each output of a node. Raises ValueError where it cannot be known or is more than MAX_RANK axes."""
    found = OPERATORS[operator](node)
    if len(found) != node.outputs or any(len(shape.sizes) > MAX_RANK for shape in found):
        raise ValueError("other outputs")
    return found
