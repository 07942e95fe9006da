"""Cascade-aligned weights (CalexNet, arXiv 2509.08318): a branch trains on what survives the branches before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aebnas.exits.accuracy import AccuracyKind, sample_weights
from aebnas.exits.class_precision import class_precisions, class_thresholds
from aebnas.exits.confidence import Confidence
from aebnas.exits.decision import decide
from aebnas.training.objective import Gate
from aebnas.training.settings import CalexSettings

FloatArray = npt.NDArray[np.float64]


def precision_floors(logits: Tensor, truth: Tensor, margin: float, accuracy: AccuracyKind = "plain") -> FloatArray:
    """Return (1 - margin) x the precision of every class, (C,) float64, of the backbone's ``logits`` (N, C).

    A class that the backbone never predicts asks for exits that are always right, less the margin.
    """
    right = truth.numpy()
    weights = sample_weights(right, accuracy)
    return (1 - margin) * class_precisions(logits.argmax(1).numpy(), right, logits.shape[1], weights)


def cascade_thresholds(
    measure: Confidence,
    logits: Sequence[Tensor],
    backbone: Tensor,
    truth: Tensor,
    margin: float,
    accuracy: AccuracyKind = "plain",
) -> Tensor:
    """Return a threshold per branch and predicted class, (K, C) float32: the class precision margin; inf = never.

    Args:
        logits: Of every branch on validation, (N, C) each.
        backbone: (N, C) logits of the backbone on validation.
        truth: (N,) labels.
        margin: Share of the backbone's precision that a branch may lose.
        accuracy: Where it is balanced, samples count in precisions as they do in it.
    """
    floors = precision_floors(backbone, truth, margin, accuracy)
    labels, sure = (said.numpy() for said in said_by(measure, logits))
    right, staying = truth.numpy(), np.ones(len(truth), dtype=bool)
    weights = sample_weights(right, accuracy)
    thresholds = []
    for predicted, confidence in zip(labels, sure, strict=True):
        counts = None if weights is None else weights[staying]
        mine = class_thresholds(confidence[staying], predicted[staying], right[staying], floors, counts)
        staying &= ~(confidence >= mine[predicted])
        thresholds.append(mine)
    return torch.from_numpy(np.stack(thresholds))


def survival(labels: Tensor, sure: Tensor, thresholds: Tensor, softness: float) -> Tensor:
    """Return how much of every sample survives the branches, (N,) in [0, 1]: prod_j (1 - g_j).

    ``g_j = sigmoid((c_j - t_j) / softness)``, t_j the threshold of the predicted class; this form is our variant.

    Args:
        labels: Predicted by every branch, (K, N).
        sure: Its confidences, (K, N).
        thresholds: (K, C).
    """
    stays = torch.sigmoid((thresholds.gather(1, labels) - sure) / softness)
    return stays.prod(0)


def batch_weights(survival: Tensor, floor: float) -> Tensor:
    """Return the weights (B,) of a batch: at least ``floor`` before they are scaled to mean 1."""
    weights = survival.clamp(min=floor)
    return weights / weights.mean()


def said_by(measure: Confidence, logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return labels and confidences, (K, N) each, of K branches along the cascade."""
    # A final exit, which `decide` wants behind the branches, takes no part in what they say.
    labels, sure = decide(measure, [*logits, logits[-1]])
    return labels[:-1], sure[:-1]


def survivors_gate(
    measure: Confidence,
    on_train: Sequence[Tensor],
    on_validation: Sequence[Tensor],
    backbone: Tensor,
    truth: Tensor,
    settings: CalexSettings,
    accuracy: AccuracyKind = "plain",
) -> Gate:
    """Weigh the training samples of a single branch by what survives the branches before it.

    Args:
        measure: How sure those are.
        on_train: Their logits on the training samples, (N, C) each.
        on_validation: Their logits on validation, (M, C) each; there thresholds are found.
        backbone: Logits of the backbone on validation, (M, C).
        truth: Labels of validation, (M,).
        settings: Margin, softness and floor.
        accuracy: As of ``cascade_thresholds``.
    """
    thresholds = cascade_thresholds(measure, on_validation, backbone, truth, settings.margin, accuracy)
    stays = survival(*said_by(measure, on_train), thresholds, settings.softness)

    def gate(logits: Sequence[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        nonlocal stays
        stays = stays.to(labels.device)  # once; for every batch it would be a wait
        return batch_weights(stays[index.to(labels.device)], settings.floor)[None]

    return gate


def cascade_gate(measure: Confidence, thresholds: Tensor, settings: CalexSettings) -> Gate:
    """Weigh the samples of the branch behind K trained ones, whose ``thresholds`` are (K, C), by what those say."""
    branches = len(thresholds)

    @torch.no_grad()
    def gate(logits: Sequence[Tensor], labels: Tensor, index: Tensor) -> Tensor:
        predicted, sure = said_by(measure, logits[:branches])
        stays = survival(predicted, sure, thresholds.to(sure.device), settings.softness)
        return batch_weights(stays, settings.floor).expand(len(logits), -1)

    return gate
