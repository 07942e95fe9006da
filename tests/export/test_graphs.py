"""ONNX blocks put together and taken apart, against running them one by one."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from aebnas.branches.linked import build_exit
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.export.blocks import export_block
from aebnas.export.gate import Decision, export_exit
from aebnas.export.graphs import (
    Grid,
    join,
    output_grid,
    set_output_shape,
    sort_nodes,
    split_gate,
    with_batch_of_one,
    without_unused,
)
from aebnas.export.precision import convert

SHAPE = (3, 8, 8)


def run(model, images):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: images})


def entry(block):
    """The node that puts the input on its grid."""
    return next(node for node in block.graph.node if node.op_type == "QuantizeLinear" and "input" in node.input)


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).standard_normal((50, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def parts():
    """A feature extractor, and a classifier that begins by reading its input twice."""
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)

        def forward(self, x):
            return self.head(torch.relu(self.conv(x) + x).mean((2, 3)))

    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval(), Residual().eval()


@pytest.fixture(scope="module")
def blocks(parts, samples):
    """Both parts, by precision; in int8 the second takes over the grid of the first."""
    first, second = export_block(parts[0], SHAPE), export_block(parts[1], (4, 8, 8), output_names=["logits"])
    features = run(first, samples)[0]
    made = {"fp32": (first, second)}
    for precision in ("fp16", "int8"):
        one = convert(first, precision, samples)
        made[precision] = (one, convert(second, precision, features, grid=output_grid(one)))
    return made


# int8 is computed in whole numbers; float sums depend on what the runtime fuses, and fp16 is float32 on most CPUs.
@pytest.mark.parametrize(("precision", "within"), [("fp32", 1e-5), ("fp16", 1e-3), ("int8", 0)])
def test_joined_blocks_give_what_they_give_one_by_one(blocks, samples, precision, within):
    first, second = blocks[precision]
    joined = join([first, second])
    onnx.checker.check_model(joined, full_check=True)
    (expected,) = run(second, run(first, samples)[0])
    np.testing.assert_allclose(run(joined, samples)[0], expected, rtol=0, atol=within)
    one = with_batch_of_one(joined)
    for index in range(5):
        got = run(one, samples[index : index + 1])[0]
        np.testing.assert_allclose(got, expected[index : index + 1], rtol=0, atol=within)


def test_the_way_out_of_a_precision_and_back_into_it_is_left_away(blocks):
    for precision, gone in (("int8", {"QuantizeLinear": 1, "DequantizeLinear": 1}), ("fp16", {"Cast": 2})):
        first, second = blocks[precision]
        before, after = operators(first) + operators(second), operators(join([first, second]))
        for operator in {*before, *after}:
            assert before.count(operator) - after.count(operator) == gone.get(operator, 0), operator


def test_between_different_grids_both_steps_stay(blocks):
    first, second = blocks["int8"]
    other = onnx.ModelProto()
    other.CopyFrom(second)
    for tensor in other.graph.initializer:
        if tensor.name == entry(second).input[1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.5), tensor.name))
    joined = join([first, other])
    assert len(joined.graph.node) == len(first.graph.node) + len(other.graph.node)


def test_inner_outputs_can_be_kept(blocks, samples):
    first, second = blocks["int8"]
    features, logits = run(join([first, second], keep_inner=True), samples)
    np.testing.assert_array_equal(features, run(first, samples)[0])
    np.testing.assert_array_equal(logits, run(second, features)[0])


def test_one_block_is_itself(blocks):
    assert join(blocks["fp32"][:1]) is blocks["fp32"][0]


@pytest.mark.parametrize("confidence", ["max-probability", "margin", "entropy"])
def test_a_gate_taken_off_and_put_back_decides_the_same(parts, samples, confidence):
    block = export_exit(nn.Sequential(*parts).eval(), Decision(Decider(build_confidence(confidence))), SHAPE, 5)
    body, decision = split_gate(block)
    assert [output.name for output in body.graph.output] == ["logits"]
    assert [output.name for output in decision.graph.output] == ["label", "confidence"]
    assert {"Conv", "Gemm"} <= set(operators(body))
    assert not {"Conv", "Gemm"} & set(operators(decision))
    assert not {"ArgMax", "Softmax", "LogSoftmax"} & set(operators(body))
    again = join([body, decision], keep_inner=True)
    for got, expected in zip(run(again, samples), run(block, samples), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("cascade", ["none", "inputs", "both"])
@pytest.mark.parametrize("confidence", ["one-vs-all", "patience", "ensemble"])
def test_an_exit_behind_another_comes_apart_as_well(samples, confidence, cascade):
    torch.manual_seed(0)
    linked = build_exit(BranchSpec("a", (PartSpec.of("conv", kernel=3),)), SHAPE, 5, cascade, first=False).eval()
    decider = Decider(build_confidence(confidence))
    block = export_exit(linked, Decision(decider, first=False, last=False), SHAPE, 5)
    body, decision = split_gate(block)
    assert [value.name for value in body.graph.input] == ["input"] + (["previous"] if cascade != "none" else [])
    assert [value.name for value in decision.graph.input][1:] == (["state"] if decider.measure.stateful else [])
    assert "ArgMax" not in operators(body)
    again = join([body, decision], keep_inner=True)
    assert {value.name for value in again.graph.input} == {value.name for value in block.graph.input}
    before = torch.randn(len(samples), 5, generator=torch.Generator().manual_seed(0))
    given = {"input": samples, "previous": before.numpy()}
    if decider.measure.stateful:
        given["state"] = decider(before)[2].numpy()
    expected, got = (run_by_name(each, given) for each in (block, again))
    assert list(expected) == list(got)
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


def run_by_name(block, given):
    session = ort.InferenceSession(block.SerializeToString(), providers=["CPUExecutionProvider"])
    taken = {value.name: given[value.name] for value in session.get_inputs()}
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, taken), strict=True))


def test_a_block_without_gate_has_none(blocks):
    for block in blocks["fp32"]:
        assert split_gate(block) == (block, None)


def test_the_grid_of_an_output_is_where_its_values_lie(blocks, samples):
    first, second = blocks["int8"]
    grid = output_grid(first)
    (features,) = run(first, samples)
    steps = features / np.float32(grid.scale) + grid.zero_point
    assert np.abs(steps - steps.round()).max() < 1e-3
    assert (steps.round().min(), steps.round().max()) == (0, 255)
    assert output_grid(second) is None  # logits
    assert output_grid(blocks["fp32"][0]) is None
    assert output_grid(blocks["fp16"][0]) is None


def test_a_second_block_takes_over_the_grid_that_it_is_given(blocks):
    first, second = blocks["int8"]
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in second.graph.initializer}
    assert Grid(float(values[entry(second).input[1]]), int(values[entry(second).input[2]])) == output_grid(first)


def graph(nodes, initializers=()):
    def info(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    return helper.make_graph(nodes, "g", [info("x")], [info("y")], initializer=initializers)


def test_nodes_are_put_in_an_order_that_runs():
    made = graph([helper.make_node("Neg", ["b"], ["y"]), helper.make_node("Abs", ["x"], ["b"])])
    sort_nodes(made)
    assert [node.op_type for node in made.node] == ["Abs", "Neg"]
    circle = graph([helper.make_node("Neg", ["y"], ["b"]), helper.make_node("Abs", ["b"], ["y"])])
    with pytest.raises(ValueError, match="circle"):
        sort_nodes(circle)


def test_what_no_node_needs_goes_and_what_an_inner_graph_needs_stays():
    inner = helper.make_graph(
        [helper.make_node("Identity", ["used_inside"], ["z"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])],
    )
    weights = [onnx.numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("used_inside", "unused")]
    weights.append(onnx.numpy_helper.from_array(np.ones((), bool), "yes"))
    node = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    lean = without_unused(helper.make_model(graph([node], weights), opset_imports=opsets))
    assert [tensor.name for tensor in lean.graph.initializer] == ["used_inside", "yes"]
    assert [entry.domain for entry in lean.opset_import] == [""]


def test_a_shape_that_an_export_left_open_can_be_written_in():
    block = export_block(nn.Upsample((6, 5), mode="bicubic"), SHAPE)
    assert [size.dim_value for size in block.graph.output[0].type.tensor_type.shape.dim] != [0, 3, 6, 5]
    set_output_shape(block, (3, 6, 5))
    sizes = block.graph.output[0].type.tensor_type.shape.dim
    assert [(size.dim_param, size.dim_value) for size in sizes] == [("batch", 0), ("", 3), ("", 6), ("", 5)]
