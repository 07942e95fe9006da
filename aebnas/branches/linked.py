"""Branches that hear what the exit before them said: cascade inputs and geometric ensembles (ZTW, arXiv 2106.05409)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebnas.branches.build import Branch, build_branch
from aebnas.branches.layers import Shape
from aebnas.branches.spec import BranchSpec

Cascade = Literal["none", "inputs", "ensemble", "both"]
CASCADES: tuple[Cascade, ...] = ("none", "inputs", "ensemble", "both")


class LinkedBranch(nn.Module):
    """A branch that is given the logits of the exit before it as well.

    ``inputs``: a linear map of that exit's probabilities is added to its logits, which is the same as handing them to
    its last linear layer beside the features. ``ensemble``: its answer is the weighted geometric mean of its own
    probabilities and those of the exit before, which may be an ensemble itself; both weights are learned and positive,
    and there is one pair per exit where ZTW has a weight for every earlier exit (our variant: what is handed on keeps
    its width). Gradients do not flow into the exit before.

    Args:
        branch: Makes logits (N, C) of the features at its attach point.
        classes: C.
        cascade: What the link does; not ``none``.
    """

    def __init__(self, branch: Branch, classes: int, cascade: Cascade) -> None:
        super().__init__()
        self.branch = branch
        self.cascade = cascade
        self.inputs = nn.Linear(classes, classes, bias=False) if cascade in ("inputs", "both") else None
        if self.inputs is not None:
            # At first the branch says what it would say alone.
            nn.init.zeros_(self.inputs.weight)
        # softplus of this is 1/2: the plain geometric mean.
        weights = torch.full((2,), math.log(math.expm1(0.5)))
        self.weights = nn.Parameter(weights) if cascade in ("ensemble", "both") else None

    @property
    def spec(self) -> BranchSpec:
        """The specification of the branch itself."""
        return self.branch.spec

    def forward(self, features: Tensor, previous: Tensor) -> Tensor:
        """Return logits (N, C) from ``features`` and the logits ``previous`` (N, C) of the exit before."""
        said = F.log_softmax(previous.detach(), dim=1)
        logits: Tensor = self.branch(features)
        if self.inputs is not None:
            logits = logits + self.inputs(said.exp())
        if self.weights is not None:
            own, before = F.softplus(self.weights)
            logits = own * F.log_softmax(logits, dim=1) + before * said
        return logits


def build_exit(
    spec: BranchSpec, shape: Shape, num_classes: int, cascade: Cascade = "none", *, first: bool = True
) -> Branch | LinkedBranch:
    """Build the branch ``spec`` as :func:`build_branch` does, linked to the exit before it where there is one."""
    branch = build_branch(spec, shape, num_classes)
    return branch if first or cascade == "none" else LinkedBranch(branch, num_classes, cascade)
