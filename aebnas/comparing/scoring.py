"""From the logits of a trained network to its policies on validation, applied once to test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from aebnas.comparing.pricing import Prices
from aebnas.comparing.results import Point
from aebnas.exits.accuracy import accuracy_of
from aebnas.exits.answers import Answers
from aebnas.exits.confidence import build_confidence
from aebnas.exits.costs import Mask
from aebnas.exits.decision import answers_of, decide, label_probabilities
from aebnas.exits.diagnostics import network_diagnostics
from aebnas.exits.policy import NEVER, Thresholds
from aebnas.exits.tuning import evaluate_answers, tune_answers
from aebnas.experiment import Experiment

_ALL_LEAVE = 0.0


@dataclass(frozen=True)
class Said:
    """Logits ``(N, classes)`` of every exit of a network on one split, the final one last, and the labels ``(N,)``."""

    logits: Sequence[Tensor]
    truth: Tensor


def score(validation: Said, test: Said, experiment: Experiment, prices: Prices) -> tuple[Point, ...]:
    """Return the curve that is tuned on validation, and leaving all at one exit, by rising cost.

    Leaving all at one exit is a policy of every network, so that all have one for every budget from the first exit's
    cost on.
    """
    measure, prefixes = build_confidence(experiment.confidence), experiment.cascade != "none"
    known = [
        answers_of(measure, said.logits, said.truth, prefixes=prefixes, accuracy=experiment.accuracy)
        for said in (validation, test)
    ]
    curve = tune_answers(
        known[0], prices.cost_of, rule=experiment.thresholds, grid=experiment.compare.grid, reduction=prices.reduction
    )
    policies = [point.thresholds for point in curve.points]
    policies += [policy for policy in map(_all_at, _leading(known[0])) if policy not in policies]
    points = (_point(thresholds, known, prices) for thresholds in policies)
    return tuple(sorted(points, key=lambda point: (point.cost_val, -point.accuracy_val)))


def exit_accuracies(said: Said, experiment: Experiment) -> tuple[float, ...]:
    """Return the accuracy of what every exit says, all of them on."""
    labels, _ = decide(build_confidence(experiment.confidence), said.logits)
    truth = said.truth.numpy()
    return tuple(accuracy_of(one == truth, truth, experiment.accuracy) for one in labels.numpy())


def diagnose(said: Said, experiment: Experiment) -> Mapping[str, float | None]:
    """Return means over the early exits, all of them on: EEFP, ECE, AUROC of being right and excess AURC."""
    labels, confidences = decide(build_confidence(experiment.confidence), said.logits)
    likely = label_probabilities(said.logits, labels)
    # Where a policy lets samples leave does not matter for these four.
    last = np.full(len(said.truth), len(said.logits) - 1)
    found = network_diagnostics(labels.numpy(), confidences[:-1].numpy(), likely[:-1].numpy(), said.truth.numpy(), last)
    return {name: found[f"{name}_val"] for name in ("eefp", "ece", "auroc", "eaurc")}


def _leading(answers: Answers) -> list[Mask]:
    """Return for every branch the mask with the fewest branches on in which it is the last one."""
    masks = [mask for mask in answers.masks() if any(mask)]
    return [min((m for m in masks if m[k] and not any(m[k + 1 :])), key=sum) for k in range(answers.branches)]


def _all_at(mask: Mask) -> Thresholds:
    """Return the policy by which all leave at the last branch of ``mask``: none at those before it."""
    last = max(place for place, on in enumerate(mask) if on)
    return tuple((_ALL_LEAVE if place == last else NEVER) if on else None for place, on in enumerate(mask))


def _point(thresholds: Thresholds, known: Sequence[Answers], prices: Prices) -> Point:
    validation, test = (
        evaluate_answers(answers, prices.cost_of, thresholds, reduction=prices.reduction) for answers in known
    )
    return Point(thresholds, validation.accuracy, validation.costs[0], test.accuracy, test.costs[0])
