"""How gradients meet, against gradients that are computed exit by exit."""

from __future__ import annotations

import pytest
import torch

from aebnas.network import EarlyExitNetwork
from aebnas.training.gradients import factors, first_exits, with_gradient


@pytest.fixture
def network(prepared, specs):
    torch.manual_seed(0)
    # Weights get gradients only here: the prepared backbone is everybody's.
    made = EarlyExitNetwork(prepared.backbone, specs).eval()
    made.requires_grad_(True)
    yield made
    made.requires_grad_(False)


@pytest.fixture
def images(prepared):
    return next(iter(prepared.data.train.batches(16))).images


def gradients(network, logits, weights):
    """Gradients of the weighted sum over exits of a loss, by name; None where a weight has no part in it."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    total = sum(weight * z.square().mean() for weight, z in zip(weights, logits, strict=True))
    return dict(zip(names, torch.autograd.grad(total, parameters, allow_unused=True), strict=True))


def segments_of(network):
    """Which segment, from 0, every weight of the backbone lies in."""
    place = {}
    for number, segment in enumerate(network.parts()[0]):
        for parameter in segment.parameters():
            place[id(parameter)] = number
    return {name: place[id(p)] for name, p in network.named_parameters() if id(p) in place}


def exit_by_exit(network, images):
    """Gradients of every exit alone."""
    count = len(network.branches) + 1
    return [
        gradients(network, network(images), [float(other == number) for other in range(count)])
        for number in range(count)
    ]


@pytest.mark.parametrize("rule", ["equilibrium", "boostnet"])
def test_every_segment_gets_the_mean_of_the_gradients_of_the_exits_behind_it(network, images, rule):
    alone = exit_by_exit(network, images)
    ours = gradients(network, first_exits(network, 3, rule)(images), [1.0, 1.0, 1.0])
    for name, segment in segments_of(network).items():
        behind = [exit_[name] for exit_ in alone[segment:]]
        torch.testing.assert_close(ours[name], torch.stack(behind).mean(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("rule", ["equilibrium", "boostnet"])
def test_what_is_not_shared_keeps_its_gradient(network, images, rule):
    plain = gradients(network, network(images), [1.0, 1.0, 1.0])
    ours = gradients(network, first_exits(network, 3, rule)(images), [1.0, 1.0, 1.0])
    own = [name for name in ours if name.startswith(("branches", "backbone.model.head"))]
    assert own
    for name in own:
        torch.testing.assert_close(ours[name], plain[name])


def test_both_rules_are_one():
    for exits in range(1, 6):
        for exit_ in range(exits):
            assert factors("equilibrium", exit_, exits) == factors("boostnet", exit_, exits)
            left = exits - exit_
            assert factors("boostnet", exit_, exits) == pytest.approx((1 / left, 1 - 1 / left))
            assert factors("sum", exit_, exits) == (1.0, 1.0)


@pytest.mark.parametrize("rule", ["sum", "equilibrium", "boostnet"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_exits_are_those_of_the_whole_network(network, images, rule, count):
    for ours, whole in zip(first_exits(network, count, rule)(images), network(images)[:count], strict=True):
        assert torch.equal(ours, whole)


@pytest.mark.parametrize("cascade", ["inputs", "ensemble", "both"])
def test_cascaded_exits_hear_the_one_before(prepared, specs, images, cascade):
    torch.manual_seed(1)
    network = EarlyExitNetwork(prepared.backbone, specs, cascade).eval()
    for parameter in network.branches.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for ours, whole in zip(first_exits(network, 3)(images), network(images), strict=True):
        assert torch.equal(ours, whole)


def test_only_what_leads_to_the_first_exits_runs(network, images):
    network.backbone.segments[-1].forward = None  # would fail if it were called
    try:
        assert len(first_exits(network, 2)(images)) == 2
    finally:
        del network.backbone.segments[-1].forward


def test_a_scaled_gradient_belongs_to_the_same_values():
    x = torch.randn(4, requires_grad=True)
    y = with_gradient(x, 0.25)
    assert torch.equal(x, y)
    y.sum().backward()
    assert x.grad.tolist() == [0.25] * 4
