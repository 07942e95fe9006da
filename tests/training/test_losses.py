"""Losses of one exit against sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.training.losses import distillation_loss, label_loss, mean_distillation

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [-2.0, 4.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_vs_all_asks_one_question_per_class(smoothing):
    by_hand = []
    for z, label in zip(LOGITS.double().numpy(), LABELS.tolist(), strict=True):
        total = 0.0
        for k in range(3):
            wanted = (1.0 if k == label else 0.0) * (1 - smoothing) + smoothing / 3
            total -= wanted * np.log(sigmoid(z[k])) + (1 - wanted) * np.log(1 - sigmoid(z[k]))
        by_hand.append(total)
    np.testing.assert_allclose(label_loss(LOGITS, LABELS, "one-vs-all", smoothing).numpy(), by_hand, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_smoothed_labels(smoothing):
    log_p = LOGITS.double().numpy() - np.log(np.exp(LOGITS.double().numpy()).sum(1, keepdims=True))
    wanted = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    by_hand = -(wanted * log_p).sum(1)
    np.testing.assert_allclose(label_loss(LOGITS, LABELS, smoothing=smoothing).numpy(), by_hand, rtol=1e-5)


def test_one_vs_all_does_not_overflow():
    assert torch.isfinite(label_loss(1000 * LOGITS, LABELS, "one-vs-all")).all()


def test_one_vs_all_heads_learn_the_softmax_of_their_teacher():
    teacher = torch.tensor([[1.0, 0.0, 2.0]])
    wanted = (teacher / 2).softmax(1)
    # The best answer to the question of class k is the teacher's probability of it.
    z = torch.logit(wanted).requires_grad_()
    distillation_loss(z, teacher, 2.0, "one-vs-all").sum().backward()
    torch.testing.assert_close(z.grad, torch.zeros_like(wanted), atol=1e-6, rtol=0)


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.integers(0, 2))
def test_losses_are_never_negative_and_one_per_sample(values, label):
    z, labels = torch.tensor([values]), torch.tensor([label])
    for loss in ("cross-entropy", "one-vs-all"):
        made = label_loss(z, labels, loss)
        assert made.shape == (1,)
        assert float(made) >= 0


def test_several_exits_learn_from_several_teachers():
    students, teachers = [LOGITS, LOGITS[:, [1, 2, 0]]], [LOGITS[:, [2, 1, 0]], LOGITS]
    by_hand = sum(distillation_loss(z, t, 2.0).mean() for z, t in zip(students, teachers, strict=True))
    torch.testing.assert_close(mean_distillation(students, teachers, 2.0), by_hand)
    assert float(mean_distillation(teachers, teachers, 2.0)) == 0.0
