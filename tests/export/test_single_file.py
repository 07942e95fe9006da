from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from aebnas.export.single_file import OUTPUTS, Stage, assemble


def exit_block(trap: bool = False) -> onnx.ModelProto:
    """Logits = input; label 0; confidence = the first number. With a trap it fails as soon as it runs."""
    nodes = [
        helper.make_node("Identity", ["input"], ["logits"]),
        helper.make_node("ArgMax", ["input"], ["label"], axis=1, keepdims=0),
        helper.make_node("Gather", ["input", "column"], ["confidence"], axis=1),
    ]
    weights = [numpy_helper.from_array(np.array(0, np.int64), "column")]
    if trap:
        # The label of [x, -x] with x > 0 is 0, so row 0 + 7 is out of range; onnxruntime only sees it when it runs.
        nodes[2] = helper.make_node("Gather", ["input", "far"], ["picked"], axis=1)
        nodes += [
            helper.make_node("Add", ["label", "seven"], ["far"]),
            helper.make_node("Squeeze", ["picked", "one"], ["confidence"]),
        ]
        nodes = [nodes[0], nodes[1], nodes[3], nodes[2], nodes[4]]
        weights = [numpy_helper.from_array(np.array([7]), "seven"), numpy_helper.from_array(np.array([1]), "one")]
    outputs = [("logits", TensorProto.FLOAT, [1, 2]), ("label", TensorProto.INT64, [1]), ("confidence", 1, [1])]
    return model(nodes, [helper.make_tensor_value_info(*output) for output in outputs], weights)


def segment_block(weight: float) -> onnx.ModelProto:
    nodes = [helper.make_node("Mul", ["input", "weight"], ["output"], name="scale")]
    weights = [numpy_helper.from_array(np.full((1, 2), weight, np.float32), "weight")]
    return model(nodes, [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2])], weights)


def model(nodes, outputs, weights) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "block", inputs, outputs, initializer=weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def run(proto: onnx.ModelProto, value: float) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options)
    return dict(
        zip(OUTPUTS, session.run(list(OUTPUTS), {"input": np.array([[value, -value]], np.float32)}), strict=True)
    )


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def else_branch(graph: onnx.GraphProto) -> onnx.GraphProto:
    node = next(node for node in graph.node if node.op_type == "If")
    return next(attribute.g for attribute in node.attribute if attribute.name == "else_branch")


def test_each_exit_is_taken_in_turn():
    # Confidence is input * 2 at exit 0 and input * 2 * 3 at exit 1.
    stages = [Stage(segment_block(2), exit_block(), 8.0), Stage(segment_block(3), exit_block(), 6.0)]
    proto = assemble(stages, exit_block())
    assert [run(proto, value)["exit"].item() for value in (4.0, 1.0, 0.5)] == [0, 1, 2]
    assert run(proto, 1.0)["logits"].tolist() == [[6.0, -6.0]]
    assert run(proto, 0.5)["confidence"].tolist() == [3.0]
    assert run(proto, -1.0)["label"].tolist() == [1]


@pytest.mark.parametrize("branches", [0, 1, 2, 3])
def test_outputs_have_the_promised_types_and_shapes(branches):
    proto = assemble([Stage(segment_block(1), exit_block(), 9.0)] * branches, exit_block())
    result = run(proto, 1.0)
    assert {name: (value.dtype.name, value.shape) for name, value in result.items()} == {
        "label": ("int64", (1,)),
        "exit": ("int64", (1,)),
        "confidence": ("float32", (1,)),
        "logits": ("float32", (1, 2)),
    }
    assert result["exit"].item() == branches


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9])
def test_the_threshold_is_compared_in_float32(threshold):
    at = np.float32(threshold)
    proto = assemble([Stage(segment_block(1), exit_block(), float(at))], exit_block())
    assert run(proto, at)["exit"].item() == 0
    assert run(proto, np.nextafter(at, np.float32(0)))["exit"].item() == 1


@pytest.mark.parametrize("per_class", [(3.0, 0.5), (None, 0.5), np.array([np.inf, 0.5], np.float32)])
def test_the_threshold_may_depend_on_the_predicted_class(per_class):
    # Confidence is the input, and so is the label: class 0 for positive ones. Of class 1 none is sure enough...
    proto = assemble([Stage(segment_block(1), exit_block(), per_class)], exit_block())
    assert [run(proto, value)["exit"].item() for value in (2.0, -2.0)] == [1, 1]
    assert run(proto, 3.0)["exit"].item() == (0 if per_class[0] == 3.0 else 1)
    # ... unless all that is asked of it is to be what it is.
    proto = assemble([Stage(segment_block(1), exit_block(), (per_class[0], -2.0))], exit_block())
    assert [run(proto, value)["exit"].item() for value in (-2.0, -3.0)] == [0, 1]


