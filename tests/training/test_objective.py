"""Losses against formulas written out by hand in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.errors import ExperimentError
from aebnas.training.losses import distillation_loss, label_loss
from aebnas.training.objective import WEIGHTINGS, Objective

LOGITS = [
    torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]),
    torch.tensor([[0.1, 0.2, 0.3], [-2.0, 4.0, 0.0]]),
    torch.tensor([[5.0, 0.0, 0.0], [1.0, 1.0, 1.0]]),
]
LABELS = torch.tensor([0, 1])
INDEX = torch.tensor([0, 1])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z)
    return e / e.sum(1, keepdims=True)


def cross_entropy(z: torch.Tensor) -> float:
    return float(-np.log(softmax(z.double().numpy())[[0, 1], LABELS]).mean())


@pytest.mark.parametrize(("name", "weights"), [("equal", (1.0, 1.0, 1.0)), ("linear", (0.5, 1.0, 1.5))])
def test_weightings_of_three_exits(name, weights):
    assert WEIGHTINGS[name](3, 0.5) == weights
    by_hand = sum(w * cross_entropy(z) for w, z in zip(weights, LOGITS, strict=True)) / 3
    assert float(Objective(weights)(LOGITS, LABELS, INDEX)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("name", ["equal", "linear"])
@given(exits=st.integers(1, 12), progress=st.floats(0, 1))
def test_weights_have_mean_one_and_do_not_fall_with_depth(name, exits, progress):
    weights = WEIGHTINGS[name](exits, progress)
    assert len(weights) == exits
    assert np.mean(weights) == pytest.approx(1.0)
    assert min(weights) > 0
    assert list(weights) == sorted(weights)


def test_an_unknown_weighting_names_the_nearest():
    with pytest.raises(ExperimentError, match="did you mean 'linear'"):
        WEIGHTINGS["lineal"]


def test_an_exit_of_weight_zero_is_not_looked_at():
    broken = [LOGITS[0], torch.full((2, 3), torch.nan)]
    assert float(Objective((1.0, 0.0))(broken, LABELS, INDEX)) == pytest.approx(cross_entropy(LOGITS[0]), rel=1e-6)


def test_every_exit_needs_a_weight():
    with pytest.raises(ValueError, match="zip"):
        Objective((1.0,))(LOGITS, LABELS, INDEX)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_loss_by_hand(temperature):
    student, teacher = LOGITS[0], LOGITS[1]
    p = softmax(teacher.double().numpy() / temperature)
    q = softmax(student.double().numpy() / temperature)
    by_hand = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert float(distillation_loss(student, teacher, temperature).mean()) == pytest.approx(by_hand, rel=1e-5)


@given(
    st.lists(st.floats(-20, 20), min_size=4, max_size=4),
    st.lists(st.floats(-20, 20), min_size=4, max_size=4),
    st.floats(0.5, 8),
)
def test_distillation_loss_is_never_negative_and_zero_at_the_teacher(student, teacher, temperature):
    z, t = torch.tensor([student], dtype=torch.float64), torch.tensor([teacher], dtype=torch.float64)
    assert float(distillation_loss(z, t, temperature)) >= -1e-9
    # A softmax does not change when all logits shift.
    assert float(distillation_loss(t + 3.0, t, temperature)) == pytest.approx(0.0, abs=1e-9)


def test_the_teacher_is_read_at_the_samples_of_the_batch():
    teacher = torch.cat([torch.zeros(5, 3), LOGITS[0]])
    index = torch.tensor([5, 6])
    assert float(Objective((1.0,), teacher)([LOGITS[0]], LABELS, index)) == pytest.approx(0.0, abs=1e-6)
    assert float(Objective((1.0,), teacher)([LOGITS[0]], LABELS, INDEX)) > 0.1


def test_a_teacher_takes_the_place_of_the_labels():
    with_teacher = Objective((1.0,), LOGITS[1], 2.0)
    assert float(with_teacher([LOGITS[0]], LABELS, INDEX)) == float(with_teacher([LOGITS[0]], 1 - LABELS, INDEX))
    assert float(with_teacher([LOGITS[0]], LABELS, INDEX)) == pytest.approx(
        float(distillation_loss(LOGITS[0], LOGITS[1], 2.0).mean())
    )


def test_branchynet_counts_from_one_down_to_three_tenths():
    assert WEIGHTINGS["branchynet"](3, 0.0) == pytest.approx((1.0, 0.65, 0.3))
    assert WEIGHTINGS["branchynet"](1, 0.0) == (1.0,)


@pytest.mark.parametrize(
    ("progress", "weights"), [(0.0, (0.01, 0.01, 1.0)), (0.5, (0.5 * (0.01 + 1 / 3), 0.5 * (0.01 + 2 / 3), 1.0))]
)
def test_a_ramp_by_hand(progress, weights):
    assert WEIGHTINGS["ramp"](3, progress) == pytest.approx(weights)


@given(exits=st.integers(1, 8), progress=st.floats(0, 1))
def test_a_ramp_ends_at_relative_depth_and_never_falls_on_the_way(exits, progress):
    now, later = WEIGHTINGS["ramp"](exits, progress), WEIGHTINGS["ramp"](exits, 1.0)
    assert later == pytest.approx(tuple(e / exits for e in range(1, exits + 1)))
    assert all(0.01 - 1e-12 <= a <= b + 1e-12 for a, b in zip(now, later, strict=True))


def test_gates_weigh_samples_of_every_exit():
    gates = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    objective = Objective((1.0, 3.0), gate=lambda logits, labels, index: gates)
    losses = [label_loss(z, LABELS) for z in LOGITS[:2]]
    by_hand = (float(losses[0][0]) / 2 + 3 * (0.5 * float(losses[1][0]) + 2 * float(losses[1][1])) / 2) / 2
    assert float(objective(LOGITS[:2], LABELS, INDEX)) == pytest.approx(by_hand, rel=1e-6)


def test_weights_may_change_while_training_goes_on():
    objective = Objective((1.0, 1.0), schedule=lambda progress: (1.0 - progress, progress))
    for progress in (0.0, 0.25, 1.0):
        by_hand = ((1 - progress) * cross_entropy(LOGITS[0]) + progress * cross_entropy(LOGITS[1])) / 2
        assert float(objective(LOGITS[:2], LABELS, INDEX, progress)) == pytest.approx(by_hand, rel=1e-6)


def test_exits_may_learn_from_the_last_which_learns_the_labels():
    logits = [z.clone().requires_grad_() for z in LOGITS]
    loss = Objective((1.0, 1.0, 1.0), temperature=2.0, final_teaches=True)(logits, LABELS, INDEX)
    learnt = sum(float(distillation_loss(z, LOGITS[2], 2.0).mean()) for z in LOGITS[:2])
    assert loss.item() == pytest.approx((learnt + cross_entropy(LOGITS[2])) / 3, rel=1e-6)
    loss.backward()
    # Nothing of what the others learn flows into their teacher.
    alone = LOGITS[2].clone().requires_grad_()
    (label_loss(alone, LABELS).mean() / 3).backward()
    torch.testing.assert_close(logits[2].grad, alone.grad)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_have_what_distillation_leaves(share):
    objective = Objective((1.0,), LOGITS[1], 2.0, distillation=share)
    learnt = float(distillation_loss(LOGITS[0], LOGITS[1], 2.0).mean())
    by_hand = share * learnt + (1 - share) * cross_entropy(LOGITS[0])
    assert float(objective(LOGITS[:1], LABELS, INDEX)) == pytest.approx(by_hand, rel=1e-6)


def test_the_loss_of_the_labels_is_the_one_that_was_chosen():
    objective = Objective((1.0,), loss="one-vs-all", label_smoothing=0.1)
    by_hand = float(label_loss(LOGITS[0], LABELS, "one-vs-all", 0.1).mean())
    assert float(objective(LOGITS[:1], LABELS, INDEX)) == pytest.approx(by_hand, rel=1e-6)
