"""The loss of one phase: every exit's loss, weighted by exit and by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aebnas.errors import ExperimentError
from aebnas.registry import Registry
from aebnas.training.losses import Loss, distillation_loss, label_loss
from aebnas.training.settings import FitSettings

# Number of exits and share of the training that is over, in [0, 1] -> one weight per exit.
Weighting = Callable[[int, float], tuple[float, ...]]
# Logits (B, C) per exit, labels (B,) and positions in the split (B,) -> weights (exits, B) without gradient.
Gate = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]

WEIGHTINGS: Registry[Weighting] = Registry("exit weighting", ExperimentError)


@WEIGHTINGS.add("equal")
def equal_weights(exits: int, progress: float) -> tuple[float, ...]:
    """Every exit counts the same; weights have mean 1."""
    return (1.0,) * exits


@WEIGHTINGS.add("linear")
def linear_weights(exits: int, progress: float) -> tuple[float, ...]:
    """Exit e of E counts in proportion to e (PABEE, arXiv 2006.04152); weights have mean 1."""
    return tuple(2 * e / (exits + 1) for e in range(1, exits + 1))


@WEIGHTINGS.add("branchynet")
def branchynet_weights(exits: int, progress: float) -> tuple[float, ...]:
    """The first exit counts 1, the last 0.3 (BranchyNet, arXiv 1709.01686); those between on a line (our variant)."""
    return tuple(1.0 - 0.7 * e / max(1, exits - 1) for e in range(exits))


@WEIGHTINGS.add("ramp")
def ramp_weights(exits: int, progress: float) -> tuple[float, ...]:
    """Branch e of E exits rises from 0.01 to its relative depth e / E as training goes on; the final exit counts 1.

    That is how Shallow-Deep Networks (arXiv 1810.07052) train; they raise weights once per epoch and measure depth in
    operations, here weights rise with every step and depth is counted in exits (our variant).
    """
    return (*(0.01 + progress * (e / exits - 0.01) for e in range(1, exits)), 1.0)


def balanced_weights(labels: Tensor) -> Tensor:
    """Return the weight of every class up to the last of ``labels`` int64 (N,), float32; of mean 1 over the samples.

    It is N / (C * n_c) for n_c samples of C classes that have some; 0 for a class without.
    """
    counts = torch.bincount(labels).double()
    present = counts > 0
    weights = torch.where(present, len(labels) / (present.sum() * counts.clamp(min=1)), 0.0)
    return weights.float()


@dataclass(frozen=True)
class Objective:
    """The mean over exits of weight x the mean over the batch of gate x loss.

    Args:
        weights: One per exit that is looked at; an exit of weight 0 costs nothing, and no mean counts it.
        teacher: ``(N, classes)`` logits of the trained backbone for every training sample, which exits learn from;
            None for labels.
        temperature: Of both softmaxes when exits learn from logits.
        final_teaches: The last exit learns the labels, the others learn from its logits.
        distillation: Share of what is learnt from logits, in [0, 1]; the labels have the rest.
        loss: Of the labels, and the form in which logits are learnt from.
        label_smoothing: Share of every label that goes to all classes alike.
        gate: Weights by sample; None: all count 1.
        schedule: Share of the training that is over -> weights in place of ``weights``.
        class_weights: What the loss of a sample is multiplied by, by the class of its label, (C,) float32, whether
            it learns the label or logits; None: 1.
    """

    weights: tuple[float, ...]
    teacher: Tensor | None = None
    temperature: float = 4.0
    final_teaches: bool = False
    distillation: float = 1.0
    loss: Loss = "cross-entropy"
    label_smoothing: float = 0.0
    gate: Gate | None = None
    schedule: Callable[[float], tuple[float, ...]] | None = None
    class_weights: Tensor | None = None

    def __call__(self, logits: Sequence[Tensor], labels: Tensor, index: Tensor, progress: float = 1.0) -> Tensor:
        """Return the loss of a batch.

        Args:
            logits: Per exit, ``(B, classes)``.
            labels: ``(B,)``.
            index: Positions of the samples in the training split, ``(B,)``.
            progress: Share of the training that is over.
        """
        weights = self.weights if self.schedule is None else self.schedule(progress)
        teachers = self._teachers(logits, index)
        gates = None if self.gate is None else self.gate(logits, labels, index)
        counts_for = None if self.class_weights is None else self.class_weights[labels]
        losses = []
        for exit_, (counts, weight, z) in enumerate(zip(self.weights, weights, logits, strict=True)):
            if counts:
                loss = self._of_exit(z, labels, teachers[exit_])
                loss = loss if counts_for is None else counts_for * loss
                losses.append(weight * (loss if gates is None else gates[exit_] * loss).mean())
        return torch.stack(losses).mean()

    def on(self, device: torch.device) -> Objective:
        """Return it with all that is looked up for every batch where the batch is; fetching it would be a wait."""
        teacher, weights = (None if one is None else one.to(device) for one in (self.teacher, self.class_weights))
        return replace(self, teacher=teacher, class_weights=weights)

    def for_classes(self, settings: FitSettings, labels: Tensor) -> Objective:
        """Return it with the weights that ``settings`` give the classes of the training ``labels`` (N,)."""
        if settings.class_weights == "none":
            return self
        return replace(self, class_weights=balanced_weights(labels.cpu()))

    def _of_exit(self, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        if teacher is None or self.distillation == 0:
            return label_loss(logits, labels, self.loss, self.label_smoothing)
        learnt = distillation_loss(logits, teacher, self.temperature, self.loss)
        if self.distillation == 1:
            return learnt
        told = label_loss(logits, labels, self.loss, self.label_smoothing)
        return self.distillation * learnt + (1 - self.distillation) * told

    def _teachers(self, logits: Sequence[Tensor], index: Tensor) -> list[Tensor | None]:
        if self.final_teaches:
            return [*([logits[-1].detach()] * (len(logits) - 1)), None]
        if self.teacher is None:
            return [None] * len(logits)
        return [self.teacher[index.to(self.teacher.device)].to(logits[0].device)] * len(logits)
