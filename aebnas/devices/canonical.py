"""The part of an ONNX block that its latency depends on."""

from __future__ import annotations

import onnx
from onnx import TensorProto

# int8, uint8 and int32 are weights, zero points and biases of quantised blocks.
_WEIGHTS = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
)


def canonical_graph(model: bytes) -> bytes:
    """Return ``model`` with names replaced by numbers and weights, float or quantised, by their shapes.

    Two blocks of one architecture get the same bytes, however they were trained and whatever their tensors are
    called. Tensors of int64 keep their values, for they hold shapes, axes and pads.
    """
    proto = onnx.load_from_string(model)
    opsets = sorted((entry.domain, entry.version) for entry in proto.opset_import)
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opsets)
    bare.graph.CopyFrom(_bare_graph(proto.graph, {}))
    return bytes(bare.SerializeToString(deterministic=True))


def _bare_graph(graph: onnx.GraphProto, names: dict[str, str]) -> onnx.GraphProto:
    bare = onnx.GraphProto()
    bare.CopyFrom(graph)
    bare.name = bare.doc_string = ""
    del bare.value_info[:], bare.metadata_props[:]
    for value in bare.input:
        value.name = _number(value.name, names)
    for node in bare.node:
        node.name = node.doc_string = ""
        del node.metadata_props[:]
        for side in (node.input, node.output):
            side[:] = [_number(name, names) if name else name for name in side]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                attribute.g.CopyFrom(_bare_graph(attribute.g, names))
            elif attribute.type == onnx.AttributeProto.TENSOR:
                _drop_weights(attribute.t)
    for tensor in bare.initializer:
        tensor.name = _number(tensor.name, names)
        _drop_weights(tensor)
    # The order of initialisers says nothing; their new names follow the nodes that read them.
    ordered = sorted(bare.initializer, key=lambda tensor: int(tensor.name))
    del bare.initializer[:]
    bare.initializer.extend(ordered)
    for value in bare.output:
        value.name = _number(value.name, names)
    return bare


def _number(name: str, names: dict[str, str]) -> str:
    return names.setdefault(name, str(len(names)))


def _drop_weights(tensor: onnx.TensorProto) -> None:
    tensor.doc_string = ""
    if tensor.data_type in _WEIGHTS:
        for field in ("raw_data", "float_data", "double_data", "int32_data"):
            tensor.ClearField(field)