def hearing_block(*heard: str) -> onnx.ModelProto:
    """Logits = input + all that is heard; hands on its logits and, as its state, ten times as much."""
    block = exit_block()
    del block.graph.node[0]
    names = ["input", *heard]
    block.graph.node.append(helper.make_node("Sum", names, ["logits"]))
    block.graph.node.append(helper.make_node("Mul", ["logits", "ten"], ["next_state"]))
    block.graph.initializer.append(numpy_helper.from_array(np.array(10, np.float32), "ten"))
    block.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in heard)
    block.graph.output.append(helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [1, 2]))
    return block


@pytest.mark.parametrize(
    ("heard", "logits"),
    [
        # 1, then 1 + 1, then 1 + 2.
        (["previous"], 3.0),
        # 1, then 1 + 10, then 1 + 110.
        (["state"], 111.0),
        # 1, then 1 + 1 + 10, then 1 + 12 + 120; in any order.
        (["state", "previous"], 133.0),
    ],
)
def test_an_exit_takes_what_the_one_before_it_hands_on(heard, logits):
    stages = [Stage(segment_block(1), block, 99.0) for block in (hearing_block(), hearing_block(*heard))]
    assert run(assemble(stages, hearing_block(*heard)), 1.0)["logits"].tolist() == [[logits, -logits]]


def test_an_exit_that_takes_what_nobody_hands_on_is_refused():
    with pytest.raises(ValueError, match=r"branch_0/ takes previous, state, which no exit before it gives"):
        assemble([Stage(segment_block(1), hearing_block("state", "previous"), 0.5)], exit_block())
    with pytest.raises(ValueError, match="final/ takes state"):
        assemble([Stage(segment_block(1), exit_block(), 0.5)], hearing_block("state"))


def test_a_confidence_that_is_not_a_number_goes_on():
    proto = assemble([Stage(segment_block(1), exit_block(), 0.5)], exit_block())
    assert run(proto, float("nan"))["exit"].item() == 1


def test_weights_lie_in_the_graph_that_uses_them():
    stages = [Stage(segment_block(k + 2), exit_block(), 0.5) for k in range(3)]
    graph = assemble(stages, segment_and_exit()).graph
    for number in range(4):
        weights = {tensor.name.split("/")[0] for tensor in graph.initializer}
        expected = {f"segment_{number}", f"branch_{number}", f"gate_{number}"} if number < 3 else {"final"}
        assert weights == expected
        if number < 3:
            graph = else_branch(graph)


def segment_and_exit() -> onnx.ModelProto:
    final = exit_block()
    final.graph.node[0].CopyFrom(helper.make_node("Mul", ["input", "weight"], ["logits"]))
    final.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "weight"))
    return final


def test_names_are_unique_over_all_graphs():
    stages = [Stage(segment_block(2), exit_block(), 0.5)] * 3
    every = list(graphs(assemble(stages, exit_block()).graph))
    values = [name for graph in every for node in graph.node for name in node.output]
    values += [tensor.name for graph in every for tensor in graph.initializer]
    nodes = [node.name for graph in every for node in graph.node]
    assert len(every) == 7
    assert len(set(values)) == len(values) and len(set(nodes)) == len(nodes)


def test_what_lies_behind_an_exit_is_not_run():
    proto = assemble([Stage(segment_block(1), exit_block(), 2.0)], exit_block(trap=True))
    assert run(proto, 3.0)["exit"].item() == 0
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of"):
        run(proto, 1.0)


@pytest.mark.parametrize(("value", "segments"), [(3.0, {0}), (1.0, {0, 1}), (0.1, {0, 1, 2})])
def test_the_profiler_sees_no_node_behind_the_exit_that_is_taken(tmp_path, value, segments):
    stages = [Stage(segment_block(1), exit_block(), threshold) for threshold in (2.0, 1.0, 0.5)]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = ort.InferenceSession(assemble(stages, exit_block()).SerializeToString(), options)
    session.run(["exit"], {"input": np.array([[value, -value]], np.float32)})
    events = {event["name"] for event in json.loads(Path(session.end_profiling()).read_text())}
    ran = {number for number in range(3) if any(name.startswith(f"segment_{number}/scale") for name in events)}
    assert ran == segments
    assert any(name.startswith("final/") for name in events) == (value == 0.1)


def test_blocks_of_different_opsets_are_refused():
    other = exit_block()
    other.opset_import[0].version = 16
    with pytest.raises(ValueError, match="different opsets"):
        assemble([Stage(segment_block(1), exit_block(), 0.5)], other)


def test_a_block_with_its_own_control_flow_keeps_its_names_apart():
    inner = helper.make_graph(
        [helper.make_node("Mul", ["input", "weight"], ["inner"])],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 2])],
        initializer=[numpy_helper.from_array(np.full((1, 2), 2, np.float32), "weight")],
    )
    other = onnx.GraphProto()
    other.CopyFrom(inner)
    other.node[0].output[0] = other.output[0].name = "other"
    other.initializer[0].name = other.node[0].input[1] = "other_weight"
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["output"], then_branch=inner, else_branch=other),
    ]
    block = model(nodes, [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 2])], [])
    proto = assemble([Stage(block, exit_block(), 99.0)] * 2, exit_block())
    assert run(proto, 1.0)["logits"].tolist() == [[4.0, -4.0]]
