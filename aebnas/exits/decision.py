"""What exits decide: the label and the confidence of every sample, along the exits that run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from aebnas.exits.answers import Answers, Said
from aebnas.exits.confidence import Confidence
from aebnas.exits.costs import Mask


class Decider(nn.Module):
    """Makes label and confidence of an exit's logits; it is exported together with the exit.

    Args:
        measure: How sure the exit is.
    """

    def __init__(self, measure: Confidence) -> None:
        super().__init__()
        self.measure = measure

    def forward(self, logits: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return labels (N,) int64 and confidences (N,) float32, and of a stateful measure the state (N, S) float32.

        Args:
            logits: (N, C).
            state: (N, S), as the exit before gave it; None where there is none. Stateless measures do not look at it.
        """
        if self.measure.stateful:
            decided: tuple[Tensor, ...] = self.measure(logits, state)
            return decided
        return logits.argmax(dim=1), self.measure(logits)


@torch.no_grad()
def decide(measure: Confidence, logits: Sequence[Tensor], mask: Sequence[bool] | None = None) -> tuple[Tensor, Tensor]:
    """Return what the exits say that are on: labels (on + 1, N) int64 and confidences (on + 1, N) float32.

    Args:
        measure: How sure exits are; a stateful one follows those that are on, as if no sample left.
        logits: (N, C) of every branch and, last, of the final exit.
        mask: Which branches are on, None = all; the final exit always is.

    Raises:
        ValueError: the mask is not one flag per branch.
    """
    mask = [True] * (len(logits) - 1) if mask is None else mask
    decider, state, labels, confidences = Decider(measure), None, [], []
    for exit_logits, on in zip(logits, (*mask, True), strict=True):
        if on:
            label, confidence, *carried = decider(exit_logits, state)
            state = carried[0] if carried else None
            labels.append(label)
            confidences.append(confidence)
    return torch.stack(labels), torch.stack(confidences)


def label_probabilities(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the softmax probability that each exit's own logits give the class it predicts, (E, N) float32.

    Args:
        logits: (N, C) of E exits.
        labels: (E, N), which with a stateful measure need not be where the logits are highest.
    """
    return torch.stack(
        [z.float().softmax(1).gather(1, label[:, None])[:, 0] for z, label in zip(logits, labels, strict=True)]
    )


def answers_of(measure: Confidence, logits: Sequence[Tensor], truth: Tensor, *, prefixes: bool = False) -> Answers:
    """Return what the exits of one network say, in whatever combination they run.

    Args:
        measure: How sure exits are.
        logits: (N, C) of every branch and, last, of the final exit.
        truth: The right labels (N,).
        prefixes: Whether a branch can only be on when all before it are, as cascaded branches.
    """
    right, classes = truth.cpu().numpy(), int(logits[-1].shape[1])
    if not measure.stateful:
        # The final exit has a label, and nothing to compare its confidence with.
        labels, confidences = (values.cpu().numpy() for values in decide(measure, logits))
        return Answers.independent(confidences[:-1], labels, right, prefixes=prefixes, classes=classes)

    @cache
    def say(mask: Mask) -> Said:
        labels, confidences = decide(measure, logits, mask)
        return confidences[:-1].cpu().numpy(), labels.cpu().numpy()

    return Answers(right, len(logits) - 1, say, depends=True, prefixes=prefixes, classes=classes)
