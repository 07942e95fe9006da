"""Blocks in another precision than fp32 as they are timed: the very ones that are deployed, where they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from torch import nn

from aebnas.costs.blocks import Block
from aebnas.exits.decision import Decider
from aebnas.export.blocks import export_block, output_shape
from aebnas.export.deployed import Chain
from aebnas.export.gate import Decision, export_decision, hears
from aebnas.export.graphs import join, set_output_shape, with_batch_of_one
from aebnas.export.ports import LOGITS
from aebnas.export.precision import convert_for_timing, refuse_cascade


def timed_exporter(chain: Chain, segments: Sequence[nn.Module], decider: Decider) -> Callable[[Block], onnx.ModelProto]:
    """Return what writes a block as ONNX in the precision of ``chain`` and at batch 1, gated in float32 if it is gated.

    Args:
        chain: The frozen backbone, deployed.
        segments: Its modules, as blocks name them; a part that is none of them is a branch, whose weights do not
            matter.

    Raises:
        BackboneError: a part cannot be converted, or a branch is cascaded.
    """
    places = {id(segment): number for number, segment in enumerate(segments)}

    def export(block: Block) -> onnx.ModelProto:
        numbers = [places[id(part)] for part in block.parts if id(part) in places]
        others = block.parts[len(numbers) :]
        row = [chain.span(numbers[0], numbers[-1] + 1)] if numbers else []
        if others:
            shape = block.shape
            for part in block.parts[: len(numbers)]:
                shape = output_shape(part, shape)
            branch = nn.Sequential(*others)
            if hears(branch):
                raise refuse_cascade(chain.precision)
            grid = chain.grid(numbers[-1]) if numbers else None
            exported = export_block(branch, shape, output_names=[LOGITS])
            row.append(convert_for_timing(exported, chain.precision, grid))
            set_output_shape(row[-1], output_shape(branch, shape))
        made = join(row)
        if block.gated:
            classes = made.graph.output[0].type.tensor_type.shape.dim[1].dim_value
            decision = Decision(decider, first=block.classes_before is None, last=block.last)
            made = join([made, export_decision(decision, classes)], keep_inner=True)
        return with_batch_of_one(made)

    return export
