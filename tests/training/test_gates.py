"""Gates of confidence-gated training, by hand and as properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aebnas.exits.confidence import build_confidence
from aebnas.training.gates import annealed, handed_on, hard_gate, soft_gate
from aebnas.training.settings import CgtSettings

LABELS = torch.tensor([0, 0, 0])
INDEX = torch.arange(3)
PLAIN = CgtSettings(tau=0.8, floor=0.0, normalise=False)


def logits_of(*probabilities):
    """Exits of two classes that give label 0 these probabilities: one row per exit, one column per sample."""
    p = torch.tensor(probabilities)
    return list(torch.stack([p, 1 - p], dim=2).log())


# The first exit is right and sure of sample 0, right but unsure of sample 1, wrong and sure of sample 2.
SAID = logits_of((0.9, 0.6, 0.1), (0.5, 0.95, 0.6), (0.99, 0.99, 0.99))


def test_a_hard_gate_closes_behind_an_exit_that_is_right_and_sure():
    gates = hard_gate(build_confidence("max-probability"), PLAIN)(SAID, LABELS, INDEX)
    assert gates.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]


def test_a_hard_gate_goes_by_the_measure_it_is_given():
    # Margins are 0.8, 0.2 and 0.8 at the first exit; 0, 0.9 and 0.2 at the second.
    margins = hard_gate(build_confidence("margin"), PLAIN.model_copy(update={"tau": 0.85}))
    assert margins(SAID, LABELS, INDEX).tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 1]]
    # After two exits that agree patience is 2/8; sample 0 is a tie at the second exit, which says 0 as well.
    patience = hard_gate(build_confidence("patience"), PLAIN.model_copy(update={"tau": 0.2}))
    assert patience(SAID, LABELS, INDEX).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("residual", ["probability", "sigmoid"])
def test_soft_gates_are_products_of_residuals(residual):
    settings = PLAIN.model_copy(update={"residual": residual, "sharpness": 12.0})
    gates = soft_gate(settings)(SAID, LABELS, INDEX)

    def left(p):
        return 1 - p if residual == "probability" else 1 - 1 / (1 + np.exp(-12.0 * (p - 0.8)))

    first, second = (np.array(p) for p in ((0.9, 0.6, 0.1), (0.5, 0.95, 0.6)))
    by_hand = np.stack([np.ones(3), left(first), left(first) * left(second)])
    np.testing.assert_allclose(gates.numpy(), by_hand, rtol=1e-4, atol=1e-6)


def test_soft_gates_go_by_the_label_not_by_the_prediction():
    settings = PLAIN.model_copy(update={"residual": "probability"})
    gates = soft_gate(settings)(SAID, torch.tensor([1, 1, 1]), INDEX)
    np.testing.assert_allclose(gates[1].numpy(), [0.9, 0.6, 0.1], rtol=1e-4)


def test_floor_and_scale_by_hand():
    residuals = torch.tensor([[0.0, 0.5], [1.0, 0.5], [1.0, 1.0]])
    floored = torch.tensor([[1.01, 1.01], [0.01, 0.51], [0.01, 0.26]])
    settings = CgtSettings(floor=0.01, normalise=False)
    torch.testing.assert_close(handed_on(residuals, settings), floored)
    scaled = handed_on(residuals, CgtSettings(floor=0.01))
    torch.testing.assert_close(scaled, floored * 3 / torch.tensor([1.03, 1.78]))


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_gates_have_mean_one_per_sample_and_fall_with_depth(residuals):
    gates = handed_on(torch.tensor(residuals), CgtSettings())
    torch.testing.assert_close(gates.mean(0), torch.ones(4))
    assert (gates.diff(dim=0) <= 1e-6).all()
    assert (gates > 0).all()


def test_gates_carry_no_gradient():
    logits = [z.clone().requires_grad_() for z in SAID]
    for gate in (hard_gate(build_confidence("entropy"), PLAIN), soft_gate(PLAIN)):
        assert not gate(logits, LABELS, INDEX).requires_grad


def test_annealing_goes_from_the_first_exits_to_the_last():
    assert annealed(3, 0.0) == (1.5, 1.0, 0.5)
    assert annealed(3, 0.5) == (1.0, 1.0, 1.0)
    assert annealed(3, 1.0) == (0.5, 1.0, 1.5)
