"""Putting ONNX blocks together and taking them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aebnas.export.ports import LOGITS


class Grid(NamedTuple):
    """The 256 values that an int8 tensor can have: ``scale * (q - zero_point)`` for q from 0 to 255."""

    scale: float
    zero_point: int


def renamed(graph: onnx.GraphProto, prefix: str, names: dict[str, str]) -> onnx.GraphProto:
    """Return a copy of ``graph`` with ``prefix`` before every name that is not in ``names``, which learns them all."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    del copy.value_info[:]
    for value in [*copy.input, *copy.initializer, *copy.output]:
        value.name = names.setdefault(value.name, prefix + value.name)
    for index, node in enumerate(copy.node):
        node.name = f"{prefix}{node.name or f'{node.op_type}_{index}'}"
        for side in (node.input, node.output):
            # An empty name stands for an optional input or output that is left out.
            side[:] = [names.setdefault(name, prefix + name) if name else name for name in side]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                attribute.g.CopyFrom(renamed(attribute.g, prefix, names))
    return copy


def merged_opsets(blocks: Sequence[onnx.ModelProto]) -> list[onnx.OperatorSetIdProto]:
    """Return the opsets that ``blocks`` need together; raises ValueError when two need different ones of a domain."""
    versions: dict[str, int] = {}
    for block in blocks:
        for entry in block.opset_import:
            if versions.setdefault(entry.domain, entry.version) != entry.version:
                raise ValueError(f"blocks were exported with different opsets of domain {entry.domain!r}")
    return [helper.make_opsetid(domain, version) for domain, version in versions.items()]


def join(blocks: Sequence[onnx.ModelProto], *, keep_inner: bool = False) -> onnx.ModelProto:
    """Return one block that runs ``blocks`` one after the other; each takes the first output of the one before.

    Where a block ends by leaving its precision and the next begins by entering the same again (the same grid, or
    fp16), both steps are left away: they change no value. What comes out is therefore what the blocks one by one
    give, however many of them are joined.

    Args:
        blocks: What a block takes beside its first input becomes an input of the whole, under its own name.
        keep_inner: The outputs of all blocks are outputs, not only those of the last.
    """
    if len(blocks) == 1:
        return blocks[0]
    graph = onnx.GraphProto(name="joined")
    graph.input.append(blocks[0].graph.input[0])
    seam, outputs = blocks[0].graph.input[0].name, []
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        first, *others = block.graph.input
        graph.input.extend(others)
        names = {first.name: seam} | {other.name: other.name for other in others}
        if last or keep_inner:
            names |= {output.name: output.name for output in block.graph.output}
        part = renamed(block.graph, f"part{number}/", names)
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        outputs += list(part.output) if last or keep_inner else []
        if number:
            _drop_round_trip(graph, seam, {output.name for output in outputs})
        seam = names[block.graph.output[0].name]
    graph.output.extend(outputs)
    return helper.make_model(
        graph,
        producer_name="aebnas",
        ir_version=max(block.ir_version for block in blocks),
        opset_imports=merged_opsets(blocks),
    )


def split_gate(block: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto | None]:
    """Take a gated exit apart: what computes the logits, and what makes label and confidence of them.

    Each takes, beside its first input, those others of the exit's that it needs. A block without gate comes back as it
    is, with None.
    """
    names = [output.name for output in block.graph.output]
    if LOGITS not in names or len(names) == 1:
        return block, None
    nodes = _with_one_name_for_logits(block.graph.node)
    logits = block.graph.output[names.index(LOGITS)]
    others = [output for output in block.graph.output if output.name != LOGITS]
    source, *extra = block.graph.input
    body = _needed(nodes, {LOGITS}, set())
    gate = _needed(nodes, {output.name for output in others}, {LOGITS})
    return (
        _part(block, body, [source, *_taken(body, extra)], [logits]),
        _part(block, gate, [logits, *_taken(gate, extra)], others),
    )


