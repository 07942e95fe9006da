"""Confidence measures: how sure an exit is of its prediction, from its logits."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aebnas.errors import InputError
from aebnas.registry import Registry

# Exits in a row that agree for a full score of patience: fixed, so that thresholds mean the same in every network.
PATIENCE = 8


class Confidence(nn.Module):
    """A score of every prediction, in [0, 1] and float32, higher = surer.

    A stateless measure maps logits (N, C) to confidences (N,); the prediction is their argmax. A stateful one looks at
    the exits that were passed before as well: it maps logits and the state (N, S) that the exit before left, None at
    the first exit that runs, to labels (N,) int64, confidences (N,) and the state (N, S) float32 to hand on.
    """

    stateful: ClassVar[bool] = False

    def state_size(self, classes: int) -> int:
        """Return S for logits of so many ``classes``; 0 for a stateless measure."""
        return 0

    @abstractmethod
    def forward(self, logits: Tensor, state: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return the confidences; of a stateful measure the labels, the confidences and the state."""


CONFIDENCES: Registry[type[Confidence]] = Registry("confidence")


def build_confidence(name: str) -> Confidence:
    """Return the confidence measure called ``name``.

    Raises:
        InputError: there is no such measure; from the module itself, when the logits have fewer than 2 classes.
    """
    return CONFIDENCES[name]()


@CONFIDENCES.add("max-probability")
class MaxProbability(Confidence):
    """Probability of the predicted class."""

    def forward(self, logits: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the confidences."""
        _count_classes(logits)
        return torch.softmax(logits.float(), dim=1).amax(dim=1)


@CONFIDENCES.add("margin")
class Margin(Confidence):
    """Probability of the predicted class minus that of the runner-up."""

    def forward(self, logits: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the confidences."""
        _count_classes(logits)
        top = torch.softmax(logits.float(), dim=1).topk(2, dim=1).values
        return top[:, 0] - top[:, 1]


@CONFIDENCES.add("entropy")
class Entropy(Confidence):
    """One minus the entropy over its maximum, 1 - H / log C."""

    def forward(self, logits: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the confidences."""
        classes = _count_classes(logits)
        log_probabilities = torch.log_softmax(logits.float(), dim=1)
        negative_entropy = (log_probabilities.exp() * log_probabilities).sum(dim=1)
        # Rounding can push equal logits slightly below 0.
        return (1.0 + negative_entropy / math.log(classes)).clamp(0.0, 1.0)


@CONFIDENCES.add("one-vs-all")
class OneVsAll(Confidence):
    """Probability that the predicted class, and no other, is there: sigmoid(z_k) * prod_{j != k} (1 - sigmoid(z_j)).

    For heads that answer one question per class; what all classes together lack of 1 is the probability of none or
    several (SLOVA, arXiv 2206.13923; our variant). The product is p_k = e^(z_k) * prod_j (1 - sigmoid(z_j)), so it is
    largest where the logit is.
    """

    def forward(self, logits: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the confidences."""
        classes, logits = _count_classes(logits), logits.float()
        predicted = torch.arange(classes, device=logits.device) == logits.argmax(dim=1, keepdim=True)
        # log sigmoid(z) = -softplus(-z) and log (1 - sigmoid(z)) = -softplus(z): neither overflows nor cancels.
        return torch.exp(-F.softplus(torch.where(predicted, -logits, logits)).sum(dim=1))


@CONFIDENCES.add("patience")
class Patience(Confidence):
    """How many exits in a row, this one included, predict the same class (PABEE, arXiv 2006.04152), over ``PATIENCE``.

    To leave when k exits in a row agree is a threshold of anything above (k - 1) / ``PATIENCE`` up to k / ``PATIENCE``;
    runs longer than ``PATIENCE`` cannot be told apart. The state is the last label and the length of its run.
    """

    stateful = True

    def state_size(self, classes: int) -> int:
        """Return 2."""
        return 2

    def forward(self, logits: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels, confidences and state."""
        _count_classes(logits)
        label = logits.argmax(dim=1)
        last = label.to(torch.float32)
        if state is None:
            # 1, made of the label: an output that depends on nothing would be folded out of an exported graph.
            run = (last >= 0).to(torch.float32)
        else:
            run = torch.where(state[:, 0] == last, state[:, 1], 0.0) + 1.0
        return label, (run / PATIENCE).clamp(max=1.0), torch.stack([last, run], dim=1)


@CONFIDENCES.add("ensemble")
class Ensemble(Confidence):
    """Highest probability in the geometric mean of what the exits say that were passed, this one included.

    The label is that of the mean (ZTW, arXiv 2106.05409; without its learned weights: our variant). The state is the
    sum of the log-probabilities, and over how many exits.
    """

    stateful = True

    def state_size(self, classes: int) -> int:
        """Return C + 1."""
        return classes + 1

    def forward(self, logits: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels, confidences and state."""
        classes = _count_classes(logits)
        total = torch.log_softmax(logits.float(), dim=1)
        count = torch.ones_like(total[:, :1])
        if state is not None:
            total, count = total + state[:, :classes], count + state[:, classes:]
        confidence = torch.softmax(total / count, dim=1).amax(dim=1)
        return total.argmax(dim=1), confidence, torch.cat([total, count], dim=1)


def _count_classes(logits: Tensor) -> int:
    # A plain int also while tracing: an exported graph has its number of classes as a constant.
    classes = int(logits.shape[1])
    if classes < 2:
        raise InputError(f"a confidence needs logits of 2 classes or more, not {classes}: check the data's classes")
    return classes
