"""Model files that onnxruntime would run, and we must not."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ms_edge import cli
from ms_edge.errors import ModelError
from ms_edge.graph import require_known_operators
from ms_edge.model import BUNDLED, Model


def changed(tmp_path: Path, change) -> Path:
    """The bundled model after `change(model)`."""
    model = onnx.load(BUNDLED)
    change(model)
    onnx.save(model, tmp_path / "a.onnx")
    return tmp_path / "a.onnx"


def ending_in(operator: str, constant: float):
    """Put an operator with a constant between the network's answer and the output."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["inner" if name == "scores" else name for name in node.output]
        graph.initializer.append(numpy_helper.from_array(np.float32(constant), "constant"))
        graph.node.append(helper.make_node(operator, ["inner", "constant"], ["scores"]))

    return change


@pytest.mark.parametrize(("operator", "constant"), [("Mul", 7.0), ("Sub", 2.0), ("Mul", np.nan), ("Div", 0.0)])
def test_answers_that_are_no_probabilities_are_refused(tmp_path, samples, capsys, operator, constant):
    path = changed(tmp_path, ending_in(operator, constant))
    assert cli.main(["classify", "--model", str(path), *map(str, samples)]) == 3
    captured = capsys.readouterr()
    assert "no probabilities" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert len(captured.out.splitlines()) == 1  # the head of the table


def test_a_small_file_that_would_fill_the_memory_is_refused_before_it_does(tmp_path):
    def bomb(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([250_000_000]), "size"))
        model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["filled"]))
        model.graph.output.append(helper.make_tensor_value_info("filled", TensorProto.FLOAT, [None]))

    with pytest.raises(ModelError, match="ConstantOfShape"):
        Model.load(changed(tmp_path, bomb))


def test_another_output_is_refused(tmp_path):
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", ["scores"], ["more"]))
        model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 2]))

    with pytest.raises(ModelError, match="metadata says"):
        Model.load(changed(tmp_path, change))


def test_a_fixed_batch_is_refused(tmp_path):
    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ModelError, match="1 windows at a time"):
        Model.load(changed(tmp_path, change))


def test_weights_in_another_file_are_not_read(tmp_path):
    model = onnx.load(BUNDLED)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match="not a model that onnxruntime can run"):
        Model.load(tmp_path / "a.onnx")


def constant(name: str, value) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def added(*nodes, **constants):
    """Add nodes, of whose result `grown` nothing depends but that it is there, and their constants."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["inner" if name == "scores" else name for name in node.output]
        model.graph.initializer.extend(constant(name, value) for name, value in constants.items())
        model.graph.node.extend(nodes)
        model.graph.node.append(helper.make_node("ReduceMin", ["grown"], ["least"], keepdims=0))
        model.graph.node.append(helper.make_node("Add", ["inner", "least"], ["scores"]))

    return change


ONE, NODE = np.zeros((1, 1), np.float32), helper.make_node
BODY = helper.make_graph([], "body", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None, 2])])
GROWING = {
    "Pad on constants": added(NODE("Pad", ["one", "pads"], ["grown"]), one=ONE, pads=[0, 0, 0, 150_000_000]),
    "Concat on constants": added(
        NODE("Concat", ["one", "one"], ["1"], axis=0), NODE("Concat", ["1", "1"], ["grown"], axis=0), one=ONE
    ),
    "MatMul on constants": added(
        NODE("MatMul", ["column", "row"], ["grown"]),
        column=np.zeros((20_000, 1), np.float32),
        row=np.zeros((1, 20_000), np.float32),
    ),
    "operator Expand": added(NODE("Expand", ["inner", "size"], ["grown"]), size=[10_000, 10_000, 1, 2]),
    "operator Tile": added(NODE("Tile", ["inner", "times"], ["grown"]), times=[1, 100_000_000]),
    "a Resize that makes more of less": added(
        NODE("Resize", ["inner", "", "scales"], ["grown"]), scales=np.float32([1, 1e8])
    ),
    "operator Einsum": added(NODE("Einsum", ["inner", "one"], ["grown"], equation="ij,kl->ijkl"), one=ONE),
    "operator If": added(NODE("If", ["yes"], ["grown"], then_branch=BODY, else_branch=BODY), yes=True),
    "graphs within its graph": added(NODE("Relu", ["inner"], ["grown"], body=BODY)),
    "operators of com.microsoft": added(NODE("Gelu", ["inner"], ["grown"], domain="com.microsoft")),
    "padding that makes 100,000,001": added(NODE("Pad", ["inner", "pads"], ["grown"]), pads=[0, 0, 0, 100_000_000]),
    "padding that makes 100,020,001": added(
        NODE("Reshape", ["inner", "shape"], ["image"]),
        NODE("Conv", ["image", "weight"], ["grown"], pads=[5000] * 4),
        shape=[-1, 1, 1, 2],
        weight=np.zeros((1, 1, 1, 1), np.float32),
    ),
    "Pad of no known width": added(
        NODE("Shape", ["inner"], ["shape"]),
        NODE("Concat", ["shape", "shape"], ["pads"], axis=0),
        NODE("Pad", ["inner", "pads"], ["grown"]),
    ),
}


@pytest.mark.parametrize("what", GROWING)
def test_operators_that_make_much_of_little_are_refused_before_onnxruntime_sees_them(tmp_path, monkeypatch, what):
    monkeypatch.setattr("ms_edge.model._session", lambda *_: pytest.fail("onnxruntime was asked"))
    with pytest.raises(ModelError, match=f"{re.escape(what)}.*ms-export do not") as caught:
        Model.load(changed(tmp_path, GROWING[what]))
    assert caught.value.code == "bad-model"


def test_functions_and_sparse_constants_are_refused(tmp_path):
    def function(model: onnx.ModelProto) -> None:
        model.functions.append(onnx.FunctionProto(name="F", domain="ai.onnx", output=["y"]))

    def sparse(model: onnx.ModelProto) -> None:
        values, places = constant("grown", np.float32([1])), constant("places", [0])
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1_000_000_000]))

    for change, what in ((function, "functions"), (sparse, "sparse constants")):
        with pytest.raises(ModelError, match=what):
            Model.load(changed(tmp_path, change))


def test_padding_as_networks_have_it_is_not_refused(tmp_path):
    change = added(NODE("Pad", ["inner", "pads"], ["grown"]), pads=[0, 2, 0, 510])
    assert Model.load(changed(tmp_path, change)).metadata.labels == ("speech", "music")


@settings(max_examples=300)
@given(places=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_flipped_bytes_of_a_graph_are_read_or_refused(places):
    content = bytearray(BUNDLED.read_bytes())
    for place, value in places:
        content[place] ^= value
    with contextlib.suppress(ModelError):
        require_known_operators(bytes(content))
