"""What is in a model file, read from its bytes before onnxruntime sees them: what ms-export writes, and no more.

onnxruntime reads other files and any memory where a model says that its constants are there, computes what depends on constants
alone while it loads a model, and a hundred bytes of those can fill any memory. So a file is read first against the list of fields
below (numbers of onnx.proto), the operators of `ms_edge.model.operators`, and limits. What is in neither list is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ms_edge.errors import ModelError
from ms_edge.features.spec import BATCH_S, MAX_VALUES
from ms_edge.model.metadata import Metadata
from ms_edge.model.operators import MAX_RANK, OF_CONSTANTS, OPERATORS, Attribute, Node, Shape, output_shapes
from ms_edge.model.protobuf import (
    BYTES,
    FLOAT,
    FLOATS,
    INT,
    INTS,
    TEXT,
    Message,
    Reader,
    TooManyFieldsError,
    UnknownFieldError,
    count,
    integers,
)

# Limits, far above what ms-export writes: its largest recipe has 253 nodes and 2.6 million constant values. onnxruntime's time to
# load a graph grows with the square of its nodes, on 1.20 to about a second at this limit.
MAX_NODES = 2_000
MAX_CONSTANTS = 4_000
MAX_FIELDS = 50_000  # of all messages in the file
# Of the constants of each node, and of what is made of constants: while onnxruntime loads a model, it computes the one and
# rearranges the other, on 1.20 anew for every node. The 8-bit weights of a network that fills a file of 64 MiB in 32 bits are
# read, widened and read again: 50 million.
MAX_CONSTANT_VALUES = 1 << 26
MAX_NUMBERS = 4 * MAX_RANK  # in an attribute, or in a constant that a shape depends on
OPSET, IR_VERSION = 15, 8
DOMAINS = ("", "ai.onnx")

# TensorProto.DataType: bytes of a value, and the field other than raw_data that may hold it.
STORAGE = {
    1: (4, "float_data"),
    2: (1, "int32_data"),
    3: (1, "int32_data"),
    6: (4, "int32_data"),
    7: (8, "int64_data"),
    9: (1, "int32_data"),
    10: (2, "int32_data"),
    11: (8, ""),
}
FLOAT32, INT32, INT64 = 1, 6, 7
# AttributeProto.AttributeType: the field that holds the value.
ATTRIBUTE_VALUES = {1: "f", 2: "i", 3: "s", 7: "ints"}

ONCE, MANY = False, True  # whether a field may be repeated
TENSOR = Message(
    "TensorProto",
    {
        1: ("dims", INTS, MANY),
        2: ("data_type", INT, ONCE),
        4: ("float_data", FLOATS, MANY),
        5: ("int32_data", INTS, MANY),
        7: ("int64_data", INTS, MANY),
        8: ("name", TEXT, ONCE),
        9: ("raw_data", BYTES, ONCE),
        12: ("doc_string", TEXT, ONCE),
        14: ("data_location", INT, ONCE),  # 0 alone: in the file
    },
)
ATTRIBUTE = Message(
    "AttributeProto",
    {
        1: ("name", TEXT, ONCE),
        2: ("f", FLOAT, ONCE),
        3: ("i", INT, ONCE),
        4: ("s", TEXT, ONCE),
        8: ("ints", INTS, MANY),
        13: ("doc_string", TEXT, ONCE),
        20: ("type", INT, ONCE),
    },
)
NODE = Message(
    "NodeProto",
    {
        1: ("input", TEXT, MANY),
        2: ("output", TEXT, MANY),
        3: ("name", TEXT, ONCE),
        4: ("op_type", TEXT, ONCE),
        5: ("attribute", ATTRIBUTE, MANY),
        6: ("doc_string", TEXT, ONCE),
        7: ("domain", TEXT, ONCE),
    },
)
DIMENSION = Message("TensorShapeProto.Dimension", {1: ("dim_value", INT, ONCE), 2: ("dim_param", TEXT, ONCE)})
TENSOR_SHAPE = Message("TensorShapeProto", {1: ("dim", DIMENSION, MANY)})
TENSOR_TYPE = Message("TypeProto.Tensor", {1: ("elem_type", INT, ONCE), 2: ("shape", TENSOR_SHAPE, ONCE)})
VALUE = Message(
    "ValueInfoProto",
    {
        1: ("name", TEXT, ONCE),
        2: ("type", Message("TypeProto", {1: ("tensor_type", TENSOR_TYPE, ONCE)}), ONCE),
        3: ("doc_string", TEXT, ONCE),
    },
)
GRAPH = Message(
    "GraphProto",
    {
        1: ("node", NODE, MANY),
        2: ("name", TEXT, ONCE),
        5: ("initializer", TENSOR, MANY),
        10: ("doc_string", TEXT, ONCE),
        11: ("input", VALUE, MANY),
        12: ("output", VALUE, MANY),
    },
)
OPSETS = Message("OperatorSetIdProto", {1: ("domain", TEXT, ONCE), 2: ("version", INT, ONCE)})
ENTRY = Message("StringStringEntryProto", {1: ("key", TEXT, ONCE), 2: ("value", TEXT, ONCE)})
MODEL = Message(
    "ModelProto",
    {
        1: ("ir_version", INT, ONCE),
        2: ("producer_name", TEXT, ONCE),
        3: ("producer_version", TEXT, ONCE),
        6: ("doc_string", TEXT, ONCE),
        7: ("graph", GRAPH, ONCE),
        8: ("opset_import", OPSETS, MANY),
        14: ("metadata_props", ENTRY, MANY),
    },
)
# What fields that are in no list hold, for people.
REFUSED = {
    ("TensorProto", 13): "constants in another file",
    ("AttributeProto", 5): "constants in attributes",
    ("AttributeProto", 10): "constants in attributes",
    ("AttributeProto", 6): "graphs within its graph",
    ("AttributeProto", 11): "graphs within its graph",
    ("AttributeProto", 22): "sparse constants",
    ("AttributeProto", 23): "sparse constants",
    ("GraphProto", 15): "sparse constants",
    ("ModelProto", 20): "graphs for training",
    ("ModelProto", 25): "functions",
}


def read_contents(content: bytes) -> tuple[dict[str, str], int]:
    """Return a model file's metadata, and how many values its graph holds at once for each window.

    Raises ModelError(`bad-model`) unless the file holds only what ms-export writes, within the limits.
    """
    try:
        model = Reader(content, MAX_FIELDS).read(MODEL)
        entries = model.get("metadata_props", [])
        metadata = {entry.get("key", ""): entry.get("value", "") for entry in entries}
        if len(metadata) != len(entries):
            raise ValueError("an entry twice")
        if "graph" not in model:
            raise ValueError("no graph")
        opsets = [(opset.get("domain", ""), opset.get("version")) for opset in model.get("opset_import", [])]
        if model.get("ir_version") != IR_VERSION or len(opsets) != 1 or opsets[0] not in [(d, OPSET) for d in DOMAINS]:
            raise _refused("another version of ONNX's format or operators")
        return metadata, _window_values(model["graph"], metadata)
    except UnknownFieldError as error:
        raise _refused(REFUSED.get((error.message, error.number), str(error))) from None
    except TooManyFieldsError:
        raise _refused(f"more than {MAX_FIELDS:,} fields") from None
    except UnicodeDecodeError:
        raise ModelError(
            "bad-model", "not a model that onnxruntime can run: a name or an entry is not UTF-8."
        ) from None
    except ValueError:
        raise ModelError("bad-model", "not a model that onnxruntime can run: its bytes are no ONNX graph.") from None


def _window_values(graph: dict[str, Any], entries: dict[str, str]) -> int:
    """How many values a graph holds at once for each window, constants aside. Raises ModelError as `read_contents` does.

    A graph that takes any number of frames is followed with those of one window and with those of the longest run that it is given,
    which has to be within the limit too. The sizes of all values grow with the frames, so runs between the two take no more.
    """
    if not any("dim_param" in dim for given in graph.get("input", []) for dim in _dimensions(given)[1:]):
        return _held(graph, 0, "one window")[0]
    metadata = Metadata.parse(entries)
    step, spec = metadata.step_frames, metadata.spec
    if step is None:
        raise _refused("features of any number of frames, and does not say how many frames are between two windows")
    clip = spec.frames(spec.clip_samples)
    windows = max(0, spec.frames(round(BATCH_S * spec.sample_rate_hz)) - clip) // step + 1
    most, of_one = _held(graph, clip, "one window")
    _, of_run = _held(graph, clip + (windows - 1) * step, f"{windows} windows")
    labels = len(metadata.labels)
    for output in graph.get("output", []):
        name = output.get("name", "")
        if (of_one[name], of_run[name]) != (Shape((1, 1, labels), 0), Shape((1, windows, labels), 0)):
            raise ModelError(
                "bad-shape", f"The model's graph does not answer a window every {step} frames, as its metadata says."
            )
    return most


def _held(graph: dict[str, Any], frames: int, of: str) -> tuple[int, dict[str, Shape]]:
    """How many values a graph holds at once for inputs of so many frames, and the shape of each value.

    `frames` is 0 for a graph that takes no other number of them than it says. `of` names what it is given, for messages.
    """
    nodes = graph.get("node", [])
    if len(nodes) > MAX_NODES:
        raise _refused(f"more than {MAX_NODES:,} operators")
    if len(graph.get("initializer", [])) > MAX_CONSTANTS:
        raise _refused(f"more than {MAX_CONSTANTS:,} constants")
    shapes: dict[str, Shape] = {}
    constants: dict[str, dict[str, Any] | None] = {"": None}  # None of those made by a node
    values = {"": 0}  # how many there are of each
    for tensor in graph.get("initializer", []):
        name = _new(tensor, shapes)
        shapes[name] = shape = _constant_shape(tensor)
        constants[name], values[name] = tensor, shape.values
    live = 0
    for given in graph.get("input", []):
        name = _new(given, shapes)
        shapes[name] = shape = _input_shape(given, frames)
        values[name] = shape.values
        live += shape.values
    uses = Counter(name for node in nodes for name in node.get("input", ()))
    uses.update(output.get("name", "") for output in graph.get("output", []))
    most, read = live, 0
    for node in nodes:
        operator, inputs = node.get("op_type", ""), node.get("input", [])
        if node.get("domain", "") not in DOMAINS:
            raise _refused(f"operators of {_shown(node['domain'])}")
        if operator not in OPERATORS:
            raise _refused(f"the operator {_shown(operator)}")
        if any(name not in values for name in inputs):
            raise _refused(f"the operator {operator} before what it is given")
        of_constants = all(name in constants for name in inputs)
        if of_constants and operator not in OF_CONSTANTS:
            raise _refused(f"the operator {operator} on constants alone")
        made = 0
        for name, shape in zip(
            node.get("output", []), _made(operator, node, shapes, constants, frames > 0), strict=True
        ):
            _new({"name": name}, shapes)
            shapes[name], values[name] = shape, shape.values
            made += values[name]
            if of_constants:
                constants[name] = None
        read += sum(values[name] for name in inputs if name in constants)
        if of_constants:
            read += made
        else:
            live += made
        if read > MAX_CONSTANT_VALUES:
            raise _refused(f"constants of more than {MAX_CONSTANT_VALUES:,} values, or the same ones again and again")
        if live > MAX_VALUES:
            raise _refused(f"more than {MAX_VALUES:,} values at once for {of}")
        most = max(most, live)
        for name in inputs:
            uses[name] -= 1
        for name in {*inputs, *node.get("output", [])}:
            if name not in constants and not uses[name]:
                live -= values[name]
    if any(output.get("name", "") not in shapes for output in graph.get("output", [])):
        raise ValueError("an output that no node makes")
    return most, shapes


def _new(value: dict[str, Any], shapes: dict[str, Shape]) -> str:
    """The name of a value, which no other one may have."""
    name = value.get("name", "")
    if not name or name in shapes:
        raise _refused("a value without a name of its own")
    return str(name)


def _made(
    operator: str,
    node: dict[str, Any],
    shapes: dict[str, Shape],
    constants: dict[str, dict[str, Any] | None],
    any_frames: bool,
) -> list[Shape]:
    """The shapes of what a node makes; `any_frames` where the same graph also takes fewer frames."""
    inputs = node.get("input", [])

    def constant(index: int) -> bytes | list[int]:
        tensor = constants.get(inputs[index]) if index < len(inputs) else None
        if tensor is None:
            raise ValueError("no constant in the file")
        return _few_values(tensor)

    attributes: dict[str, Attribute] = {}
    for attribute in node.get("attribute", []):
        name = attribute.get("name", "")
        if name in attributes:
            raise ValueError("an attribute twice")
        attributes[name] = _attribute(attribute)
    if operator == "Cast" and attributes.get("to") not in STORAGE:
        raise _refused("a Cast to another type")
    given = [shapes[name] if name else None for name in inputs]
    try:
        return output_shapes(operator, Node(given, len(node.get("output", [])), attributes, constant, any_frames))
    except (ValueError, ArithmeticError):
        raise _refused(f"the operator {operator} in a way that does not tell the shape of its output") from None


def _attribute(attribute: dict[str, Any]) -> Attribute:
    """The value of an attribute, which must be of the type that the attribute has; None for a float."""
    key = ATTRIBUTE_VALUES.get(attribute.get("type", 0), "")
    if not key or len(attribute) != 2 + (key in attribute) + ("doc_string" in attribute):  # 2: name and type
        raise ValueError("an attribute of another type")
    if key == "i":
        return integers([attribute.get("i", 0)], 1)[0]
    if key == "ints":
        return integers(attribute.get("ints", []), MAX_NUMBERS)
    return str(attribute.get("s", "")) if key == "s" else None


def _constant_shape(tensor: dict[str, Any]) -> Shape:
    """The shape of a constant, for which its file must hold all values, and no more."""
    sizes = integers(tensor.get("dims", []), MAX_RANK)
    kind = tensor.get("data_type")
    if tensor.get("data_location", 0) != 0:
        raise _refused("constants in another file")
    if kind not in STORAGE or min(sizes, default=0) < 0:
        raise _refused("constants of another type")
    shape, (width, typed) = Shape(tuple(sizes)), STORAGE[kind]
    stored = [key for key in ("raw_data", "float_data", "int32_data", "int64_data") if key in tensor]
    if stored == ["raw_data"]:
        held = len(tensor["raw_data"]) / width
    elif stored == [typed]:
        held = sum(map(len, tensor[typed])) / 4 if kind == FLOAT32 else count(tensor[typed])
    else:
        held = 0 if not stored else -1
    if held != shape.values:
        raise ValueError("not as many values as it says")
    return shape


def _few_values(tensor: dict[str, Any]) -> bytes | list[int]:
    """The values of a small constant: whole numbers decoded, those of float32 as bytes."""
    kind = tensor["data_type"]
    width, typed = STORAGE[kind]
    raw = bytes(tensor.get("raw_data", b""))
    if len(raw) > width * MAX_NUMBERS:
        raise ValueError("too many numbers")
    if kind == FLOAT32:
        return raw or b"".join(tensor.get(typed, []))
    if kind in (INT32, INT64) and raw:
        return [int.from_bytes(raw[at : at + width], "little", signed=True) for at in range(0, len(raw), width)]
    if kind == INT64:
        return integers(tensor.get(typed, []), MAX_NUMBERS)
    raise ValueError("another type")


def _input_shape(value: dict[str, Any], frames: int) -> Shape:
    """The shape of what a graph is given: windows along the first axis, unless that is a number too.

    Where `frames` is over 0, so many of them stand along an axis of any size, which only the second one may be.
    """
    dims = _dimensions(value)
    if any(len(dim) != 1 for dim in dims) or not 0 < len(dims) <= MAX_RANK:
        raise ValueError("no shape")
    if frames and len(dims) > 1 and "dim_param" in dims[1]:
        dims = [dims[0], {"dim_value": frames}, *dims[2:]]
    if any("dim_value" not in dim for dim in dims[1:]) or any(dim.get("dim_value", 1) >> 31 for dim in dims):
        raise ValueError("no shape")
    return Shape(tuple(dim.get("dim_value", 1) for dim in dims), 0 if "dim_param" in dims[0] else None)


def _dimensions(value: dict[str, Any]) -> list[dict[str, Any]]:
    dims: list[dict[str, Any]] = value.get("type", {}).get("tensor_type", {}).get("shape", {}).get("dim", [])
    return dims


def _shown(name: str) -> str:
    return name[:40].encode("ascii", "backslashreplace").decode()


def _refused(what: str) -> ModelError:
    return ModelError("bad-model", f"not a model that ms-export makes: it uses {what}.")
