"""Batch-norm layers of a momentum for epochs of thousands of steps, as MobileNetV3 and MnasNet of torchvision have."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aebnas.backbones.build import build_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.errors import TrainingError
from aebnas.progress import Progress
from aebnas.searching.plan import Plan
from aebnas.training.backbone import train_backbone
from aebnas.training.batch_norm import may_lag, statistics_that_follow
from aebnas.training.candidates import train_network
from aebnas.training.settings import BackboneFitSettings, FitSettings, RegimeSettings

CPU = torch.device("cpu")
SLOW = 3e-4


def slowed(module):
    """Give the layers of ``module`` a small momentum; return all momenta that are seen while they train."""
    seen = set()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = SLOW
            layer.register_forward_hook(lambda one, *_: seen.add(one.momentum) if one.training else None)
    return seen


def momenta(module):
    return {layer.momentum for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)}


@pytest.fixture
def backbone(prepared):
    return copy.deepcopy(prepared.backbone)


@pytest.fixture
def initial(prepared):
    """Weights before training, with statistics as far off as those of a deep network."""
    return {name: value + 5 if name.endswith("running_mean") else value for name, value in prepared.initial.items()}


def train(name, backbone, prepared, initial, epochs=2, branches=(), **settings):
    specs = branches or [BranchSpec(backbone.attach_points[0].name)]
    return train_network(
        specs,
        backbone,
        prepared.data,
        RegimeSettings(name=name, training=FitSettings(batch_size=32, lr=0.03), **settings),
        epochs,
        initial=initial,
        teacher=None,
        samples=None,
        seed=0,
        device=CPU,
    )


def test_statistics_of_a_backbone_that_is_trained_follow(toy_data):
    torch.manual_seed(0)
    settings = BackboneSettings(name="convnet", options={"depth": 3, "width": 4})
    model = build_backbone(settings, num_classes=4, input_shape=(1, 8, 8))
    seen = slowed(model)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(5.0)
    settings = BackboneFitSettings(epochs=5, batch_size=32, lr=0.1)
    result = train_backbone(model, toy_data, settings, seed=0, device=CPU, progress=Progress())
    assert result.best[0] > 0.5
    assert (seen, momenta(model)) == ({0.1}, {SLOW})


def test_a_whole_network_that_is_trained_from_scratch_gets_what_a_backbone_gets(backbone, prepared, initial):
    seen = slowed(backbone)
    network, (result,) = train("joint", backbone, prepared, initial, epochs=5)
    assert seen == {0.1}
    assert result.best[-1] > 0.5
    assert momenta(network.backbone) == {SLOW}


@pytest.mark.parametrize("name", ["cgt-hard", "cgt-soft", "sequential"])
def test_so_do_all_regimes_that_start_from_scratch(backbone, prepared, initial, name):
    seen = slowed(backbone)
    train(name, backbone, prepared, initial, start="initial")
    assert seen == {0.1}


@pytest.mark.parametrize(("name", "settings"), [("mixed", {}), ("joint", {"start": "trained"}), ("sequential", {})])
def test_what_is_trained_already_goes_on_as_it_is(backbone, prepared, initial, name, settings):
    seen = slowed(backbone)
    train(name, backbone, prepared, initial, **settings)
    assert seen == {SLOW}


def test_a_training_that_fails_leaves_them_as_they_were(backbone, prepared):
    slowed(backbone)
    settings = BackboneFitSettings(epochs=1, lr=1e38, schedule="constant")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train_backbone(backbone.model, prepared.data, settings, seed=0, device=CPU, progress=Progress())
    assert momenta(backbone) == {SLOW}


def test_statistics_are_left_as_they_are_in_long_epochs():
    layer, cumulative = nn.BatchNorm2d(2, momentum=0.01), nn.BatchNorm2d(2, momentum=None)
    with statistics_that_follow([layer, cumulative], 8):
        assert layer.momentum == 0.1
        assert cumulative.momentum is None
    with statistics_that_follow([layer], 1000):
        assert layer.momentum == 0.01
    assert may_lag(layer, 8)
    assert not may_lag(layer, 1000)
    assert not may_lag(nn.Sequential(cumulative, nn.BatchNorm2d(2), nn.Linear(2, 2)), 8)


def test_only_networks_that_became_others_have_other_keys(toy_experiment):
    spec, experiment = NetworkSpec((BranchSpec("a"),), regime="joint"), toy_experiment()
    key, lagging = (
        Plan(spec, "search", experiment.of_network(spec), "data", lags).network_key for lags in (False, True)
    )
    assert key != lagging
    for regime in ("mixed", "disjoint"):
        spec = NetworkSpec((BranchSpec("a"),), regime=regime)
        plans = [Plan(spec, "search", experiment.of_network(spec), "data", lags) for lags in (False, True)]
        assert plans[0].context == plans[1].context
