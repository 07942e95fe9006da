from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from aebnas.branches.build import Branch, build_branch
from aebnas.branches.linked import LinkedBranch, build_exit
from aebnas.branches.spec import BranchSpec

SHAPE, CLASSES = (6, 4, 4), 5


def linked(cascade: str) -> LinkedBranch:
    torch.manual_seed(0)
    made = build_exit(BranchSpec("a"), SHAPE, CLASSES, cascade, first=False)
    assert isinstance(made, LinkedBranch)
    return made.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, *SHAPE, generator=generator), 3 * torch.randn(7, CLASSES, generator=generator)


def test_the_first_exit_and_exits_without_a_cascade_hear_nobody():
    assert isinstance(build_exit(BranchSpec("a"), SHAPE, CLASSES, "both", first=True), Branch)
    assert isinstance(build_exit(BranchSpec("a"), SHAPE, CLASSES, "none", first=False), Branch)


@pytest.mark.parametrize("cascade", ["inputs", "ensemble", "both"])
def test_the_branch_inside_is_the_branch_alone(cascade):
    torch.manual_seed(0)
    alone = build_branch(BranchSpec("a"), SHAPE, CLASSES)
    inside = linked(cascade).branch
    assert inside.spec == linked(cascade).spec == BranchSpec("a")
    for own, other in zip(inside.parameters(), alone.parameters(), strict=True):
        assert torch.equal(own, other)


def test_cascade_inputs_are_the_same_as_a_wider_last_linear_layer():
    made, (features, previous) = linked("inputs"), inputs()
    with torch.no_grad():
        made.inputs.weight.normal_()
        *body, last = made.branch[-1]
        hidden = features
        for layer in body:
            hidden = layer(hidden)
        wide = torch.cat([last.weight, made.inputs.weight], dim=1)
        expected = F.linear(torch.cat([hidden, previous.softmax(1)], dim=1), wide, last.bias)
        torch.testing.assert_close(made(features, previous), expected)


def test_an_ensemble_begins_as_the_plain_geometric_mean():
    made, (features, previous) = linked("ensemble"), inputs()
    with torch.no_grad():
        own, before = made.branch(features).double().softmax(1), previous.double().softmax(1)
        product = (own * before).sqrt()
        expected = product / product.sum(1, keepdim=True)
        torch.testing.assert_close(made(features, previous).softmax(1).double(), expected, atol=1e-6, rtol=1e-5)


def test_the_weights_of_an_ensemble_are_exponents():
    made, (features, previous) = linked("ensemble"), inputs()
    with torch.no_grad():
        made.weights.copy_(torch.tensor([0.3, -1.0]))
        own, before = F.softplus(made.weights.double())
        product = made.branch(features).double().softmax(1) ** own * previous.double().softmax(1) ** before
        expected = product / product.sum(1, keepdim=True)
        torch.testing.assert_close(made(features, previous).softmax(1).double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cascade", ["inputs", "ensemble", "both"])
def test_no_gradient_flows_into_the_exit_before(cascade):
    made, (features, previous) = linked(cascade), inputs()
    previous.requires_grad_()
    F.cross_entropy(made(features, previous), torch.zeros(7, dtype=torch.long)).backward()
    assert previous.grad is None
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_both_adds_the_input_before_it_averages():
    made, (features, previous) = linked("both"), inputs()
    with torch.no_grad():
        made.inputs.weight.normal_()
        alone = made.branch(features) + previous.softmax(1) @ made.inputs.weight.T
        expected = 0.5 * alone.log_softmax(1) + 0.5 * previous.log_softmax(1)
        torch.testing.assert_close(made(features, previous), expected)
