"""Model files that onnxruntime would run but ms-edge must refuse."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ms_edge.classifier import Classifier
from ms_edge.cli import main as cli
from ms_edge.errors import ModelError
from ms_edge.features.spec import MAX_VALUES
from ms_edge.model.check import MAX_CONSTANTS, MAX_NODES, read_contents
from ms_edge.model.metadata import Metadata
from ms_edge.model.session import BEFORE, BUNDLED, Model

SINGLE = BUNDLED.with_name(f"{BEFORE}.onnx")
# A model of runs of windows of any length, and a model of single windows, whose values have fixed sizes.
FORMS = pytest.mark.parametrize("base", [BUNDLED, SINGLE], ids=["runs", "single windows"])


def changed(tmp_path: Path, change, base: Path = SINGLE) -> Path:
    """Write the model after `change(model)` and return its path."""
    model = onnx.load(base)
    change(model)
    (tmp_path / "a.onnx").write_bytes(
        model.SerializeToString()
    )  # onnx.save would write external constants, or refuse them
    return tmp_path / "a.onnx"


def ending_in(operator: str, constant: float):
    """Put an operator with a constant between the network's scores and the output."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["inner" if name == "scores" else name for name in node.output]
        graph.initializer.append(numpy_helper.from_array(np.float32(constant), "constant"))
        graph.node.append(helper.make_node(operator, ["inner", "constant"], ["scores"]))

    return change


@FORMS
@pytest.mark.parametrize(("operator", "constant"), [("Mul", 7.0), ("Sub", 2.0), ("Mul", np.nan), ("Div", 0.0)])
def test_scores_outside_zero_to_one_are_refused(tmp_path, samples, capsys, base, operator, constant):
    path = changed(tmp_path, ending_in(operator, constant), base)
    assert cli.main(["classify", "--model", str(path), *map(str, samples)]) == 3
    captured = capsys.readouterr()
    assert "not probabilities" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert len(captured.out.splitlines()) == 1  # the heading of the table


@FORMS
def test_small_file_that_fills_memory_is_refused(tmp_path, base):
    def bomb(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([250_000_000]), "size"))
        model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["filled"]))
        model.graph.output.append(helper.make_tensor_value_info("filled", TensorProto.FLOAT, [None]))

    with pytest.raises(ModelError, match="ConstantOfShape"):
        Model.load(changed(tmp_path, bomb, base))


@FORMS
def test_second_output_is_refused(tmp_path, base):
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Identity", ["scores"], ["more"]))
        model.graph.output.append(model.graph.output[0])
        model.graph.output[1].name = "more"

    with pytest.raises(ModelError, match="metadata says"):
        Model.load(changed(tmp_path, change, base))


@FORMS
def test_fixed_batch_size_is_refused(tmp_path, base):
    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(ModelError, match=r"fixed size of 1 windows|does not give scores every 4 frames"):
        Model.load(changed(tmp_path, change, base))


