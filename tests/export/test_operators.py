"""The shapes that the model check predicts equal those that onnxruntime computes."""

from __future__ import annotations

import functools

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ms_edge.errors import ModelError
from ms_edge.model import check as graph
from ms_edge.model.operators import OPERATORS, Shape, broadcast
from ms_edge.model.session import input_shape
from ms_export.network import to_onnx
from ms_export.waveform import with_front_end
from ms_train.recipes.by_name import recipes
from ms_train.scores import outputs
from ms_train.scores.outputs import with_logits

NODE = helper.make_node
BATCH = 3
GIVEN = (4, 6, 5)  # the shape of one window of the input `x`
BOOL = NODE("Greater", ["x", "zero"], ["yes"])
CONSTANTS = {
    "zero": np.float32(0),
    "one": np.float32(1),
    "four": np.ones(4, np.float32),
    "byte": np.uint8(128),
    "filters": np.ones((7, 4, 3, 2), np.float32),
    "two_groups": np.ones((8, 2, 3, 3), np.float32),
    "matrix": np.ones((5, 8), np.float32),
    "matrix_turned": np.ones((8, 5), np.float32),
    "tall": np.ones((120, 9), np.float32),
    "row": np.ones((1, 5), np.float32),
    "slope": np.ones((4, 1, 1), np.float32),
    "parts": np.array([1, 5]),
    "axis2": np.array([2]),
    "axis0": np.array([0]),
    "minus1": np.array([-1]),
    "axes": np.array([0, 3]),
    "places": np.array([[0, 3], [1, 1]]),
    "pads": np.array([0, 0, 1, 2, 0, 0, 3, 4]),
    "nothing": np.array([], np.float32),
    "scales": np.float32([1, 1, 0.4, 0.9]),
    "begin": np.array([0, -3, 4]),
    "end": np.array([2**31 - 1, 2**40, -(2**40)]),
    "sliced": np.array([0, 2, -1]),
    "steps": np.array([1, 2, -2]),
    "to_rows": np.array([-1, 30]),
    "to_fives": np.array([-1, 5]),
    "to_same": np.array([0, 0, -1]),
    "to_flat": np.array([0, 120]),
}
FLAT = NODE("Reshape", ["x", "to_flat"], ["flat"])


def one(operator: str, *inputs: str, outputs: int = 1, before: tuple[onnx.NodeProto, ...] = (), **attributes):
    """Return a node after the nodes that make its inputs."""
    return [*before, NODE(operator, inputs or ["x"], [f"y{index}" for index in range(outputs)], **attributes)]


