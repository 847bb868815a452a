"""Decide whether a model file may be given to onnxruntime.

Only what ms-export writes is allowed. onnxruntime reads other files, and any memory, if a model
says that its constants are there. While it loads a model it also computes every value that depends
on constants alone, so a model of a hundred bytes can fill the memory of any machine. The check
therefore reads the bytes first (`protobuf`, `onnx_messages`), allows only the operators of
`operators`, computes the shape of every value, and applies the limits below.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ms_edge.errors import ModelError
from ms_edge.features.spec import BATCH_S, MAX_VALUES
from ms_edge.model.metadata import Metadata
from ms_edge.model.onnx_messages import (
    MODEL,
    AttributeProto,
    AttributeType,
    DataType,
    GraphProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)
from ms_edge.model.operators import MAX_RANK, OF_CONSTANTS, OPERATORS, Attribute, Node, Shape, output_shapes
from ms_edge.model.protobuf import Reader, TooManyFieldsError, UnknownFieldError, count, integers

# These limits are far above what ms-export writes: its largest recipe has 253 nodes and 2.6 million
# constant values. The time that onnxruntime takes to load a graph grows with the square of the
# number of nodes. With onnxruntime 1.20 a graph of MAX_NODES takes about a second.
MAX_NODES = 2_000
MAX_CONSTANTS = 4_000
MAX_FIELDS = 50_000  # in all messages of the file
# The sum, over all nodes, of the constant values that a node reads and of those that it makes from
# constants alone. While onnxruntime loads a model it rearranges the former and computes the latter,
# in version 1.20 once for each node. If the weights of the largest float32 network (64 MiB) are
# quantised to 8 bits, a node reads them, widens them, and another reads the result: 50 million.
MAX_CONSTANT_VALUES = 1 << 26
MAX_NUMBERS = 4 * MAX_RANK  # in one attribute, and in one constant that determines a shape
MAX_SIZE_BITS = 31  # of an axis of an input
OPSET, IR_VERSION = 15, 8
DOMAINS = ("", "ai.onnx")

# For each data type of a constant: bytes per value, and the field that may hold the values instead
# of raw_data.
STORAGE = {
    DataType.FLOAT: (4, "float_data"),
    DataType.UINT8: (1, "int32_data"),
    DataType.INT8: (1, "int32_data"),
    DataType.INT32: (4, "int32_data"),
    DataType.INT64: (8, "int64_data"),
    DataType.BOOL: (1, "int32_data"),
    DataType.FLOAT16: (2, "int32_data"),
    DataType.DOUBLE: (8, ""),
}
# The field of an attribute that holds its value, by the attribute's type.
ATTRIBUTE_FIELDS = {
    AttributeType.FLOAT: "f",
    AttributeType.INT: "i",
    AttributeType.STRING: "s",
    AttributeType.INTS: "ints",
}
# What a model uses if it has a refused field, for the error message.
USES = {
    ("TensorProto", "external_data"): "constants in another file",
    ("AttributeProto", "t"): "constants in attributes",
    ("AttributeProto", "tensors"): "constants in attributes",
    ("AttributeProto", "g"): "graphs within its graph",
    ("AttributeProto", "graphs"): "graphs within its graph",
    ("AttributeProto", "sparse_tensor"): "sparse constants",
    ("AttributeProto", "sparse_tensors"): "sparse constants",
    ("GraphProto", "sparse_initializer"): "sparse constants",
    ("ModelProto", "training_info"): "graphs for training",
    ("ModelProto", "functions"): "functions",
}


class Contents(NamedTuple):
    """What the check found in a model file.

    `entries` are the metadata entries. `window_values` is the largest count of values, constants
    excluded, that the network holds at once for each window.
    """

    entries: dict[str, str]
    window_values: int


def read_contents(content: bytes) -> Contents:
    """Check the bytes of a model file and return its metadata and its memory use.

    Raises ModelError(`bad-model`) if the file holds anything that ms-export does not write, or
    exceeds a limit. Raises ModelError with the codes of `Metadata.parse` and `bad-shape` for a
    model of runs of windows.
    """
    try:
        model = Reader(content, MAX_FIELDS).read(MODEL)
        entries = {entry.key: entry.value for entry in model.metadata_props}
        if len(entries) != len(model.metadata_props):
            raise ValueError("a metadata entry occurs twice")
        if model.graph is None:
            raise ValueError("there is no graph")
        opsets = [(opset.domain, opset.version) for opset in model.opset_import]
        if model.ir_version != IR_VERSION or opsets not in [[(domain, OPSET)] for domain in DOMAINS]:
            raise _refused("another version of ONNX's format or operators")
        return Contents(entries, _window_values(model.graph, entries))
    except UnknownFieldError as error:
        raise _refused(USES.get((error.message, error.field), str(error))) from None
    except TooManyFieldsError:
        raise _refused(f"more than {MAX_FIELDS:,} fields") from None
    except UnicodeDecodeError:
        raise ModelError("bad-model", "onnxruntime cannot run this model: a name or an entry is not UTF-8.") from None
    except ValueError:
        raise ModelError("bad-model", "onnxruntime cannot run this model: its bytes are not an ONNX graph.") from None


def _window_values(graph: GraphProto, entries: dict[str, str]) -> int:
    """Return the largest count of values that a graph holds at once for each window.

    Raises ModelError. A graph that takes any number of frames is checked twice: with the frames of
    one window, and with the frames of the longest run of windows that it is given. The second must
    be within the limit too. The sizes of all values grow with the number of frames, so a run of any
    length between the two needs no more memory.
    """
    if not any(dim.dim_param is not None for given in graph.input for dim in given.dims[1:]):
        return _GraphSizes(graph, 0, "one window").most
    metadata = Metadata.parse(entries)
    step, spec = metadata.step_frames, metadata.spec
    if step is None:
        raise _refused("any number of frames, but its metadata has no number of frames between two windows")
    clip = spec.frames(spec.clip_samples)
    windows = max(0, spec.frames(round(BATCH_S * spec.sample_rate_hz)) - clip) // step + 1
    single = _GraphSizes(graph, clip, "one window")
    run = _GraphSizes(graph, clip + (windows - 1) * step, f"{windows} windows")
    for output in graph.output:
        values = 2 if metadata.level and output.name == "level" else len(metadata.labels)
        expected = (Shape((1, 1, values), 0), Shape((1, windows, values), 0))
        if (single.shapes[output.name], run.shapes[output.name]) == expected:
            continue
        raise ModelError(
            "bad-shape", f"The model's graph does not give scores every {step} frames, as its metadata says."
        )
    return single.most


class _GraphSizes:
    """The shapes of all values of a graph, and the largest count of values that exist at once.

    The nodes are followed in order, as onnxruntime runs them, but only shapes are computed.
    `frames` is the number of frames of the input; 0 for a graph whose inputs state all their sizes.
    `given` describes the input in an error. Raises ModelError or ValueError for a graph that is not
    allowed.
    """

    def __init__(self, graph: GraphProto, frames: int, given: str) -> None:
        if len(graph.node) > MAX_NODES:
            raise _refused(f"more than {MAX_NODES:,} operators")
        if len(graph.initializer) > MAX_CONSTANTS:
            raise _refused(f"more than {MAX_CONSTANTS:,} constants")
        self.shapes: dict[str, Shape] = {}
        self._frames, self._given = frames, given
        self._constants: dict[str, TensorProto | None] = {"": None}  # None: computed by a node from constants alone
        self._values = {"": 0}  # how many values each name stands for
        self._constant_values = 0  # as counted for MAX_CONSTANT_VALUES
        self._live = 0  # values that exist now and are still needed
        for tensor in graph.initializer:
            self._add(tensor.name, _constant_shape(tensor))
            self._constants[tensor.name] = tensor
        for value in graph.input:
            self._live += self._add(value.name, _input_shape(value, frames))
        self.most = self._live
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(output.name for output in graph.output)
        for node in graph.node:
            self._follow(node)
        if any(output.name not in self.shapes for output in graph.output):
            raise ValueError("no node makes an output")

    def _add(self, name: str, shape: Shape) -> int:
        """Record the shape of a new value and return how many values that is."""
        if not name or name in self.shapes:
            raise _refused("a value without a unique name")
        self.shapes[name] = shape
        self._values[name] = shape.values
        return self._values[name]

    def _follow(self, node: NodeProto) -> None:
        """Compute the shapes of a node's outputs and count the values that exist while it runs."""
        self._require_allowed(node)
        of_constants = all(name in self._constants for name in node.input)
        if of_constants and node.op_type not in OF_CONSTANTS:
            raise _refused(f"the operator {node.op_type} on constants alone")
        made = 0
        for name, shape in zip(node.output, self._output_shapes(node), strict=True):
            made += self._add(name, shape)
            if of_constants:
                self._constants[name] = None
        self._constant_values += sum(self._values[name] for name in node.input if name in self._constants)
        if of_constants:
            self._constant_values += made
        else:
            self._live += made
        if self._constant_values > MAX_CONSTANT_VALUES:
            raise _refused(f"constants of more than {MAX_CONSTANT_VALUES:,} values, counted each time they are read")
        if self._live > MAX_VALUES:
            raise _refused(f"more than {MAX_VALUES:,} values at once for {self._given}")
        self.most = max(self.most, self._live)
        for name in node.input:
            self._uses[name] -= 1
        for name in {*node.input, *node.output}:
            if name not in self._constants and not self._uses[name]:
                self._live -= self._values[name]

    def _require_allowed(self, node: NodeProto) -> None:
        if node.domain not in DOMAINS:
            raise _refused(f"operators of {_shown(node.domain)}")
        if node.op_type not in OPERATORS:
            raise _refused(f"the operator {_shown(node.op_type)}")
        if any(name not in self._values for name in node.input):
            raise _refused(f"the operator {node.op_type} before its input is made")

    def _output_shapes(self, node: NodeProto) -> list[Shape]:
        def constant(index: int) -> bytes | list[int]:
            tensor = self._constants.get(node.input[index]) if index < len(node.input) else None
            if tensor is None:
                raise ValueError("not a constant in the file")
            return _few_values(tensor)

        attributes: dict[str, Attribute] = {}
        for attribute in node.attribute:
            if attribute.name in attributes:
                raise ValueError("an attribute occurs twice")
            attributes[attribute.name] = _attribute(attribute)
        if node.op_type == "Cast" and attributes.get("to") not in STORAGE:
            raise _refused("a Cast to another type")
        given = [self.shapes[name] if name else None for name in node.input]
        try:
            return output_shapes(
                node.op_type, Node(given, len(node.output), attributes, constant, any_frames=self._frames > 0)
            )
        except (ValueError, ArithmeticError):
            raise _refused(f"the operator {node.op_type} with an output whose shape is not known in advance") from None