def constant(name: str, value) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def added(*nodes, **constants):
    """Add nodes and their constants. The scores use their result `grown`, so it must be computed."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["inner" if name == "scores" else name for name in node.output]
        model.graph.initializer.extend(constant(name, value) for name, value in constants.items())
        model.graph.node.extend(nodes)
        model.graph.node.append(helper.make_node("ReduceMin", ["grown"], ["least"], axes=[1]))
        model.graph.node.append(helper.make_node("Add", ["inner", "least"], ["scores"]))

    return change


ONE, NODE = np.zeros((1, 1), np.float32), helper.make_node
BODY = helper.make_graph([], "body", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [None, 2])])


def repeated(operator: str, count: int, first: str = "inner", more: tuple[str, ...] = (), **attributes):
    """Return a chain of `count` nodes, from `first` to `grown`."""
    names = [first, *(f"link{index}" for index in range(count - 1)), "grown"]
    return [NODE(operator, [a, *more], [b], **attributes) for a, b in pairwise(names)]


GROWING = {
    "the operator Pad on constants": added(
        NODE("Pad", ["one", "pads"], ["grown"]), one=ONE, pads=[0, 0, 0, 150_000_000]
    ),
    "the operator Concat on constants": added(
        NODE("Concat", ["one", "one"], ["1"], axis=0), NODE("Concat", ["1", "1"], ["grown"], axis=0), one=ONE
    ),
    "the operator Concat before its input is made": added(
        NODE("Concat", ["1", "1"], ["grown"], axis=0), NODE("Identity", ["one"], ["1"]), one=ONE
    ),
    "the operator MatMul on constants": added(
        NODE("MatMul", ["column", "row"], ["grown"]),
        column=np.zeros((20_000, 1), np.float32),
        row=np.zeros((1, 20_000), np.float32),
    ),
    "the operator Shape": added(
        NODE("Shape", ["features"], ["link"], start=1),
        *[NODE("Concat", [a, a], [b], axis=0) for a, b in (("link", "link1"), ("link1", "grown"))],
    ),
    "constants of more than 67,108,864 values, counted each time they are read": added(
        *[NODE("Reshape", ["big", f"shape{i}"], [f"row{i}"]) for i in range(9)],
        *[NODE("Cast", [f"row{i}"], [f"cast{i}"], to=TensorProto.FLOAT) for i in range(9)],
        *[NODE("MatMul", ["inner", f"cast{i}"], [f"product{i}"]) for i in range(9)],
        NODE("Sum", [f"product{i}" for i in range(9)], ["grown"]),
        big=np.zeros((2, 1_000_000), np.int8),
        **{f"shape{i}": [2, 1_000_000] for i in range(9)},
    ),
    "constants of more than 67,108,864 values": added(
        NODE("Concat", ["inner"] * 256, ["wide"], axis=1),
        *repeated("MatMul", 300, "wide", ("weight",)),
        weight=np.zeros((512, 512), np.float32),
    ),
    "more than 2,000 operators": added(*repeated("Relu", 2_000)),
    "more than 4,000 constants": added(NODE("Relu", ["inner"], ["grown"]), **{f"c{i}": 0.0 for i in range(4_000)}),
    "more than 50,000 fields": added(*repeated("Relu", 20_000)),
    "more than 16,777,216 values at once for one window": added(
        NODE("Reshape", ["features", "column_shape"], ["column"]),
        NODE("Reshape", ["features", "row_shape"], ["row"]),
        NODE("Sub", ["column", "row"], ["1"]),
        NODE("Concat", ["1"] * 4, ["grown"], axis=1),
        column_shape=[0, 2352, 1],
        row_shape=[0, 1, 2352],
    ),
    "the operator Expand": added(NODE("Expand", ["inner", "size"], ["grown"]), size=[10_000, 10_000, 1, 2]),
    "the operator Tile": added(NODE("Tile", ["inner", "times"], ["grown"]), times=[1, 100_000_000]),
    "the operator Resize with an output whose shape": added(
        NODE("Resize", ["inner", "", "scales"], ["grown"]), scales=np.float32([1, 1e8])
    ),
    "the operator Einsum": added(NODE("Einsum", ["inner", "one"], ["grown"], equation="ij,kl->ijkl"), one=ONE),
    "graphs within its graph": added(NODE("If", ["yes"], ["grown"], then_branch=BODY, else_branch=BODY), yes=True),
    "operators of com.microsoft": added(NODE("Gelu", ["inner"], ["grown"], domain="com.microsoft")),
    "more than 16,777,216 values": added(NODE("Pad", ["inner", "pads"], ["grown"]), pads=[0, 0, 0, 100_000_000]),
    "more than 16,777,216 values at once": added(
        NODE("Reshape", ["inner", "shape"], ["image"]),
        NODE("Conv", ["image", "weight"], ["grown"], pads=[5000] * 4),
        shape=[-1, 1, 1, 2],
        weight=np.zeros((1, 1, 1, 1), np.float32),
    ),
    "the operator Pad with an output whose shape": added(
        NODE("Cast", ["inner"], ["pads"], to=TensorProto.INT64), NODE("Pad", ["inner", "pads"], ["grown"])
    ),
    "the operator MatMul with an output whose shape": added(  # multiplies every window by every window
        NODE("Transpose", ["inner"], ["turned"]), NODE("MatMul", ["inner", "turned"], ["grown"])
    ),
    "the operator Reshape with an output whose shape": added(  # requires exactly 32 windows
        NODE("Reshape", ["inner", "shape"], ["grown"]), shape=[32, 2]
    ),
    "the operator Slice with an output whose shape": added(  # gives 0 of 32 windows, but 16 of 16
        NODE("Slice", ["inner", "begin", "end", "axis"], ["grown"]), begin=[-16], end=[16], axis=[0]
    ),
}


def refused(path: Path, monkeypatch) -> ModelError:
    """Return the error for a model file, and assert that onnxruntime never sees it."""
    with monkeypatch.context() as patch:
        patch.setattr("ms_edge.model.session._session", lambda *_: pytest.fail("onnxruntime was asked"))
        with pytest.raises(ModelError) as caught:
            Model.load(path)
    assert caught.value.code == "bad-model"
    return caught.value


@pytest.mark.parametrize("what", GROWING)
def test_memory_hungry_operators_never_reach_onnxruntime(tmp_path, monkeypatch, what):
    found = refused(changed(tmp_path, GROWING[what]), monkeypatch)
    assert re.search(f"not a model that ms-export writes: it uses {re.escape(what)}", str(found))


@FORMS
def test_limits_are_far_above_bundled_models(base):
    graph, (_, values) = onnx.load(base).graph, read_contents(base.read_bytes())
    assert 48 * len(graph.node) < MAX_NODES
    assert 100 * len(graph.initializer) < MAX_CONSTANTS
    assert 500 * values < MAX_VALUES
    assert Model.load(base).max_batch == MAX_VALUES // values


# Constants outside the file: in other files or in memory.


def elsewhere(tensor: TensorProto, location: str = "weights.bin") -> TensorProto:
    """Return the constant with its values in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def weights() -> TensorProto:
    return constant("weights", np.zeros((48, 2), np.float32))


