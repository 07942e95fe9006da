"""What is diagnosed: a network with its policy, and what its exits say of two splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebnas.errors import InputError
from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.confidence import build_confidence
from aebnas.exits.costs import Mask
from aebnas.exits.decision import decide, label_probabilities
from aebnas.exits.diagnostics import Outcomes, reachable_exits
from aebnas.exits.policy import Policy, Thresholds

SplitName = Literal["validation", "test"]
SPLITS: tuple[SplitName, ...] = ("validation", "test")
FINAL = "final"


@dataclass(frozen=True)
class Said:
    """What a network says of one split, whether or not a sample leaves.

    Args:
        logits: (N, C) of every branch and, last, of the final exit.
        truth: (N,) int64.
        labels, confidences: (E, N) of the exits that are on, the final one last, as what was run gave them; None: they
            are made of the logits.
    """

    logits: Sequence[Tensor]
    truth: Tensor
    labels: NDArray[np.int64] | None = None
    confidences: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Subject:
    """A network with its policy.

    Args:
        kind: ``run`` or ``export``.
        source: Its folder.
        id: Its id on the front.
        branches: Attach point of every branch.
        policy: A threshold per branch, None = off.
        prefixes: A branch needs those before it: only the last ones can be off.
        exit_macs: Mask over the branches -> exit costs in MACs, (1, K+1), the final exit last.
        backbone_macs: Of the static backbone.
        grid: Thresholds per branch that are compared when a policy is tuned.
        splits: What the exits say of validation and test.
        classes: Their names, in the order of the labels; None: they have none.
        accuracy: Which one is told, and policies are tuned by.
    """

    kind: Literal["run", "export"]
    source: str
    id: str
    branches: tuple[str, ...]
    policy: Policy
    prefixes: bool
    exit_macs: Callable[[Mask], NDArray[Any]]
    backbone_macs: float
    grid: int
    splits: Mapping[SplitName, Said]
    classes: tuple[str, ...] | None = None
    accuracy: AccuracyKind = "plain"

    @property
    def mask(self) -> Mask:
        """Which branches are on."""
        return tuple(threshold is not None for threshold in self.policy.thresholds)

    @property
    def exits(self) -> tuple[int, ...]:
        """The E exits that can be left at: branches that are on, and the final one unless one of them lets all go."""
        return reachable_exits(self.policy.thresholds)

    @property
    def names(self) -> tuple[str, ...]:
        """These exits by their attach points."""
        return tuple((*self.branches, FINAL)[exit_] for exit_ in self.exits)

    @property
    def macs(self) -> NDArray[np.float64]:
        """What leaving at each of these exits takes, (E,)."""
        costs: NDArray[np.float64] = np.asarray(self.exit_macs(self.mask), dtype=np.float64)[0, list(self.exits)]
        return costs

    def outcomes(self, split: SplitName) -> Outcomes:
        """Return what these exits say of ``split``, and where the policy lets samples leave."""
        said, confidence, count = self.splits[split], self.policy.confidence, len(self.exits)
        labels, confidences = said.labels, said.confidences
        if labels is None or confidences is None:
            labels, confidences = (
                found.numpy() for found in decide(build_confidence(confidence), said.logits, self.mask)
            )
        labels, confidences = labels[:count], confidences[:count]
        thresholds = tuple(self.policy.thresholds[exit_] for exit_ in self.exits[:-1])
        exits = Policy(confidence, thresholds).leave_at(confidences[:-1], labels[:-1])
        own = label_probabilities([said.logits[exit_] for exit_ in self.exits], torch.from_numpy(labels))
        return Outcomes(labels, confidences, own.numpy(), said.truth.numpy(), exits, self.accuracy)


def require_exits(thresholds: Thresholds, what: str, fix: str) -> None:
    """Refuse a network in which all samples leave at the same exit whatever they are.

    Raises:
        InputError: it has one exit only; the message ends in ``fix``.
    """
    if len(reachable_exits(thresholds)) < 2:
        raise InputError(f"{what} has no early exit, so there is nothing to diagnose: {fix}")