def _attribute(attribute: AttributeProto) -> Attribute:
    """Return the value of an attribute; None for a float.

    Raises ValueError for a value of another type than stated.
    """
    field = ATTRIBUTE_FIELDS.get(attribute.type or 0)
    stored = [name for name in ("f", "i", "s") if getattr(attribute, name) is not None]
    if attribute.ints:
        stored.append("ints")
    if field is None or not attribute.name or stored not in ([], [field]):
        raise ValueError("an attribute of another type")
    if field == "i":
        return integers([attribute.i or 0], 1)[0]
    if field == "ints":
        return integers(attribute.ints, MAX_NUMBERS)
    return (attribute.s or "") if field == "s" else None


def _constant_shape(tensor: TensorProto) -> Shape:
    """Return the shape of a constant.

    Raises if the file does not hold exactly the values of that shape.
    """
    sizes = integers(tensor.dims, MAX_RANK)
    if tensor.data_location != 0:
        raise _refused("constants in another file")
    if tensor.data_type not in STORAGE or min(sizes, default=0) < 0:
        raise _refused("constants of another type")
    shape, (width, typed) = Shape(tuple(sizes)), STORAGE[tensor.data_type]
    stored = [name for name in ("float_data", "int32_data", "int64_data") if getattr(tensor, name)]
    held: float
    if tensor.raw_data is not None:
        held = -1 if stored else len(tensor.raw_data) / width
    elif stored == ["float_data"] == [typed]:
        held = sum(map(len, tensor.float_data)) / 4
    elif stored == [typed]:
        held = count(getattr(tensor, typed))
    else:
        held = -1 if stored else 0
    if held != shape.values:
        raise ValueError("a constant does not have the values that its shape needs")
    return shape