def sparse(values: TensorProto, places: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(dims=[48, 2], values=values, indices=places)


def in_attribute(**value):
    """Return a function that adds an attribute with a value of some kind to a node."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[5].attribute.add(name="more", **value)

    return change


def in_initializer(location: str):
    return lambda model: elsewhere(model.graph.initializer[-2], location)


def only_entries(model: onnx.ModelProto) -> None:
    model.graph.initializer[-2].external_data.add(key="location", value="weights.bin")


def only_location(model: onnx.ModelProto) -> None:
    model.graph.initializer[-2].data_location = TensorProto.EXTERNAL


def in_constant_node(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, NODE("Constant", [], ["more"], value=elsewhere(weights())))


def in_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="F", domain="own", output=["y"]).node.append(
        NODE("Constant", [], ["y"], value=elsewhere(weights()))
    )


def in_sparse(values: TensorProto, places: TensorProto):
    return lambda model: model.graph.sparse_initializer.append(sparse(values, places))


PLACES = constant("places", np.arange(96))
WITHIN = helper.make_graph([], "within", [], [], [elsewhere(weights())])
NESTED = helper.make_graph([NODE("If", ["yes"], ["y"], then_branch=WITHIN, else_branch=WITHIN)], "nested", [], [])
ELSEWHERE = {
    "relative": ("constants in another file", in_initializer("weights.bin")),
    "absolute": ("constants in another file", in_initializer("/etc/hostname")),
    "memory": ("constants in another file", in_initializer("*/_ORT_MEM_ADDR_/*")),
    "entries alone": ("constants in another file", only_entries),
    "location alone": ("constants in another file", only_location),
    "node": ("constants in attributes", in_constant_node),
    "attribute": ("constants in attributes", in_attribute(type=4, t=elsewhere(weights()))),
    "attributes": ("constants in attributes", in_attribute(type=9, tensors=[elsewhere(weights())])),
    "subgraph": ("graphs within its graph", in_attribute(type=5, g=WITHIN)),
    "subgraphs": ("graphs within its graph", in_attribute(type=10, graphs=[WITHIN])),
    "nested": ("graphs within its graph", in_attribute(type=5, g=NESTED)),
    "sparse": ("sparse constants", in_attribute(type=11, sparse_tensor=sparse(elsewhere(weights()), PLACES))),
    "sparses": ("sparse constants", in_attribute(type=12, sparse_tensors=[sparse(elsewhere(weights()), PLACES)])),
    "sparse values": ("sparse constants", in_sparse(elsewhere(weights()), PLACES)),
    "sparse places": ("sparse constants", in_sparse(weights(), elsewhere(constant("places", np.arange(96))))),
    "sparse and large": ("sparse constants", in_sparse(constant("one", np.float32([1])), constant("place", [10**9]))),
    "function": ("functions", in_function),
    "training": ("graphs for training", lambda model: model.training_info.add().algorithm.CopyFrom(WITHIN)),
}


@FORMS
@pytest.mark.parametrize("where", ELSEWHERE)
def test_external_constants_never_reach_onnxruntime(tmp_path, monkeypatch, where, base):
    what, change = ELSEWHERE[where]
    assert f"it uses {what}." in str(refused(changed(tmp_path, change, base), monkeypatch))


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low | 0x80]) + varint(number >> 7) if number >> 7 else bytes([low])


def sized(number: int, content: bytes) -> bytes:
    """Return a field of bytes in the format of Protocol Buffers."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def numbered(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


# HEAD has a constant's name, type and sizes; ENTRY says that its values are in another file.
HEAD = TensorProto(name="weights", data_type=1, dims=[48, 2]).SerializeToString()
ENTRY = sized(13, sized(1, b"location") + sized(2, b"weights.bin"))
WIRED = {
    "as it is written": HEAD + numbered(14, 1) + ENTRY,
    "a number of 33 bits": HEAD + numbered(14, (1 << 32) + 1) + ENTRY,
    "here, then elsewhere": HEAD + numbered(14, 0) + numbered(14, 1) + ENTRY,
    "a number longer than it needs": HEAD + varint(14 << 3) + b"\x81\x80\x00" + ENTRY,
    "a tag longer than it needs": HEAD + b"\xf0\x80\x00\x01\xea\x80\x00" + ENTRY[1:],
    "an entry in two": HEAD + numbered(14, 1) + sized(13, sized(1, b"location")) + sized(13, sized(2, b"weights.bin")),
    "a group": HEAD + varint(14 << 3 | 3) + numbered(1, 1) + varint(14 << 3 | 4) + numbered(14, 1) + ENTRY,
    "both here and there": weights().SerializeToString() + numbered(14, 1) + ENTRY,
    "of another type": HEAD + varint(14 << 3 | 5) + bytes(4) + numbered(14, 1) + ENTRY,
}


@pytest.mark.parametrize("graph", ["the same graph", "another graph, to be merged"])
@pytest.mark.parametrize("how", WIRED)
def test_every_encoding_of_external_constants_is_refused(tmp_path, monkeypatch, how, graph):
    model = onnx.load(BUNDLED)
    if graph == "the same graph":
        content = model.graph.SerializeToString() + sized(5, WIRED[how])
        model.ClearField("graph")
        content = model.SerializeToString() + sized(7, content)
    else:
        content = model.SerializeToString() + sized(7, sized(5, WIRED[how]))
    (tmp_path / "a.onnx").write_bytes(content)
    refused(tmp_path / "a.onnx", monkeypatch)


@pytest.mark.parametrize(
    "more",
    [
        numbered(4095, 1),
        numbered(1, 8),  # the version a second time
        sized(14, sized(1, b"ms_edge.license") + sized(2, b"another")),
        sized(7, b""),
        varint(7 << 3) + varint(1),
        sized(2, b"x")[:-1],
    ],
)
def test_unknown_and_repeated_fields_are_refused(tmp_path, monkeypatch, more):
    (tmp_path / "a.onnx").write_bytes(BUNDLED.read_bytes() + more)
    refused(tmp_path / "a.onnx", monkeypatch)


def duplicate_name(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def too_few_values(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40]


def name_of_a_value_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[:] = model.graph.node[0].output


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 16


def attribute_of_another_type(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Concat").attribute[0].type = 7


@FORMS
@pytest.mark.parametrize(
    "change",
    [duplicate_name, too_few_values, name_of_a_value_twice, another_opset, attribute_of_another_type],
)
def test_ambiguous_models_are_refused(tmp_path, monkeypatch, change, base):
    refused(changed(tmp_path, change, base), monkeypatch)


def test_usual_padding_is_accepted(tmp_path):
    change = added(NODE("Pad", ["inner", "pads"], ["grown"]), pads=[0, 2, 0, 510])
    assert Model.load(changed(tmp_path, change)).metadata.labels == ("speech", "music")


# Memory of a batch


def averaging(tmp_path: Path, **front_end) -> Path:
    """Write a model of another front end whose scores are the mean of its features."""
    spec = dataclasses.replace(Model.load(SINGLE).metadata.spec, **front_end)

    def change(model: onnx.ModelProto) -> None:
        entries = {entry.key: entry for entry in model.metadata_props}
        entries["ms_edge.frontend"].value, entries["ms_edge.frontend_sha256"].value = spec.to_json(), spec.digest
        golden = json.loads(entries["ms_edge.golden"].value)
        golden["feature_mean"] = golden["feature_max"] = [0.0] * spec.bins
        entries["ms_edge.golden"].value = json.dumps(golden)
        graph = model.graph
        for size, found in zip(graph.input[0].type.tensor_type.shape.dim[1:], spec.feature_shape, strict=True):
            size.dim_value = found
        del graph.node[:], graph.initializer[:]
        graph.initializer.append(constant("axis", [1]))
        graph.node.append(NODE("ReduceMean", ["features"], ["mean"], axes=[1, 2], keepdims=0))
        graph.node.append(NODE("Sigmoid", ["mean"], ["score"]))
        graph.node.append(NODE("Unsqueeze", ["score", "axis"], ["column"]))
        graph.node.append(NODE("Concat", ["column", "column"], ["scores"], axis=1))

    return changed(tmp_path, change)


@pytest.mark.parametrize(
    "front_end",
    [
        # 4.2 million values per window of 10 ms; 32 s have 3,200 windows
        {
            "sample_rate_hz": 384_000,
            "frame_length": 1,
            "frame_step": 1,
            "fft_length": 2_184,
            "clip_s": 0.01,
            "hop_s": 0.01,
        },
        # One frame per window, but one per sample of the hop if frames are shared
        {"frame_length": 16_000, "frame_step": 1, "fft_length": 16_000, "clip_s": 1.0, "hop_s": 1.0},
    ],
)
def test_batch_memory_follows_values_not_seconds(tmp_path, front_end):
    classifier = Classifier(averaging(tmp_path, mel=None, **front_end), "cpu")
    rate = classifier.spec.sample_rate_hz
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, int(rate * max(0.25, 2 * classifier.spec.clip_s)))
    tracemalloc.start()
    try:
        classifier.classify(samples.astype(np.float32), rate)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * 4 * MAX_VALUES


def test_hop_of_one_sample_is_refused(tmp_path):
    entries, _ = read_contents(BUNDLED.read_bytes())
    entries["ms_edge.frontend"] = dataclasses.replace(Metadata.parse(entries).spec, hop_s=1 / 16_000).to_json()
    with pytest.raises(ModelError, match=r"hop_s must be 0.01 or more, not 6.25e-05"):
        Metadata.parse(entries)


@FORMS
@settings(max_examples=3 * settings.default.max_examples)
@given(places=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_flipped_bytes_are_read_or_refused(base, places):
    content = bytearray(base.read_bytes())
    for place, value in places:
        content[place] ^= value
    with contextlib.suppress(ModelError):
        read_contents(bytes(content))
