"""The operators that a model file may use, and a rule for the shape of the output of each.

These are the operators of opset 15 that ms-export writes (features, waveform, int8, fp16) and that
the usual layers of Keras become. The shape of each output follows from the shapes of the inputs and
from constants in the file, so the memory that a graph needs is known before it runs. Operators are
left out if they draw random numbers, contain graphs, or make an output whose shape depends on
computed values.

A rule raises ValueError if the node is invalid or the shape does not follow. `check` turns that
into an error for users.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

MAX_RANK = 8
ALL_WINDOWS = 10**9  # a slice that ends here or later takes all windows


class Shape(NamedTuple):
    """The shape of a value for one window, and the axis that grows with the number of windows.

    For n windows, the size of the axis `batch` is n times as large, so memory is proportional to
    the number of windows. `batch` is None for a value that does not depend on the number of
    windows.
    """

    sizes: tuple[int, ...]
    batch: int | None = None

    @property
    def values(self) -> int:
        """Number of values for one window."""
        return math.prod(self.sizes)


Attribute = int | str | list[int] | None


class Node:
    """One operator, with everything that the shape of its output depends on.

    `inputs` are the shapes of the inputs; None for an optional input that is left out. `outputs` is
    the number of outputs. `constant(i)` decodes input i, a constant of few numbers, and raises
    ValueError if it is anything else. `any_frames` is true if the same graph also runs with fewer
    frames. A rule then raises ValueError if fewer frames could make a larger output.
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
        """Return the shape of a required input. Raises ValueError if it is missing."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ValueError("an input is missing")
        return found

    def given(self, index: int) -> bool:
        """Return whether an optional input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def integers(self, index: int) -> list[int]:
        """Return the numbers of an input that is a constant of whole numbers.

        Raises ValueError for another input.
        """
        found = self.constant(index)
        if not isinstance(found, list):
            raise ValueError("not whole numbers")
        return found

    def floats(self, index: int) -> tuple[float, ...]:
        """Return the numbers of an input that is a constant of float32.

        Raises ValueError for another input.
        """
        found = self.constant(index)
        if not isinstance(found, bytes):
            raise ValueError("not floats")
        return struct.unpack(f"<{len(found) // 4}f", found)

    def number(self, name: str, default: int) -> int:
        """Return an attribute that is a whole number. Raises ValueError for another type."""
        found = self.attributes.get(name, default)
        if not isinstance(found, int):
            raise ValueError(f"{name} is not a number")
        return found

    def numbers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Return an attribute that is a list of whole numbers.

        Raises ValueError for another type, or if it is missing and has no default.
        """
        found = self.attributes.get(name, None if default is None else list(default))
        if not isinstance(found, list):
            raise ValueError(f"{name} is not a list of numbers")
        return found


Rule = Callable[[Node], list[Shape]]


def _same(node: Node) -> list[Shape]:
    return [node.shape(0)]


def _broadcast(node: Node) -> list[Shape]:
    return [broadcast([node.shape(index) for index in range(len(node.inputs))])]


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape of values that are broadcast together as NumPy does it.

    Raises ValueError if they do not fit. A value of one window may only be combined with other
    values of the same window, or with values of no window.
    """
    if not shapes:
        raise ValueError("there are no values")
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
                raise ValueError("a size for a fixed number of windows")
            found = {size for shape, size in zip(shapes, column, strict=True) if shape.batch is not None}
        elif len(found) > 1:
            found.discard(1)
        if len(found) != 1:
            raise ValueError("sizes differ")
        sizes.append(found.pop())
    return Shape(tuple(reversed(sizes)), batch)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError("an axis out of range")
    return axis % rank


def _at(shape: Shape, axis: int) -> int:
    """Return a valid axis. Raises ValueError for the axis of the windows."""
    axis = _axis(axis, len(shape.sizes))
    if axis == shape.batch:
        raise ValueError("along the windows")
    return axis


def _matmul(node: Node) -> list[Shape]:
    return [_product(node.shape(0), node.shape(1))]


def _product(a: Shape, b: Shape) -> Shape:
    """Return the shape of the product of (..., n, k) and (..., k, m)."""
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
        raise ValueError("not a matrix")
    found = _product(a, b)
    if node.given(2) and broadcast([found, node.shape(2)]) != found:
        raise ValueError("sizes differ")
    return [found]