CASES = [
    *[one(name) for name in (
        "Abs", "Ceil", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu",
        "Log", "LogSoftmax", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Softsign", "Sqrt",
        "Tanh", "ThresholdedRelu", "GlobalAveragePool", "GlobalMaxPool", "Transpose", "Flatten",
    )],
    one("Not", "yes", before=(BOOL,)), one("And", "yes", "yes", before=(BOOL,)), one("Or", "yes", "yes", before=(BOOL,)),
    one("Where", "yes", "x", "one", before=(BOOL,)), one("Cast", to=TensorProto.FLOAT16), one("Clip", "x", "zero", "one"),
    one("BatchNormalization", "x", "four", "four", "four", "four"), one("InstanceNormalization", "x", "four", "four"),
    one("QuantizeLinear", "x", "one", "byte"),
    one("DequantizeLinear", "q", "one", "byte", before=(NODE("QuantizeLinear", ["x", "one", "byte"], ["q"]),)),
    *[one(name, "x", "row") for name in ("Add", "Div", "Equal", "Less", "Max", "Min", "Mul", "Pow", "Sub", "Sum")],
    one("Greater", "row", "x"), one("PRelu", "x", "slope"), one("Sum", "row", "x", "one"),
    one("Add", "x", "column", before=(NODE("ReduceMax", ["x"], ["column"], axes=[1, 3]),)),
    one("Add", "flat", "sums", before=(FLAT, NODE("ReduceMean", ["flat"], ["sums"], axes=[1]))),
    one("Concat", "x", "x", "x", axis=-1), one("Concat", "x", "x", axis=0),
    one("Conv", "x", "filters"), one("Conv", "x", "filters", strides=[2, 3], pads=[1, 0, 2, 1], dilations=[2, 1]),
    one("Conv", "x", "two_groups", group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
    one("Conv", "x", "filters", auto_pad="SAME_LOWER"), one("Conv", "x", "filters", auto_pad="VALID"),
    one("MaxPool", kernel_shape=[2, 2], strides=[2, 1]), one("MaxPool", kernel_shape=[2, 3], auto_pad="SAME_LOWER", strides=[2, 2]),
    one("AveragePool", kernel_shape=[2, 3], pads=[1, 1, 0, 1]), one("AveragePool", kernel_shape=[6, 5]),
    one("Flatten", axis=2), one("Flatten", axis=-1), one("Flatten", axis=4), one("Flatten", axis=0),
    one("Gather", "x", "places", axis=1), one("Gather", "x", "places", axis=-1),
    one("Gather", "turned", "places", before=(NODE("Transpose", ["x"], ["turned"], perm=[1, 0, 2, 3]),), axis=0),
    one("Gather", "matrix", "whole", before=(NODE("Clip", ["x", "zero", "one"], ["few"]), NODE("Cast", ["few"], ["whole"], to=7))),
    one("Gemm", "flat", "tall", before=(FLAT,)), one("Gemm", "tall", "flat", before=(FLAT,), transA=1, transB=1),
    one("MatMul", "x", "matrix"), one("MatMul", "x", "turned", before=(NODE("Transpose", ["x"], ["turned"], perm=[0, 1, 3, 2]),)),
    one("MatMul", "matrix_turned", "columns", before=(
        NODE("Reshape", ["x", "to_fives"], ["fives"]), NODE("Transpose", ["fives"], ["columns"]))),
    one("Pad", "x", "pads"), one("Pad", "x", "pads", "one"),
    *[one(name, axes=[1, -1]) for name in ("ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")],
    one("ReduceMax", axes=[2], keepdims=0), one("ReduceSum", "x", "axis2"), one("ReduceSum", "x", "minus1", keepdims=0),
    one("Reshape", "x", "to_rows"), one("Reshape", "x", "to_same"), one("Reshape", "x", "to_flat"),
    one("Resize", "x", "nothing", "scales", mode="nearest"),
    one("Slice", "x", "begin", "end", "sliced", "steps"), one("Slice", "x", "axis2", "minus1", "axis2"),
    one("Split", "x", outputs=2, axis=1), one("Split", "x", "parts", outputs=2, axis=2),
    one("Squeeze", "thin", "minus1", before=(NODE("ReduceMax", ["x"], ["thin"], axes=[3]),)),
    one("Unsqueeze", "x", "axes"), one("Unsqueeze", "x", "minus1"),
    one("Transpose", perm=[2, 0, 3, 1]),
]  # fmt: skip


def content_of(nodes: list[onnx.NodeProto]) -> bytes:
    """Return the bytes of a model of these nodes, whose outputs are all values."""
    names = {name for node in nodes for name in node.input}
    made = [helper.make_empty_tensor_value_info(name) for node in nodes for name in node.output]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *GIVEN])
    constants = [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in names]
    made_of = helper.make_graph(nodes, "case", [given], made, constants)
    opsets = [helper.make_opsetid("", graph.OPSET)]
    return helper.make_model(made_of, opset_imports=opsets, ir_version=graph.IR_VERSION).SerializeToString()


def known_shapes(content: bytes, monkeypatch) -> list[Shape]:
    """Return the shape of every output of every node, as the model check predicts it."""
    found: list[Shape] = []
    with monkeypatch.context() as patch:

        def recorded(*arguments):
            shapes = computed(*arguments)
            found.extend(shapes)
            return shapes

        computed = graph.output_shapes
        patch.setattr(graph, "output_shapes", recorded)
        graph.read_contents(content)
    return found


def of_windows(shape: Shape, windows: int) -> tuple[int, ...]:
    return tuple(size * windows if axis == shape.batch else size for axis, size in enumerate(shape.sizes))


