"""The logits of the first exits, and how the gradients of several exits meet in what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from aebnas.branches.linked import LinkedBranch
from aebnas.network import EarlyExitNetwork

GradientRule = Literal["sum", "equilibrium", "boostnet"]


class _Scaled(torch.autograd.Function):
    """The same tensor, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def with_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` itself, bit for bit, whose gradient is multiplied by ``factor`` on its way back."""
    if factor == 1:
        return x
    scaled: Tensor = _Scaled.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


def factors(rule: GradientRule, exit_: int, exits: int) -> tuple[float, float]:
    """Return what the gradients of exit ``exit_`` (from 0) and of all later ones are multiplied by where they meet.

    Gradient equilibrium (IMTA, arXiv 1908.06294) multiplies the own gradient of exit e of E, from 1, by 1 / (E-e+1)
    and what comes from later exits by (E-e) / (E-e+1). BoostNet (arXiv 2211.16726) gives what leads to exit n of N the
    sum of the gradients of exits n to N times 1 / (N-n+1). Multiplied out along the network, the first is the second:
    both give every segment the *mean* gradient of the exits behind it. They are two names of one rule here; BoostNet's
    other half, exits that add to the logits of those before, is the ensemble of a cascade.
    """
    left = exits - exit_  # this exit and those behind it
    return (1.0, 1.0) if rule == "sum" else (1 / left, (left - 1) / left)


def first_exits(network: EarlyExitNetwork, count: int, rule: GradientRule = "sum") -> Callable[[Tensor], list[Tensor]]:
    """Return a function from images to the logits of the first ``count`` exits; what lies behind them does not run."""
    segments, branches = network.parts()
    exits = len(branches) + 1

    def logits(images: Tensor) -> list[Tensor]:
        here, said = images, list[Tensor]()
        for exit_, segment in enumerate(segments[:count]):
            here = segment(here)
            if exit_ == len(branches):
                return [*said, here]
            own, onward = factors(rule, exit_, exits)
            branch, features = branches[exit_], with_gradient(here, own)
            said.append(branch(features, said[-1]) if isinstance(branch, LinkedBranch) else branch(features))
            here = with_gradient(here, onward)
        return said

    return logits
