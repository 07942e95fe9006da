"""Penalties and boxes that keep earlier exits, in closed form."""

from __future__ import annotations

import copy

import pytest
import torch

from aebnas.exits.confidence import build_confidence
from aebnas.network import EarlyExitNetwork
from aebnas.training.gradients import first_exits
from aebnas.training.losses import distillation_loss
from aebnas.training.protection import (
    LARGEST_REACH,
    Boxes,
    ElasticWeights,
    Protection,
    Scene,
    WithoutForgetting,
    protection_of,
)
from aebnas.training.settings import SequentialSettings

CPU = torch.device("cpu")


@pytest.fixture
def scene(prepared, specs):
    torch.manual_seed(0)
    network = EarlyExitNetwork(copy.deepcopy(prepared.backbone), specs).eval().requires_grad_(False)
    data = prepared.data
    return Scene(network, data.train, data.validation, build_confidence("max-probability"), CPU, seed=3)


@pytest.fixture
def images(prepared):
    return next(iter(prepared.data.train.batches(16))).images


def weights_of(scene):
    return dict(scene.network.backbone.named_parameters())


def shake(scene, size=0.1):
    """Move every weight of the backbone, as training would; return by how much."""
    random = torch.Generator().manual_seed(1)
    moved = {name: size * torch.randn(w.shape, generator=random) for name, w in weights_of(scene).items()}
    for name, weight in weights_of(scene).items():
        weight.data += moved[name]
    return moved


class Noted(ElasticWeights):
    def note(self, fisher, anchors):
        super().note(fisher, anchors)
        self.fisher, self.anchors = fisher, anchors


def test_the_elastic_penalty_is_zero_at_the_anchor(scene, images):
    protection = ElasticWeights(10.0, samples=8)
    assert protection.penalty(images, []) is None  # before any exit was trained
    protection.remember(scene, 0)
    assert float(protection.penalty(images, [])) == 0.0


def test_the_elastic_penalty_and_its_gradient_in_closed_form(scene, images):
    protection = Noted(10.0, samples=8)
    protection.remember(scene, 0)
    first = (protection.fisher, protection.anchors)
    early = shake(scene)
    protection.remember(scene, 1)
    second = (protection.fisher, protection.anchors)
    late = shake(scene, 0.2)
    weights = weights_of(scene)
    for weight in weights.values():
        weight.requires_grad_(True)
    penalty = protection.penalty(images, [])
    penalty.backward()
    total = 0.0
    for name, weight in weights.items():
        expected = torch.zeros_like(weight)
        for fisher, moved in ((first[0], early[name] + late[name]), (second[0], late[name])):
            if name in fisher:
                total += 5.0 * float((fisher[name] * moved.square()).sum())
                expected += 10.0 * fisher[name] * moved
        torch.testing.assert_close(torch.zeros_like(weight) if weight.grad is None else weight.grad, expected)
    assert penalty.item() == pytest.approx(total, rel=1e-4)
    # What only later exits need is not held.
    assert set(first[0]) < set(second[0]) < set(weights)
    torch.testing.assert_close(
        second[1]["model.features.0.weight"],
        weights["model.features.0.weight"].detach() - late["model.features.0.weight"],
    )


def test_the_information_is_that_of_drawn_labels_on_a_seeded_choice(scene):
    one, same, other = Noted(1.0, 8), Noted(1.0, 8), Noted(1.0, 9)
    for protection in (one, same, other):
        protection.remember(scene, 1)
    assert all(torch.equal(one.fisher[name], same.fisher[name]) for name in one.fisher)
    assert not all(torch.equal(one.fisher[name], other.fisher[name]) for name in one.fisher)
    assert not any(p.requires_grad for p in scene.network.parameters())


def test_more_samples_than_there_are_take_all(scene):
    protection = Noted(1.0, 10_000)
    protection.remember(scene, 0)
    assert protection.fisher


def test_without_forgetting_nothing_is_lost_while_nothing_moves(scene, images):
    protection = WithoutForgetting(3.0, temperature=2.0)
    protection.begin(scene, 2)
    assert float(protection.penalty(images, first_exits(scene.network, 3)(images))) == pytest.approx(0.0, abs=1e-6)