def made_shapes(content: bytes, names: list[str], given: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [value.shape for value in session.run(names, given)]


@pytest.mark.parametrize("nodes", CASES, ids=lambda nodes: str(nodes[-1].op_type))
def test_predicted_shape_equals_onnxruntime(monkeypatch, nodes):
    content = content_of(nodes)
    names = [name for node in nodes for name in node.output]
    x = np.random.default_rng(0).uniform(0.1, 1, (BATCH, *GIVEN)).astype(np.float32)
    known = [of_windows(shape, BATCH) for shape in known_shapes(content, monkeypatch)]
    assert known == made_shapes(content, names, {"x": x})


def test_kernel_unlike_its_weights_is_refused():
    """With 2**63 - 1 in place of 2, and a Slice of the result, onnxruntime 1.31 ends the process."""
    assert graph.read_contents(content_of(one("Conv", "x", "filters", kernel_shape=[3, 2])))
    with pytest.raises(ModelError, match="the operator Conv"):
        graph.read_contents(content_of(one("Conv", "x", "filters", kernel_shape=[3, 2**63 - 1])))


def test_every_operator_has_a_case():
    assert {node.op_type for nodes in CASES for node in nodes} == set(OPERATORS)


LABELS = ("music", "speech")


@functools.cache
def untrained(name: str) -> tuple[keras.Model, onnx.ModelProto]:
    """Return a recipe's network with random weights, and its graph for single windows."""
    recipe = recipes()[name]
    keras.utils.set_random_seed(0)
    shape = recipe.spec.feature_shape
    network = with_logits(recipe.build_model(LABELS, "exclusive", 1), LABELS, "exclusive", shape)
    return network, to_onnx(network, shape, name)


each_recipe = pytest.mark.parametrize(
    "name", [name if name == "mel_dscnn" else pytest.param(name, marks=pytest.mark.slow) for name in recipes()]
)


@each_recipe
def test_every_recipe_gives_keras_scores_in_onnxruntime(name):
    network, model = untrained(name)
    content = model.SerializeToString()
    graph.read_contents(content)
    features = np.random.default_rng(0).uniform(0, 3, (3, *recipes()[name].spec.feature_shape)).astype(np.float32)
    _, expected = network(features, training=False)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["scores"], {"features": features})[0], expected, atol=1e-5)


@pytest.mark.parametrize("form", ["features", "waveform"])
@each_recipe
def test_predicted_recipe_shapes_equal_onnxruntime(monkeypatch, name, form):
    spec = recipes()[name].spec
    network, converted = untrained(name)
    model = onnx.ModelProto()
    model.CopyFrom(converted)
    if form == "waveform":
        runs = outputs.of_windows(network)
        model = with_front_end(spec, to_onnx(runs, (None, spec.bins), name) if runs else model)
    content = model.SerializeToString()
    names = [output for node in model.graph.node for output in node.output]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(output) for output in names)
    given = {form: np.zeros((2, *input_shape(spec, form)), np.float32)}
    known = [of_windows(shape, 2) for shape in known_shapes(content, monkeypatch)]
    assert known == made_shapes(model.SerializeToString(), names, given)


def test_shapes_computed_by_keras_become_constants():
    """The attention of Keras reshapes to (2 x windows, ...), in which one size is -1 already."""
    keras.utils.set_random_seed(0)
    features = keras.Input((49, 48))
    attended = keras.layers.GlobalAveragePooling1D()(keras.layers.MultiHeadAttention(2, 8)(features, features))
    logits = keras.layers.Dense(2)(attended)
    network = keras.Model(features, [logits, keras.layers.Softmax()(logits)])
    content = to_onnx(network, (49, 48), "attention").SerializeToString()
    graph.read_contents(content)
    given = np.random.default_rng(0).standard_normal((5, 49, 48)).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    _, expected = network(given, training=False)
    np.testing.assert_allclose(session.run(["scores"], {"features": given})[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([((2, 3), 0), ((1, 3), None)], ((2, 3), 0)),
        ([((1, 3), 0), ((3,), None), ((5, 1, 1), None)], ((5, 1, 3), 1)),
        ([((3,), None), ((), None)], ((3,), None)),
        ([((2, 3), 0), ((2, 3), None)], None),  # only two windows would match a size of 2
        ([((1, 3), 0), ((2, 3), 0)], None),
        ([((1, 3), 0), ((3, 1), 1)], None),  # combines every window with every window
        ([((4,), 0), ((1, 4), 0)], None),
        ([((2,), None), ((3,), None)], None),
        ([], None),
    ],
)
def test_broadcast_never_combines_different_windows(shapes, expected):
    given = [Shape(*shape) for shape in shapes]
    if expected is not None:
        assert broadcast(given) == Shape(*expected)
        return
    with pytest.raises(ValueError, match=r"windows|sizes|values"):
        broadcast(given)
