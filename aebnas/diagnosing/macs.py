"""Multiply-accumulates of an exported block: its convolutions and matrix products."""

from __future__ import annotations

import math

import numpy as np
import onnx

from aebnas.devices.target.session import RUNTIME_ERRORS, open_session
from aebnas.errors import RunError

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Shape = tuple[int, ...]


def block_macs(block: bytes, name: str) -> int:
    """Return the MACs of ``block`` for one sample.

    Shapes are those of one run: an exporter leaves some open, and inference stops at operators that it does not know.
    A batch-norm is part of its convolution here, so figures are a little lower than those of the search.

    Args:
        name: Of its file, for the error.

    Raises:
        RunError: onnxruntime cannot run the block.
    """
    model = onnx.load_from_string(block)
    products = [node for node in model.graph.node if node.op_type in _PRODUCTS]
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    outputs = {output.name for output in model.graph.output}
    asked = {name for node in products for name in (*node.input[:2], node.output[0])} - set(known)
    inputs = {port.name: np.zeros(_sizes(port), np.float32) for port in model.graph.input}
    model.graph.output.extend(onnx.ValueInfoProto(name=one) for one in sorted(asked - outputs - set(inputs)))
    wanted = sorted(asked - set(inputs))
    try:
        session = open_session(model.SerializeToString(), threads=1)
        values = session.run(wanted, inputs) if wanted else []
    except RUNTIME_ERRORS as error:
        raise RunError(f"{name} cannot be run ({str(error).splitlines()[0]}): export the network again") from error
    shapes = known | {one: value.shape for one, value in inputs.items()}
    shapes |= {one: np.shape(value) for one, value in zip(wanted, values, strict=True)}
    return sum(_macs(node, shapes) for node in products)


def _macs(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    left, right, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        # Weights are (outputs, inputs / groups, ...): one of them per element of a filter.
        return math.prod(output) * math.prod(right[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * (left[0] if transposed else left[-1])


def _sizes(port: onnx.ValueInfoProto) -> Shape:
    """Return the shape of an input, with a batch of 1."""
    return tuple(size.dim_value or 1 for size in port.type.tensor_type.shape.dim)
