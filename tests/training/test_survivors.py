"""Survivor weights by hand, and thresholds by trying all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.exits.confidence import build_confidence
from aebnas.training.settings import CalexSettings
from aebnas.training.survivors import (
    batch_weights,
    cascade_gate,
    cascade_thresholds,
    precision_floors,
    said_by,
    survival,
    survivors_gate,
)

MEASURE = build_confidence("max-probability")
NEVER = float("inf")


def noisy(labels, classes, strength, seed):
    """Logits that are right the more often, the stronger they are."""
    random = torch.Generator().manual_seed(seed)
    return strength * torch.nn.functional.one_hot(labels, classes) + torch.randn(len(labels), classes, generator=random)


@pytest.fixture
def said():
    """Labels of 900 samples, and the logits of two branches and a backbone."""
    labels = torch.arange(900) % 3
    return labels, [noisy(labels, 3, 1.5, 1), noisy(labels, 3, 2.0, 2)], noisy(labels, 3, 4.0, 3)


def test_survival_by_hand():
    labels = torch.tensor([[0, 1], [1, 1]])
    sure = torch.tensor([[0.9, 0.4], [0.8, 0.7]])
    thresholds = torch.tensor([[0.85, 0.5], [0.6, NEVER]])
    # Sample 0: the first branch is 0.05 above its threshold, the second never lets class 1 go.
    # Sample 1: the first branch is 0.1 below its threshold.
    by_hand = [1 - 1 / (1 + np.exp(-0.05 / 0.05)), 1 - 1 / (1 + np.exp(0.1 / 0.05))]
    np.testing.assert_allclose(survival(labels, sure, thresholds, 0.05).numpy(), by_hand, rtol=1e-4)


def test_weights_of_a_batch_by_hand():
    torch.testing.assert_close(
        batch_weights(torch.tensor([1.0, 0.5, 0.0]), 0.1), torch.tensor([1.0, 0.5, 0.1]) / (1.6 / 3)
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(1e-4, 1))
def test_weights_of_a_batch_have_mean_one(values, floor):
    weights = batch_weights(torch.tensor(values), floor)
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-4)
    assert (weights > 0).all()


def test_floors_are_the_precision_of_the_backbone_less_the_margin():
    truth = torch.tensor([0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 1, 1, 1, 0])  # class 0: 1 of 2 right; class 1: 2 of 3; class 2 never
    logits = torch.nn.functional.one_hot(predicted, 3).float()
    np.testing.assert_allclose(precision_floors(logits, truth, 0.1), [0.45, 0.6, 0.9], rtol=1e-6)


def test_branches_as_good_as_the_backbone_reach_its_precision_whatever_its_digits():
    for count in range(30, 48):
        for right in range(count + 1):
            truth = (torch.arange(count) >= right).long()
            logits = torch.tensor([[2.0, 0.0]]).expand(count, 2)  # all say class 0, equally sure
            assert cascade_thresholds(MEASURE, [logits], logits, truth, 0.0)[0].tolist() == [0.0, NEVER]


def test_thresholds_are_the_smallest_that_keep_the_precision_of_survivors(said):
    """Every threshold is tried: among the samples that are left, those at or above it must be right often enough."""
    truth, branches, backbone = said
    thresholds = cascade_thresholds(MEASURE, branches, backbone, truth, 0.05)
    floors = precision_floors(backbone, truth, 0.05)
    left = torch.ones(len(truth), dtype=torch.bool)
    for branch, mine in zip(branches, thresholds, strict=True):
        sure, predicted = branch.softmax(1).max(1)
        leaves = torch.zeros_like(left)
        for class_ in range(3):
            here = left & (predicted == class_)
            most = 0
            for value in sure[here].tolist():
                out = here & (sure >= value)
                if int(out.sum()) >= 30 and float((truth[out] == class_).float().mean()) >= floors[class_]:
                    most = max(most, int(out.sum()))
            ours = here & (sure >= mine[class_])
            assert int(ours.sum()) == most
            leaves |= ours
        left &= ~leaves
    assert 0 < int(left.sum()) < 800  # some left, some stayed


def test_a_class_with_too_few_samples_never_leaves():
    labels = torch.arange(60) % 3
    thresholds = cascade_thresholds(MEASURE, [noisy(labels, 3, 9.0, 0)], noisy(labels, 3, 9.0, 1), labels, 0.0)
    assert thresholds.tolist() == [[NEVER] * 3]


def test_stored_and_computed_weights_are_the_same(said):
    truth, branches, backbone = said
    settings = CalexSettings()
    train = torch.arange(60) % 3
    on_train = [noisy(train, 3, 1.5, 5), noisy(train, 3, 2.0, 6)]
    stored = survivors_gate(MEASURE, on_train, branches, backbone, truth, settings)
    computed = cascade_gate(MEASURE, cascade_thresholds(MEASURE, branches, backbone, truth, settings.margin), settings)
    index = torch.tensor([3, 17, 59, 0])
    logits = [*(z[index] for z in on_train), torch.zeros(4, 3)]
    weights = stored(logits[-1:], train[index], index)
    assert weights.shape == (1, 4)
    torch.testing.assert_close(weights[0], computed(logits, train[index], index)[2])
    assert float(weights.mean()) == pytest.approx(1.0)


def test_samples_that_leave_early_count_little(said):
    truth, branches, backbone = said
    gate = survivors_gate(MEASURE, branches, branches, backbone, truth, CalexSettings())
    weights = gate([branches[0]], truth, torch.arange(900))[0]
    sure = branches[0].softmax(1).max(1).values
    assert float(weights[sure > 0.9].mean()) < 0.3 * float(weights[sure < 0.5].mean())


@pytest.mark.parametrize("measure", ["patience", "ensemble"])
def test_measures_that_look_back_are_followed_along_the_branches(said, measure):
    _, branches, _ = said
    confidence = build_confidence(measure)
    labels, sure = said_by(confidence, branches)
    assert labels.shape == sure.shape == (2, 900)
    (alone, first), (_, other) = said_by(confidence, branches[:1]), said_by(confidence, branches[1:])
    assert torch.equal(sure[0], first[0])
    assert torch.equal(labels[0], alone[0])
    assert not torch.equal(sure[1], other[0])  # it heard the first one