def _few_values(tensor: TensorProto) -> bytes | list[int]:
    """Return the values of a small constant: whole numbers decoded, float32 values as bytes.

    Raises ValueError.
    """
    width, _ = STORAGE[tensor.data_type or 0]
    raw = bytes(tensor.raw_data or b"")
    if len(raw) > width * MAX_NUMBERS:
        raise ValueError("too many numbers")
    if tensor.data_type == DataType.FLOAT:
        return raw or b"".join(tensor.float_data)
    if tensor.data_type in (DataType.INT32, DataType.INT64) and raw:
        return [int.from_bytes(raw[at : at + width], "little", signed=True) for at in range(0, len(raw), width)]
    if tensor.data_type == DataType.INT64:
        return integers(tensor.int64_data, MAX_NUMBERS)
    raise ValueError("another type")


def _input_shape(value: ValueInfoProto, frames: int) -> Shape:
    """Return the shape of a graph's input for one window.

    Raises ValueError if a size is not known. The first axis is the windows, unless its size is a
    number too. If `frames` is more than 0, the second axis may have any size, and has `frames`.
    """
    dims = value.dims
    if any((dim.dim_value is None) == (dim.dim_param is None) for dim in dims) or not 0 < len(dims) <= MAX_RANK:
        raise ValueError("an input without a shape")
    sizes = [dim.dim_value for dim in dims]
    by_window = sizes[0] is None
    if by_window:
        sizes[0] = 1
    if frames and len(sizes) > 1 and sizes[1] is None:
        sizes[1] = frames
    known = tuple(size for size in sizes if size is not None)
    if len(known) < len(sizes) or any(size >> MAX_SIZE_BITS for size in known):
        raise ValueError("an input without a shape")
    return Shape(known, 0 if by_window else None)


def _shown(name: str) -> str:
    return name[:40].encode("ascii", "backslashreplace").decode()


def _refused(what: str) -> ModelError:
    return ModelError("bad-model", f"not a model that ms-export writes: it uses {what}.")
