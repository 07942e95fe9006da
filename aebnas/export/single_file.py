"""One ONNX graph that exits early: nested ``If`` nodes around blocks that were exported one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from aebnas.exits.bars import bars
from aebnas.export.graphs import merged_opsets, renamed
from aebnas.export.ports import CONFIDENCE, EXIT, INPUT, LABEL, LOGITS, NEXT_STATE, PREVIOUS, STATE

OUTPUTS = (LABEL, EXIT, CONFIDENCE, LOGITS)


def threshold_name(number: int) -> str:
    """Return what the threshold of early exit ``number`` is called in an assembled model."""
    return f"gate_{number}/threshold"


@dataclass(frozen=True)
class Stage:
    """One early exit: the segment that leads to it, its gated branch and the threshold to leave at it.

    Both blocks are exported with batch 1. ``segment`` has one input and one output; ``branch`` takes the features and,
    of the exit before, its logits as ``previous`` and its state as ``state`` if it has inputs of these names; it gives
    ``logits``, ``label``, ``confidence`` and, if there is one, ``next_state``. ``threshold`` is a number, or has one
    for every predicted class, float32 (C,) or with None for a class that never leaves.
    """

    segment: onnx.ModelProto
    branch: onnx.ModelProto
    threshold: float | Sequence[float | None] | npt.NDArray[np.float32]


@dataclass
class _Body:
    """The inside of one graph while it grows; ``classes`` is None when the blocks leave the logits' width open."""

    classes: int | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def inline(self, block: onnx.ModelProto, prefix: str, source: str, heard: Mapping[str, str]) -> dict[str, str]:
        """Copy ``block`` in, reading ``source`` and what it takes of ``heard``; return how its outputs are called."""
        first, *others = (given.name for given in block.graph.input)
        missing = set(others) - set(heard)
        if missing:
            raise ValueError(f"the block {prefix} takes {', '.join(sorted(missing))}, which no exit before it gives")
        names = {first: source} | {name: heard[name] for name in others}
        part = renamed(block.graph, prefix, names)
        self.nodes.extend(part.node)
        self.weights.extend(part.initializer)
        return {output.name: names[output.name] for output in block.graph.output}

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{output}/{operator}", **attributes))

    def graph(self, name: str, outputs: Sequence[str]) -> onnx.GraphProto:
        """Close the graph; ``outputs`` name what ``OUTPUTS`` lists."""
        kinds: list[tuple[int, list[int | None]]] = [
            (TensorProto.INT64, [1]),
            (TensorProto.INT64, [1]),
            (TensorProto.FLOAT, [1]),
            (TensorProto.FLOAT, [1, self.classes]),
        ]
        described = [helper.make_tensor_value_info(name, *kind) for name, kind in zip(outputs, kinds, strict=True)]
        return helper.make_graph(self.nodes, name, [], described, initializer=self.weights)


def assemble(stages: Sequence[Stage], final: onnx.ModelProto) -> onnx.ModelProto:
    """Assemble a model that runs ``stages`` in turn, leaves at the first that is sure, and else runs ``final``.

    What lies behind an exit is inside that exit's ``If``, weights included, so that onnxruntime neither runs it
    before it is needed nor keeps its weights from being pre-packed. A stage is left when its confidence is at least
    its threshold, compared in float32.

    Args:
        stages: The early exits in order; may be empty.
        final: The last segment, gated like a branch, exported with batch 1.

    Returns:
        A checked model: ``input`` float32 (1, ...) -> ``label`` int64 (1,), ``exit`` int64 (1,) numbered from 0 with
        the final exit last, ``confidence`` float32 (1,), ``logits`` float32 (1, C).
    """
    first = stages[0].segment if stages else final
    body = _Body(final.graph.output[0].type.tensor_type.shape.dim[1].dim_value or None)
    outputs = _level(body, stages, final, 0, INPUT, {})
    entry = onnx.ValueInfoProto()
    entry.CopyFrom(first.graph.input[0])
    entry.name = INPUT
    for name, output in zip(OUTPUTS, outputs, strict=True):
        if output != name:
            body.add("Identity", [output], name)
    graph = body.graph("early_exit", OUTPUTS)
    graph.input.append(entry)
    blocks = [block for stage in stages for block in (stage.segment, stage.branch)] + [final]
    model = helper.make_model(
        graph,
        producer_name="aebnas",
        ir_version=max(block.ir_version for block in blocks),
        opset_imports=merged_opsets(blocks),
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _level(
    body: _Body, stages: Sequence[Stage], final: onnx.ModelProto, number: int, source: str, heard: Mapping[str, str]
) -> list[str]:
    """Write exit ``number`` and all behind it into ``body``; return the names of the four outputs, in order.

    ``heard`` says how that is called what the exit takes of the exit before it.
    """
    if number == len(stages):
        said = body.inline(final, "final/", source, heard)
        body.add("Constant", [], "final/exit", value=_exit_number(number))
        return [said[LABEL], "final/exit", said[CONFIDENCE], said[LOGITS]]
    stage = stages[number]
    (features,) = body.inline(stage.segment, f"segment_{number}/", source, {}).values()
    said = body.inline(stage.branch, f"branch_{number}/", features, heard)
    sure = f"gate_{number}/sure"
    body.add("GreaterOrEqual", [said[CONFIDENCE], _bar(body, stage, number, said[LABEL])], sure)

    leave = _Body(body.classes)
    left = [f"leave_{number}/{name}" for name in OUTPUTS]
    leave.add("Identity", [said[LABEL]], left[0])
    leave.add("Constant", [], left[1], value=_exit_number(number))
    leave.add("Identity", [said[CONFIDENCE]], left[2])
    leave.add("Identity", [said[LOGITS]], left[3])

    go_on = _Body(body.classes)
    # What lies inside an If reads what lies around it by its name.
    told = {PREVIOUS: said[LOGITS]} | ({STATE: said[NEXT_STATE]} if NEXT_STATE in said else {})
    inner = _level(go_on, stages, final, number + 1, features, told)

    # The outermost If gives the model's own outputs, so that no copies are needed behind it.
    outputs = [f"gate_{number}/{name}" if number else name for name in OUTPUTS]
    body.nodes.append(
        helper.make_node(
            "If",
            [sure],
            outputs,
            name=f"gate_{number}/If",
            then_branch=leave.graph(f"leave_{number}", left),
            else_branch=go_on.graph(f"go_on_{number}", inner),
        )
    )
    return outputs


def _bar(body: _Body, stage: Stage, number: int, label: str) -> str:
    """Write the threshold of ``stage``, or the choice among those of its classes; return what it is called."""
    name, threshold = threshold_name(number), stage.threshold
    values = threshold if isinstance(threshold, np.ndarray) else bars(threshold)
    body.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
    if not values.ndim:
        return name
    body.add("Gather", [name, label], f"gate_{number}/bar", axis=0)
    return f"gate_{number}/bar"


def _exit_number(number: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([number], dtype=np.int64))