def with_batch_of_one(block: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``block`` whose inputs and outputs have a first dimension of 1 instead of a free one."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(block)
    del fixed.graph.value_info[:]
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return fixed


def sample_shape(block: onnx.ModelProto) -> tuple[int, ...]:
    """Return the shape, without the batch, of the first input of ``block``."""
    return tuple(size.dim_value for size in block.graph.input[0].type.tensor_type.shape.dim[1:])


def set_output_shape(block: onnx.ModelProto, shape: Sequence[int]) -> None:
    """Write the shape, without the batch, of the first output into ``block``: exporting leaves some sizes open."""
    for size, known in zip(block.graph.output[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        size.dim_value = known


def output_grid(block: onnx.ModelProto) -> Grid | None:
    """Return the grid that the first output of ``block`` lies on, None where it is not quantised."""
    producer = _producer(block.graph.node, block.graph.output[0].name)
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    return _grid(block.graph, producer)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes of ``graph`` into an order in which each comes after what it reads."""
    made = {name for node in graph.node for name in node.output}
    waiting, done = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if not made & _used([node])[0]]
        if not ready:
            raise ValueError("the graph has a circle")
        done += ready
        made -= {name for node in ready for name in node.output}
        waiting = [node for node in waiting if made & set(node.output)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in done]
    del graph.node[:]
    graph.node.extend(copies)


def without_unused(block: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``block`` without the initialisers and opset domains that no node of it needs."""
    lean = onnx.ModelProto()
    lean.CopyFrom(block)
    used, domains = _used(lean.graph.node)
    kept = [tensor for tensor in lean.graph.initializer if tensor.name in used]
    del lean.graph.initializer[:]
    lean.graph.initializer.extend(kept)
    opsets = [entry for entry in lean.opset_import if entry.domain in domains]
    del lean.opset_import[:]
    lean.opset_import.extend(opsets)
    return lean


def _used(nodes: Iterable[onnx.NodeProto]) -> tuple[set[str], set[str]]:
    """Return the names and the domains that ``nodes``, and the graphs inside them, use."""
    names, domains = set(), {""}
    for node in nodes:
        names |= set(node.input)
        domains.add(node.domain)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                inner_names, inner_domains = _used(attribute.g.node)
                names |= inner_names | {output.name for output in attribute.g.output}
                domains |= inner_domains
    return names, domains


def _with_one_name_for_logits(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return a copy of ``nodes`` without the steps before the logits that change nothing.

    A confidence casts the logits to float32, which they are; the label is taken from what it casts.
    """
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    while (last := _producer(copies, LOGITS)) is not None and last.op_type in ("Cast", "Identity"):
        copies.remove(last)
        for node in copies:
            for side in (node.input, node.output):
                side[:] = [LOGITS if name == last.input[0] else name for name in side]
    return copies


def _needed(nodes: Iterable[onnx.NodeProto], outputs: set[str], inputs: set[str]) -> list[onnx.NodeProto]:
    """Return those of ``nodes`` that compute ``outputs`` when ``inputs`` are given."""
    wanted, found = set(outputs), []
    for node in reversed(list(nodes)):
        if (wanted - inputs) & set(node.output):
            wanted |= _used([node])[0]
            found.append(node)
    return found[::-1]


def _taken(nodes: Iterable[onnx.NodeProto], inputs: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """Return those of ``inputs`` that ``nodes`` read."""
    used, _ = _used(nodes)
    return [given for given in inputs if given.name in used]


def _part(
    block: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, block.graph.name, inputs, outputs, initializer=block.graph.initializer)
    opsets = list(block.opset_import)
    return without_unused(helper.make_model(graph, ir_version=block.ir_version, opset_imports=opsets))


def _producer(nodes: Iterable[onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    return next((node for node in nodes if name in node.output), None)


def _drop_round_trip(graph: onnx.GraphProto, seam: str, outputs: set[str]) -> None:
    """Leave away what leads out of a precision and back into it at the tensor ``seam``."""
    leaving = _producer(graph.node, seam)
    if leaving is None:
        return
    entering = [node for node in graph.node if seam in node.input and _undoes(graph, node, leaving)]
    inside = leaving.input[0]
    for node in entering:
        graph.node.remove(node)
        for other in graph.node:
            other.input[:] = [inside if name == node.output[0] else name for name in other.input]
    if seam not in outputs and not any(seam in node.input for node in graph.node):
        graph.node.remove(leaving)


def _undoes(graph: onnx.GraphProto, entering: onnx.NodeProto, leaving: onnx.NodeProto) -> bool:
    kinds = (leaving.op_type, entering.op_type)
    if kinds == ("Cast", "Cast"):
        return _cast_to(leaving) == TensorProto.FLOAT and _cast_to(entering) == TensorProto.FLOAT16
    if kinds != ("DequantizeLinear", "QuantizeLinear"):
        return False
    return _grid(graph, entering) == _grid(graph, leaving)


def _cast_to(node: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")


def _grid(graph: onnx.GraphProto, node: onnx.NodeProto) -> Grid:
    values = {tensor.name: tensor for tensor in graph.initializer if tensor.name in node.input}
    scale, zero_point = (np.ravel(numpy_helper.to_array(values[name])) for name in node.input[1:3])
    return Grid(float(scale[0]), int(zero_point[0]))
