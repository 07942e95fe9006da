"""A fixed small network: what it takes says how fast the machine is at the moment."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

# About 12 million MACs in 0.1 to 0.2 ms on a core of a server. Never to be changed: every measurement that is kept is
# told in units of it.
_CHANNELS, _SIZE, _CLASSES = 32, 32, 10


def yardstick_model() -> bytes:
    """Return the serialised ONNX model: convolutions, a depthwise one, pooling and a classifier, float32, batch 1."""
    rng = np.random.RandomState(0)
    weights: dict[str, np.ndarray] = {
        "first": rng.standard_normal((_CHANNELS, 8, 3, 3)),
        "depthwise": rng.standard_normal((_CHANNELS, 1, 3, 3)),
        "second": rng.standard_normal((_CHANNELS, _CHANNELS, 3, 3)),
        "classifier": rng.standard_normal((_CHANNELS, _CLASSES)),
    }
    nodes = [
        _convolution("input", "first", "a"),
        helper.make_node("Relu", ["a"], ["b"]),
        _convolution("b", "depthwise", "c", group=_CHANNELS),
        helper.make_node("Relu", ["c"], ["d"]),
        _convolution("d", "second", "e"),
        helper.make_node("Add", ["b", "e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "classifier"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "yardstick",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 8, _SIZE, _SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, _CLASSES])],
        initializer=[numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString(deterministic=True))


def _convolution(source: str, weight: str, result: str, group: int = 1) -> NodeProto:
    return helper.make_node("Conv", [source, weight], [result], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=group)