def _transpose(node: Node) -> list[Shape]:
    shape = node.shape(0)
    return [_transposed(shape, node.numbers("perm", range(len(shape.sizes))[::-1]))]


def _transposed(shape: Shape, perm: list[int]) -> Shape:
    if sorted(perm) != list(range(len(shape.sizes))):
        raise ValueError("not a permutation of the axes")
    return Shape(tuple(shape.sizes[axis] for axis in perm), None if shape.batch is None else perm.index(shape.batch))


def _conv(node: Node) -> list[Shape]:
    x, weight = node.shape(0), node.shape(1)
    if len(x.sizes) != len(weight.sizes) or len(x.sizes) < 3 or weight.batch is not None or x.batch not in (0, None):
        raise ValueError("not a valid convolution")
    kernel = list(weight.sizes[2:])
    if node.numbers("kernel_shape", kernel) != kernel:  # onnxruntime 1.31 can crash
        raise ValueError("another size of the kernel than that of its weights")
    return [Shape((x.sizes[0], weight.sizes[0], *_positions(node, x, kernel)), x.batch)]


def _pool(node: Node) -> list[Shape]:
    x, kernel = node.shape(0), node.numbers("kernel_shape")
    if len(kernel) != len(x.sizes) - 2 or not kernel or x.batch not in (0, None) or node.number("ceil_mode", 0):
        raise ValueError("not a valid pooling")
    return [Shape((*x.sizes[:2], *_positions(node, x, kernel)), x.batch)]


def _positions(node: Node, x: Shape, kernel: list[int]) -> list[int]:
    """Return the number of positions of a kernel along each axis."""
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
            raise ValueError("an unknown padding")
        padded = size + (pads[axis] + pads[axis + rank] if padding == "NOTSET" else 0)
        if min(pads) < 0 or padded < covered:
            raise ValueError("the kernel is larger than its input")
        found.append((padded - covered) // stride + 1)
    return found


def _global_pool(node: Node) -> list[Shape]:
    x = node.shape(0)
    if len(x.sizes) < 3 or x.batch not in (0, None):
        raise ValueError("not a valid pooling")
    return [Shape((*x.sizes[:2], *[1] * (len(x.sizes) - 2)), x.batch)]


def _reduce(node: Node) -> list[Shape]:
    return [_reduced(node, node.numbers("axes"))]


def _reduce_sum(node: Node) -> list[Shape]:  # in opset 15 the only reduction whose axes are an input
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
    """Reshape to constant sizes, where 0 keeps a size and -1 takes the remaining values.

    The axis of the windows must have one of these two sizes.
    """
    shape, wanted = node.shape(0), node.integers(1)
    if node.number("allowzero", 0) or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise ValueError("not a valid shape")
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
            # Of all operators, only such a slice can become larger when its input becomes smaller.
            raise ValueError("fewer frames could make a larger output")
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
        raise ValueError("not a valid padding")
    return [Shape(tuple(size + pads[axis] + pads[axis + rank] for axis, size in enumerate(shape.sizes)), shape.batch)]


def _resize(node: Node) -> list[Shape]:
    shape, scales = node.shape(0), node.floats(2)
    if (
        len(node.inputs) != 3
        or len(scales) != len(shape.sizes)
        or (shape.batch is not None and scales[shape.batch] != 1)
    ):
        raise ValueError("not a valid resize")
    if not all(0 < scale <= 1 for scale in scales):
        raise ValueError("a scale that is not over 0 and at most 1")
    # onnxruntime computes the sizes in float32.
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
# Only these operators may have constants as their only inputs. onnxruntime computes them while it
# loads a model, and none of them makes more values than it reads.
OF_CONSTANTS = frozenset(
    ("Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)


def output_shapes(operator: str, node: Node) -> list[Shape]:
    """Return the shape of each output of a node.

    Raises ValueError if it is unknown or has more than MAX_RANK axes.
    """
    found = OPERATORS[operator](node)
    if len(found) != node.outputs or any(len(shape.sizes) > MAX_RANK for shape in found):
        raise ValueError("another number of outputs, or too many axes")
    return found
