"""From two classes to a thousand: everything that looks at classes, on few samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aebnas.exits.accuracy import accuracy_of, recalls
from aebnas.exits.class_precision import class_thresholds
from aebnas.exits.confidence import CONFIDENCES, build_confidence
from aebnas.exits.decision import answers_of, decide, label_probabilities
from aebnas.exits.diagnostics import Outcomes, diagnose_exits, fit_exponents
from aebnas.exits.policy import leave_at
from aebnas.exits.tuning import evaluate_answers, tune_answers

NAMES = list(CONFIDENCES)


def network(classes, samples=240, branches=2, seed=0):
    """Logits of exits that get righter; every class has a sample where there are enough."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(samples) % classes
    truth = truth[torch.randperm(samples, generator=generator)]
    logits = []
    for exit_ in range(branches + 1):
        z = torch.randn(samples, classes, generator=generator)
        z[torch.arange(samples), truth] += (1.0 + 2.0 * exit_) * torch.rand(samples, generator=generator) * 2
        logits.append(z)
    return logits, truth


def cost_of(mask):
    return 10.0 * np.arange(1, len(mask) + 2)[None] + np.cumsum([*map(float, mask), 0.0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 1000])
def test_confidences_lie_between_0_and_1_and_know_something(name, classes):
    logits, _ = network(classes)
    _, confidences = decide(build_confidence(name), logits)
    assert float(confidences.min()) >= 0 and float(confidences.max()) <= 1
    assert torch.isfinite(confidences).all()


def test_of_two_classes_three_measures_say_the_same_in_other_numbers():
    """The margin is 2 p - 1, and entropy falls with p."""
    (z, *_), _ = network(2)
    top, margin, entropy = (build_confidence(name)(z) for name in ("max-probability", "margin", "entropy"))
    torch.testing.assert_close(margin, 2 * top - 1)
    order = top.argsort()
    assert (entropy[order].diff() >= -1e-6).all()
    p = torch.sigmoid(z)
    expected = torch.maximum(p[:, 0] * (1 - p[:, 1]), p[:, 1] * (1 - p[:, 0]))
    torch.testing.assert_close(build_confidence("one-vs-all")(z), expected)


@pytest.mark.parametrize("accuracy", ["plain", "balanced"])
@pytest.mark.parametrize("rule", ["per-exit", "per-class"])
@pytest.mark.parametrize("name", ["max-probability", "one-vs-all", "ensemble"])
@pytest.mark.parametrize("classes", [2, 1000])
def test_curves_are_told_by_what_they_do(name, classes, rule, accuracy):
    logits, truth = network(classes)
    answers = answers_of(build_confidence(name), logits, truth, accuracy=accuracy)
    assert answers.count_classes() == classes
    curve = tune_answers(answers, cost_of, rule=rule, grid=6)
    assert curve.points[-1].accuracy >= curve.points[0].accuracy
    for point in curve.points[:: max(1, len(curve.points) // 5)]:
        mask = tuple(bar is not None for bar in point.thresholds)
        sure, labels = answers.whole(mask)
        exits = leave_at(sure, point.thresholds, labels[:-1])
        right = (labels == answers.truth)[exits, np.arange(len(exits))]
        assert point.accuracy == accuracy_of(right, answers.truth, accuracy)
        assert evaluate_answers(answers, cost_of, point.thresholds) == point
        for bars in point.thresholds:
            assert not isinstance(bars, tuple) or len(bars) == classes


@pytest.mark.parametrize("classes", [2, 1000])
def test_a_diagnosis_is_defined(classes):
    logits, truth = network(classes, samples=400)
    labels, confidences = decide(build_confidence("margin"), logits)
    likely = label_probabilities(logits, labels)
    exits = leave_at(confidences[:-1].numpy(), (0.6, 0.6))
    arrays = (labels.numpy(), confidences.numpy(), likely.numpy(), truth.numpy(), exits)
    found = diagnose_exits(Outcomes(*arrays, "balanced"), fit_exponents(Outcomes(*arrays)))
    assert all(exit_.every.auroc is not None for exit_ in found.exits)
    right = labels.numpy()[-1] == truth.numpy()
    assert found.accuracy_last == pytest.approx(np.nanmean(recalls(right, truth.numpy(), classes)))


def test_of_a_thousand_classes_few_have_samples_enough_to_leave():
    generator = np.random.default_rng(0)
    predicted = np.concatenate([np.full(200, 7), generator.integers(0, 1000, 400)])
    confidence = generator.random(600, dtype=np.float32)
    found = class_thresholds(confidence, predicted, predicted, np.full(1000, 0.5))
    assert np.flatnonzero(np.isfinite(found)).tolist() == [7]
