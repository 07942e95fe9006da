"""The loss of one phase: every exit's loss, weighted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from aebnas.errors import ExperimentError
from aebnas.registry import Registry

WEIGHTINGS: Registry[Callable[[int], tuple[float, ...]]] = Registry("exit weighting", ExperimentError)


@WEIGHTINGS.add("equal")
def equal_weights(exits: int) -> tuple[float, ...]:
    """Every exit counts the same; weights have mean 1."""
    return (1.0,) * exits


@WEIGHTINGS.add("linear")
def linear_weights(exits: int) -> tuple[float, ...]:
    """Exit e of E counts in proportion to e (PABEE, arXiv 2006.04152); weights have mean 1."""
    return tuple(2 * e / (exits + 1) for e in range(1, exits + 1))


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 * KL(softmax(teacher / T) || softmax(logits / T))``, the mean over the batch.

    The target is CalexNet's (arXiv 2509.08318); this form of it is our variant.
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    student = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


@dataclass(frozen=True)
class Objective:
    """The mean over exits of weight x loss.

    Args:
        weights: One per exit that is trained; an exit of weight 0 costs nothing.
        teacher: ``(N, classes)`` logits of the trained backbone for every training sample, the target in place of
            the labels; None for labels.
        temperature: Of both softmaxes when there is a teacher.
    """

    weights: tuple[float, ...]
    teacher: Tensor | None = None
    temperature: float = 4.0

    def __call__(self, logits: Sequence[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        """Return the loss of a batch: ``logits`` per exit ``(B, classes)``, ``labels`` and ``index`` ``(B,)``."""
        teacher = None if self.teacher is None else self.teacher[index.to(self.teacher.device)].to(labels.device)
        losses = [
            weight
            * (F.cross_entropy(z, labels) if teacher is None else distillation_loss(z, teacher, self.temperature))
            for weight, z in zip(self.weights, logits, strict=True)
            if weight
        ]
        return torch.stack(losses).mean()