def test_without_forgetting_by_hand(scene, images):
    before = [z.clone() for z in scene.network(images)]
    protection = WithoutForgetting(3.0, temperature=2.0)
    protection.begin(scene, 2)
    shake(scene)
    now = scene.network(images)
    by_hand = 3.0 * sum(distillation_loss(now[exit_], before[exit_], 2.0).mean() for exit_ in (0, 1))
    assert float(by_hand) > 0.01
    assert float(protection.penalty(images, now)) == pytest.approx(float(by_hand), rel=1e-5)


def test_without_forgetting_takes_a_new_snapshot_for_every_step(scene, images):
    protection = WithoutForgetting(1.0, temperature=2.0)
    protection.begin(scene, 0)
    assert protection.penalty(images, scene.network(images)) is None  # there is nothing to forget yet
    protection.begin(scene, 1)
    shake(scene)
    protection.begin(scene, 2)
    assert float(protection.penalty(images, scene.network(images))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_a_projected_weight_never_leaves_its_boxes(scene, size):
    protection = Boxes(3.0, samples=8)
    anchors = []
    for exit_ in (0, 1):
        protection.remember(scene, exit_)
        anchors.append({name: weights_of(scene)[name].clone() for name in protection.boxes})
        shake(scene, size)
        protection.project()
        for name, weight in weights_of(scene).items():
            if name in protection.boxes:
                low, high = protection.boxes[name]
                assert (low <= weight).all()
                assert (weight <= high).all()
                for anchor in anchors:  # the box of the first exit holds in the second step as well
                    if name in anchor:
                        assert (weight - anchor[name]).abs().max() <= LARGEST_REACH + 1e-5


def test_sides_of_boxes_by_hand(scene):
    protection, noted = Boxes(6.0, samples=8), Noted(1.0, samples=8)
    protection.remember(scene, 0)
    noted.remember(scene, 0)
    start = {name: w.clone() for name, w in weights_of(scene).items()}
    count = sum(weights_of(scene)[name].numel() for name in protection.boxes)
    worst = 0.0
    for name, (low, high) in protection.boxes.items():
        fisher = noted.fisher[name].flatten().tolist()
        least = sum(fisher) / len(fisher)
        reach = [min(6.0 / count / max(f, least) ** 0.5, LARGEST_REACH) if least else LARGEST_REACH for f in fisher]
        torch.testing.assert_close((high - start[name]).flatten(), torch.tensor(reach), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close((start[name] - low).flatten(), torch.tensor(reach), atol=1e-5, rtol=1e-3)
        worst += sum(r * f**0.5 for r, f in zip(reach, fisher, strict=True))
    assert worst <= 6.0 + 1e-4  # nats, if all weights went to the worst corner


def test_within_a_box_nothing_is_put_back(scene):
    protection = Boxes(6.0, samples=8)
    protection.remember(scene, 0)
    start = {name: w.clone() for name, w in weights_of(scene).items()}
    small = {name: 0.5 * (high - start[name]) for name, (_, high) in protection.boxes.items()}
    for name, step in small.items():
        weights_of(scene)[name].data += step
    protection.project()
    for name, step in small.items():
        torch.testing.assert_close(weights_of(scene)[name].data, start[name] + step)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none", Protection),
        ("frozen", Protection),
        ("ewc", ElasticWeights),
        ("lwf", WithoutForgetting),
        ("interval", Boxes),
    ],
)
def test_protections_by_name(name, kind):
    assert type(protection_of(SequentialSettings(protection=name))) is kind


@pytest.mark.parametrize("name", ["ewc", "lwf"])
def test_the_strength_scales_the_penalty(scene, images, name):
    penalties = []
    state = copy.deepcopy(scene.network.state_dict())
    for strength in (1.0, 4.0, 0.0):
        scene.network.load_state_dict(state)
        protection = protection_of(SequentialSettings(protection=name, strength=strength, fisher_samples=8))
        protection.remember(scene, 0)
        protection.begin(scene, 1)
        shake(scene)
        penalties.append(float(protection.penalty(images, scene.network(images))))
    assert penalties[1] == pytest.approx(4 * penalties[0], rel=1e-5)
    assert penalties[2] == 0.0
