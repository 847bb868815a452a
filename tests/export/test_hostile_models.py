"""Model files that onnxruntime would run, and we must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ms_edge import cli
from ms_edge.errors import ModelError
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
