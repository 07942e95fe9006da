"""Losses of one exit, per sample."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["cross-entropy", "one-vs-all"]


def label_loss(logits: Tensor, labels: Tensor, loss: Loss = "cross-entropy", smoothing: float = 0.0) -> Tensor:
    """Return the loss (B,) of ``logits`` (B, C) against ``labels`` int64 (B,).

    Args:
        loss: ``one-vs-all`` is sum_k BCE(sigmoid(z_k), 1[k = y]) (SLOVA, arXiv 2206.13923; our variant).
        smoothing: Share of every label that goes to all C classes alike.
    """
    if loss == "cross-entropy":
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    classes = logits.shape[1]
    wanted = F.one_hot(labels, classes).to(logits.dtype) * (1 - smoothing) + smoothing / classes
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float, loss: Loss = "cross-entropy") -> Tensor:
    """Return the loss (B,) of ``logits`` (B, C) against the softmax of ``teacher`` (B, C) at ``temperature``.

    It is ``T^2 * KL(softmax(teacher / T) || softmax(logits / T))``: the target is CalexNet's (arXiv 2509.08318), this
    form of it our variant. For ``one-vs-all`` heads the probabilities of that softmax take the place of the labels
    (our variant).
    """
    target = F.log_softmax(teacher / temperature, dim=1)
    if loss == "one-vs-all":
        return F.binary_cross_entropy_with_logits(logits, target.exp(), reduction="none").sum(1)
    student = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(student, target, reduction="none", log_target=True).sum(1) * temperature**2


def mean_distillation(logits: list[Tensor], teachers: list[Tensor], temperature: float) -> Tensor:
    """Return the sum over exits of the mean over the batch of :func:`distillation_loss`."""
    pairs = zip(logits, teachers, strict=True)
    return torch.stack([distillation_loss(z, teacher, temperature).mean() for z, teacher in pairs]).sum()
