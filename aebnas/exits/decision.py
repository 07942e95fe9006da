"""What exits decide: the label and the confidence of every sample, along the exits that run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.answers import Answers, Said
from aebnas.exits.confidence import Confidence
from aebnas.exits.costs import Mask

# Logits that are looked at at a time: all of them, of many classes, would take their memory several times over.
_PIECE = 1 << 22
# Pieces are of so many rows, or a multiple: the last bits of a value may hang on its place among the vectors of the
# processor, which is the same then as among all logits.
_ALIGNED = 64


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
    decider = Decider(measure)
    pieces = [_decide(decider, piece, mask) for piece in _pieces(logits)]
    if len(pieces) == 1:
        return pieces[0]
    labels, confidences = zip(*pieces, strict=True)
    return torch.cat(labels, dim=1), torch.cat(confidences, dim=1)


@torch.no_grad()
def label_probabilities(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the softmax probability that each exit's own logits give the class it predicts, (E, N) float32.

    Args:
        logits: (N, C) of E exits.
        labels: (E, N), which with a stateful measure need not be where the logits are highest.
    """
    return torch.stack([_probabilities(z, label) for z, label in zip(logits, labels, strict=True)])


def answers_of(
    measure: Confidence,
    logits: Iterable[Tensor],
    truth: Tensor,
    *,
    prefixes: bool = False,
    accuracy: AccuracyKind = "plain",
) -> Answers:
    """Return what the exits of one network say, in whatever combination they run.

    Args:
        measure: How sure exits are.
        logits: (N, C) of every branch and, last, of the final exit; of a stateless measure they are looked at one
            after the other, and none is kept.
        truth: The right labels (N,).
        prefixes: Whether a branch can only be on when all before it are, as cascaded branches.
        accuracy: Which accuracy policies are told and compared by.
    """
    right = truth.cpu().numpy()
    if not measure.stateful:
        said, classes = [], 0
        for one in logits:
            said.append([values.cpu().numpy() for values in decide(measure, [one])])
            classes = int(one.shape[1])
        labels, confidences = (np.concatenate(values) for values in zip(*said, strict=True))
        # The final exit has a label, and nothing to compare its confidence with.
        return Answers.independent(
            confidences[:-1], labels, right, prefixes=prefixes, classes=classes, accuracy=accuracy
        )
    every = list(logits)

    @cache
    def say(mask: Mask) -> Said:
        labels, confidences = decide(measure, every, mask)
        return confidences[:-1].cpu().numpy(), labels.cpu().numpy()

    classes = int(every[-1].shape[1])
    return Answers(right, len(every) - 1, say, depends=True, prefixes=prefixes, classes=classes, accuracy=accuracy)


def _decide(decider: Decider, logits: Sequence[Tensor], mask: Sequence[bool]) -> tuple[Tensor, Tensor]:
    state, labels, confidences = None, [], []
    for exit_logits, on in zip(logits, (*mask, True), strict=True):
        if on:
            label, confidence, *carried = decider(exit_logits, state)
            state = carried[0] if carried else None
            labels.append(label)
            confidences.append(confidence)
    return torch.stack(labels), torch.stack(confidences)


def _probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    rows = _rows(logits)
    pieces = zip(torch.split(logits, rows), torch.split(labels, rows), strict=True)
    found = [z.float().softmax(1).gather(1, label[:, None])[:, 0] for z, label in pieces]
    return found[0] if len(found) == 1 else torch.cat(found)


def _pieces(logits: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the logits of some samples at a time, of all exits."""
    for piece in zip(*(torch.split(z, _rows(z)) for z in logits), strict=True):
        yield list(piece)


def _rows(logits: Tensor) -> int:
    return max(1, _PIECE // max(1, logits.shape[1]) // _ALIGNED) * _ALIGNED
