"""Confidence measures: how sure an exit is of its prediction, from its logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from aebnas.errors import InputError
from aebnas.registry import Registry

CONFIDENCES: Registry[type[nn.Module]] = Registry("confidence")


def build_confidence(name: str) -> nn.Module:
    """Return the confidence measure called ``name``.

    The module maps logits (N, C) to float32 confidences (N,) in [0, 1], higher = surer.

    Raises:
        InputError: there is no such measure; from the module itself, when the logits have fewer than 2 classes.
    """
    return CONFIDENCES[name]()


@CONFIDENCES.add("max-probability")
class MaxProbability(nn.Module):
    """Probability of the predicted class: (N, C) logits -> (N,) float32."""

    def forward(self, logits: Tensor) -> Tensor:
        _count_classes(logits)
        return torch.softmax(logits.float(), dim=1).amax(dim=1)


@CONFIDENCES.add("margin")
class Margin(nn.Module):
    """Probability of the predicted class minus that of the runner-up: (N, C) logits -> (N,) float32."""

    def forward(self, logits: Tensor) -> Tensor:
        _count_classes(logits)
        top = torch.softmax(logits.float(), dim=1).topk(2, dim=1).values
        return top[:, 0] - top[:, 1]


@CONFIDENCES.add("entropy")
class Entropy(nn.Module):
    """One minus the entropy over its maximum, 1 - H / log C: (N, C) logits -> (N,) float32."""

    def forward(self, logits: Tensor) -> Tensor:
        classes = _count_classes(logits)
        log_probabilities = torch.log_softmax(logits.float(), dim=1)
        negative_entropy = (log_probabilities.exp() * log_probabilities).sum(dim=1)
        # Rounding can push equal logits slightly below 0.
        return (1.0 + negative_entropy / math.log(classes)).clamp(0.0, 1.0)


def _count_classes(logits: Tensor) -> int:
    # A plain int also while tracing: an exported graph has its number of classes as a constant.
    classes = int(logits.shape[1])
    if classes < 2:
        raise InputError(f"a confidence needs logits of 2 classes or more, not {classes}: check the data's classes")
    return classes
