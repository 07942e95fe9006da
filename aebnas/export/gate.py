"""An exit and its decision, as one graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from torch import Tensor, nn

from aebnas.branches.linked import LinkedBranch
from aebnas.exits.decision import Decider
from aebnas.export.blocks import export_block
from aebnas.export.ports import CONFIDENCE, INPUT, LABEL, LOGITS, NEXT_STATE, PREVIOUS, STATE


class Decision(nn.Module):
    """The decision of one exit, at its place among the exits that run.

    Args:
        decider: Of the network.
        first: No exit runs before it, so that there is no state to take.
        last: No exit runs behind it, so that there is none to hand on.
    """

    def __init__(self, decider: Decider, *, first: bool = True, last: bool = True) -> None:
        super().__init__()
        stateful = decider.measure.stateful
        self.decider = decider
        self.inputs: tuple[str, ...] = (LOGITS, STATE) if stateful and not first else (LOGITS,)
        self.outputs: tuple[str, ...] = (
            (LABEL, CONFIDENCE, NEXT_STATE) if stateful and not last else (LABEL, CONFIDENCE)
        )

    def forward(self, logits: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return what ``outputs`` names, from what ``inputs`` names."""
        decided: tuple[Tensor, ...] = self.decider(logits, state)
        return decided[: len(self.outputs)]


class GatedExit(nn.Module):
    """An exit with its decision: its logits (N, C), and what the decision says of them.

    Args:
        exit_module: Makes logits of features. A :class:`LinkedBranch`, or a row of modules that ends in one, is given
            the logits of the exit before as well.
        decision: Made of the logits.
    """

    def __init__(self, exit_module: nn.Module, decision: Decision) -> None:
        super().__init__()
        self.exit, self.decision = exit_module, decision
        self.inputs = (INPUT, *([PREVIOUS] if hears(exit_module) else []), *decision.inputs[1:])
        self.outputs = (LOGITS, *decision.outputs)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return what ``outputs`` names, from what ``inputs`` names."""
        taken = dict(zip(self.inputs, given, strict=True))
        logits = _logits(self.exit, taken[INPUT], taken.get(PREVIOUS))
        return (logits, *self.decision(logits, taken.get(STATE)))


def hears(exit_module: nn.Module) -> bool:
    """Tell whether an exit takes the logits of the exit before: it is a cascaded branch, or a row that ends in one."""
    if isinstance(exit_module, nn.Sequential) and len(exit_module):
        return hears(exit_module[-1])
    return isinstance(exit_module, LinkedBranch)


def export_exit(
    exit_module: nn.Module, decision: Decision, shape: Sequence[int], classes: int, *, dynamic_batch: bool = True
) -> onnx.ModelProto:
    """Write an exit with its decision as one block, whose inputs and outputs :mod:`aebnas.export.ports` names.

    Args:
        exit_module: As :class:`GatedExit` takes it.
        decision: Made of the logits.
        shape: Of one sample of the features.
        classes: Width of the logits, here and at the exit before.
        dynamic_batch: The batch is free; else it is 1.

    Raises:
        BackboneError: the exit uses an operation that ONNX does not have.
    """
    gated = GatedExit(exit_module, decision)
    shapes = {INPUT: tuple(shape), PREVIOUS: (classes,), STATE: (decision.decider.measure.state_size(classes),)}
    return export_block(
        gated,
        [shapes[name] for name in gated.inputs],
        input_names=gated.inputs,
        output_names=gated.outputs,
        dynamic_batch=dynamic_batch,
    )


def export_decision(decision: Decision, classes: int) -> onnx.ModelProto:
    """Write a decision alone, to stand behind an exit that is a block already; its batch is free."""
    shapes = {LOGITS: (classes,), STATE: (decision.decider.measure.state_size(classes),)}
    return export_block(
        decision,
        [shapes[name] for name in decision.inputs],
        input_names=decision.inputs,
        output_names=decision.outputs,
    )


def _logits(exit_module: nn.Module, features: Tensor, previous: Tensor | None) -> Tensor:
    if not hears(exit_module):
        logits: Tensor = exit_module(features)
        return logits
    if isinstance(exit_module, nn.Sequential):
        *before, last = exit_module
        return _logits(last, nn.Sequential(*before)(features), previous)
    if previous is None:
        raise ValueError("a cascaded branch stands first: nothing was said before it")
    heard: Tensor = exit_module(features, previous)
    return heard
