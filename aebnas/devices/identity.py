"""The block that computes nothing: what it takes is the overhead of one run."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto, helper


def identity_model(shape: Sequence[int]) -> bytes:
    """Return a serialised ONNX model that copies a float32 tensor of ``shape`` (without the batch), batch 1."""
    dimensions = [1, *shape]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["output"], name="Identity")],
        "identity",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, dimensions)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, dimensions)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString(deterministic=True))
