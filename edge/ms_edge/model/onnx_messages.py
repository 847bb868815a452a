"""The messages of an ONNX file: the fields of each, and a class for their values.

Names and numbers are those of onnx.proto (github.com/onnx/onnx, IR version 8). Only the fields that
ms-export writes are read. `REFUSED` fields are listed so that an error can name them. Any other
field is refused by its number. The value of a field that does not occur is None, "" or an empty
tuple; `data_location` is then 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ms_edge.model.protobuf import BYTES, FLOAT, FLOATS, INT, INTS, REFUSED, TEXT, Field, Ints, Message


class Values:
    """The values of one message. An attribute of the class is the default of a field."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class DataType:
    """The numbers of TensorProto.DataType that the model check allows."""

    FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, DOUBLE = 1, 2, 3, 6, 7, 9, 10, 11


class AttributeType:
    """The numbers of AttributeProto.AttributeType that the model check allows."""

    FLOAT, INT, STRING, INTS = 1, 2, 3, 7


class TensorProto(Values):
    """A constant: its shape, its data type, and its values in one of four fields."""

    name: str = ""
    dims: Ints = ()
    data_type: int | None = None
    raw_data: memoryview | None = None
    float_data: Sequence[memoryview] = ()
    int32_data: Ints = ()
    int64_data: Ints = ()
    data_location: int = 0
    doc_string: str = ""


class AttributeProto(Values):
    """A named value of a node.

    `type` is the AttributeType, which determines the field that holds the value.
    """

    name: str = ""
    type: int | None = None
    f: memoryview | None = None
    i: int | None = None
    s: str | None = None
    ints: Ints = ()
    doc_string: str = ""


class NodeProto(Values):
    """One operator: the names of its inputs and outputs, and its attributes."""

    op_type: str = ""
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    attribute: Sequence[AttributeProto] = ()
    domain: str = ""
    name: str = ""
    doc_string: str = ""


class Dimension(Values):
    """The size of one axis: a number, or a name (`dim_param`) for a size that is not fixed."""

    dim_value: int | None = None
    dim_param: str | None = None


class TensorShapeProto(Values):
    """The sizes of all axes."""

    dim: Sequence[Dimension] = ()


class TensorType(Values):
    """The data type and the shape of a graph's input or output."""

    elem_type: int | None = None
    shape: TensorShapeProto = TensorShapeProto()


class TypeProto(Values):
    """The type of a graph's input or output, which may only be a tensor."""

    tensor_type: TensorType = TensorType()


class ValueInfoProto(Values):
    """An input or output of a graph."""

    name: str = ""
    type: TypeProto = TypeProto()
    doc_string: str = ""

    @property
    def dims(self) -> Sequence[Dimension]:
        """The sizes of its axes; empty if the file does not state them."""
        return self.type.tensor_type.shape.dim


class GraphProto(Values):
    """The network: its nodes in the order in which they run, and its constants (`initializer`)."""

    node: Sequence[NodeProto] = ()
    initializer: Sequence[TensorProto] = ()
    input: Sequence[ValueInfoProto] = ()
    output: Sequence[ValueInfoProto] = ()
    name: str = ""
    doc_string: str = ""


class OperatorSetIdProto(Values):
    """A version of a set of operators."""

    domain: str = ""
    version: int | None = None


class StringStringEntryProto(Values):
    """One metadata entry."""

    key: str = ""
    value: str = ""


class ModelProto(Values):
    """A whole model file."""

    ir_version: int | None = None
    graph: GraphProto | None = None
    opset_import: Sequence[OperatorSetIdProto] = ()
    metadata_props: Sequence[StringStringEntryProto] = ()
    producer_name: str = ""
    producer_version: str = ""
    doc_string: str = ""


TENSOR = Message(
    TensorProto,
    Field("dims", 1, INTS, repeated=True),
    Field("data_type", 2, INT),
    Field("float_data", 4, FLOATS, repeated=True),
    Field("int32_data", 5, INTS, repeated=True),
    Field("int64_data", 7, INTS, repeated=True),
    Field("name", 8, TEXT),
    Field("raw_data", 9, BYTES),
    Field("doc_string", 12, TEXT),
    Field("external_data", 13, REFUSED),
    Field("data_location", 14, INT),
)
ATTRIBUTE = Message(
    AttributeProto,
    Field("name", 1, TEXT),
    Field("f", 2, FLOAT),
    Field("i", 3, INT),
    Field("s", 4, TEXT),
    Field("t", 5, REFUSED),
    Field("g", 6, REFUSED),
    Field("ints", 8, INTS, repeated=True),
    Field("tensors", 10, REFUSED),
    Field("graphs", 11, REFUSED),
    Field("doc_string", 13, TEXT),
    Field("type", 20, INT),
    Field("sparse_tensor", 22, REFUSED),
    Field("sparse_tensors", 23, REFUSED),
)
NODE = Message(
    NodeProto,
    Field("input", 1, TEXT, repeated=True),
    Field("output", 2, TEXT, repeated=True),
    Field("name", 3, TEXT),
    Field("op_type", 4, TEXT),
    Field("attribute", 5, ATTRIBUTE, repeated=True),
    Field("doc_string", 6, TEXT),
    Field("domain", 7, TEXT),
)
DIMENSION = Message(Dimension, Field("dim_value", 1, INT), Field("dim_param", 2, TEXT))
TENSOR_SHAPE = Message(TensorShapeProto, Field("dim", 1, DIMENSION, repeated=True))
TENSOR_TYPE = Message(TensorType, Field("elem_type", 1, INT), Field("shape", 2, TENSOR_SHAPE))
TYPE = Message(TypeProto, Field("tensor_type", 1, TENSOR_TYPE))
VALUE_INFO = Message(ValueInfoProto, Field("name", 1, TEXT), Field("type", 2, TYPE), Field("doc_string", 3, TEXT))
GRAPH = Message(
    GraphProto,
    Field("node", 1, NODE, repeated=True),
    Field("name", 2, TEXT),
    Field("initializer", 5, TENSOR, repeated=True),
    Field("doc_string", 10, TEXT),
    Field("input", 11, VALUE_INFO, repeated=True),
    Field("output", 12, VALUE_INFO, repeated=True),
    Field("sparse_initializer", 15, REFUSED),
)
OPERATOR_SET = Message(OperatorSetIdProto, Field("domain", 1, TEXT), Field("version", 2, INT))
ENTRY = Message(StringStringEntryProto, Field("key", 1, TEXT), Field("value", 2, TEXT))
MODEL = Message(
    ModelProto,
    Field("ir_version", 1, INT),
    Field("producer_name", 2, TEXT),
    Field("producer_version", 3, TEXT),
    Field("doc_string", 6, TEXT),
    Field("graph", 7, GRAPH),
    Field("opset_import", 8, OPERATOR_SET, repeated=True),
    Field("metadata_props", 14, ENTRY, repeated=True),
    Field("training_info", 20, REFUSED),
    Field("functions", 25, REFUSED),
)
