"""Gates of confidence-gated training (arXiv 2509.17885): deeper exits learn what earlier ones fail on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aebnas.exits.confidence import Confidence
from aebnas.exits.decision import decide, label_probabilities
from aebnas.training.objective import Gate
from aebnas.training.settings import CgtSettings


def hard_gate(measure: Confidence, settings: CgtSettings) -> Gate:
    """Close behind the first exit that is right with a confidence of tau or more."""

    @torch.no_grad()
    def gate(logits: Sequence[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        predicted, sure = decide(measure, logits)
        settled = (predicted == labels) & (sure >= settings.tau)
        return handed_on((~settled).float(), settings)

    return gate


def soft_gate(settings: CgtSettings) -> Gate:
    """Hand on the less, the surer earlier exits are of the label.

    ``sigmoid`` residuals are those of the public reference code, ``probability`` ones are our variant.
    """

    @torch.no_grad()
    def gate(logits: Sequence[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        of_label = label_probabilities(logits, labels.expand(len(logits), -1))
        if settings.residual == "sigmoid":
            of_label = torch.sigmoid(settings.sharpness * (of_label - settings.tau))
        return handed_on(1 - of_label, settings)

    return gate


def handed_on(residuals: Tensor, settings: CgtSettings) -> Tensor:
    """Return the gate of every exit, (E, B), from what each leaves to the next, (E, B) in [0, 1].

    It is the product over the exits before, 1 for the first; then the floor is added and, if so set, every sample's
    gates are scaled to mean 1 over exits, as in the public reference code.
    """
    gates = torch.cat([torch.ones_like(residuals[:1]), residuals[:-1].cumprod(0)]) + settings.floor
    return gates / gates.mean(0) if settings.normalise else gates


def annealed(exits: int, progress: float) -> tuple[float, ...]:
    """Return weights of mean 1 that fall with depth when ``progress`` is 0 and rise with depth when it is 1."""
    rising = [2 * e / (exits + 1) for e in range(1, exits + 1)]
    return tuple((1 - progress) * early + progress * late for early, late in zip(rising[::-1], rising, strict=True))
