from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aebnas.devices.canonical import canonical_graph


def block(*, prefix="", weight=1.0, axes=(1,), width=4, operator="Mul", swap=False, note="") -> bytes:
    names = {name: prefix + name for name in ("input", "weight", "axes", "scaled", "output", "scale", "squeeze")}
    nodes = [
        helper.make_node(operator, [names["input"], names["weight"]], [names["scaled"]], name=names["scale"]),
        helper.make_node("ReduceSum", [names["scaled"], names["axes"]], [names["output"]], keepdims=0, doc_string=note),
    ]
    weights = [
        numpy_helper.from_array(np.full((1, width), weight, np.float32), names["weight"]),
        numpy_helper.from_array(np.array(axes, np.int64), names["axes"]),
    ]
    graph = helper.make_graph(
        nodes,
        prefix + "graph",
        [helper.make_tensor_value_info(names["input"], TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(names["output"], TensorProto.FLOAT, None)],
        initializer=weights[::-1] if swap else weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize("change", [{"prefix": "x"}, {"weight": 3.0}, {"swap": True}, {"note": "from line 7"}])
def test_what_does_not_change_the_latency_does_not_change_the_graph(change):
    assert canonical_graph(block(**change)) == canonical_graph(block())


@pytest.mark.parametrize("change", [{"axes": (0,)}, {"width": 5}, {"operator": "Add"}])
def test_what_changes_the_latency_changes_the_graph(change):
    assert canonical_graph(block(**change)) != canonical_graph(block())


def quantised(value: int, kind: type[np.generic]) -> bytes:
    weight = numpy_helper.from_array(np.full((1, 4), value, kind), "weight")
    element = weight.data_type
    graph = helper.make_graph(
        [helper.make_node("Add", ["input", "weight"], ["output"])],
        "quantised",
        [helper.make_tensor_value_info("input", element, [1, 4])],
        [helper.make_tensor_value_info("output", element, [1, 4])],
        initializer=[weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_quantised_weights_are_weights_too(kind):
    assert canonical_graph(quantised(1, kind)) == canonical_graph(quantised(2, kind))


def test_the_type_of_weights_counts():
    graphs = {canonical_graph(quantised(1, kind)) for kind in (np.int8, np.uint8, np.int32, np.int64)}
    assert len(graphs) == 4
    assert canonical_graph(quantised(1, np.int64)) != canonical_graph(quantised(2, np.int64))


def nested(weight: float, name: str) -> bytes:
    inner = [
        helper.make_graph(
            [helper.make_node("Mul", ["input", f"{name}_{side}"], [f"{side}_out"])],
            f"{name}_{side}_graph",
            [],
            [helper.make_tensor_value_info(f"{side}_out", TensorProto.FLOAT, [1, 2])],
            initializer=[numpy_helper.from_array(np.full((1, 2), weight, np.float32), f"{name}_{side}")],
        )
        for side in ("left", "right")
    ]
    yes = numpy_helper.from_array(np.array(True))
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=yes),
        helper.make_node("If", ["yes"], ["output"], then_branch=inner[0], else_branch=inner[1]),
    ]
    values = [helper.make_tensor_value_info(side, TensorProto.FLOAT, [1, 2]) for side in ("input", "output")]
    return helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:])).SerializeToString()


def test_graphs_inside_nodes_are_made_bare_too():
    assert canonical_graph(nested(1.0, "a")) == canonical_graph(nested(2.0, "b"))
    assert canonical_graph(nested(1.0, "a")) != canonical_graph(block())


def test_the_model_itself_is_left_alone():
    model = block()
    canonical_graph(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(model).graph.initializer}
    assert weights["weight"].tolist() == [[1.0] * 4]
