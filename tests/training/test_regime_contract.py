"""What every regime and every protection must do: a new one is tested by being registered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import TrainingError
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession
from aebnas.progress import Stage
from aebnas.training import candidates
from aebnas.training.candidates import train_network
from aebnas.training.fit import logits_of
from aebnas.training.losses import distillation_loss, label_loss
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings, RegimeSettings, SequentialSettings

CPU = torch.device("cpu")
PROTECTIONS = ("none", "frozen", "ewc", "lwf", "interval")
assert set(PROTECTIONS) == set(SequentialSettings.model_fields["protection"].annotation.__args__)

# Name of the case -> settings of the regime, and the cascade.
CASES = {name: ({"name": name}, "none") for name in REGIMES}
CASES |= {
    f"sequential-{kind}": ({"name": "sequential", "sequential": {"protection": kind, "fisher_samples": 24}}, "none")
    for kind in PROTECTIONS[1:]
}
CASES |= {
    "sequential-from-scratch": ({"name": "sequential", "start": "initial"}, "none"),
    "sequential-moving-statistics": ({"name": "sequential", "sequential": {"batch_norm": "train"}}, "none"),
    "joint-learns-from-its-end": ({"name": "joint", "target": "final", "distillation": 0.5}, "none"),
    "joint-equilibrium-ramp": ({"name": "joint", "gradients": "equilibrium", "weighting": "ramp"}, "none"),
    "mixed-one-vs-all": ({"name": "mixed", "loss": "one-vs-all", "weighting": "branchynet"}, "none"),
    "cgt-hard-annealed": ({"name": "cgt-hard", "cgt": {"anneal": True, "tau": 0.5}}, "none"),
    "disjoint-cascade": ({"name": "disjoint"}, "both"),
    "calex-cascade": ({"name": "calex"}, "inputs"),
    "joint-cascade": ({"name": "joint"}, "ensemble"),
    "sequential-cascade": ({"name": "sequential", "sequential": {"protection": "lwf"}}, "both"),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    return request.param


@pytest.fixture(scope="module")
def train(prepared, specs):
    def run(case, *, data=prepared.data, epochs=3, seed=0, stage=None, **training):
        values, cascade = CASES[case]
        settings = RegimeSettings(**values, training=FitSettings(**{"batch_size": 32, "lr": 0.03, **training}))
        return train_network(
            specs,
            prepared.backbone,
            data,
            settings,
            epochs,
            initial=prepared.initial,
            teacher=None,
            samples=None,
            seed=seed,
            device=CPU,
            stage=stage,
            cascade=cascade,
        )

    return run


@pytest.fixture(scope="module")
def trained(train, case):
    """The network of a case and the results of its phases; not to be changed."""
    return train(case)


@pytest.fixture
def watched(monkeypatch):
    """Let a function see every fit: it is called before with its arguments, and what it returns after the fit."""
    real = candidates.fit

    def watch(look):
        def spy(trainee, *arguments, **options):
            after = look(trainee, *arguments, **options)
            result = real(trainee, *arguments, **options)
            after()
            return result

        monkeypatch.setattr(candidates, "fit", spy)

    return watch


def state(module):
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def preprocessed(split):
    return torch.cat([batch.images for batch in split.batches(512)])


def with_labels(data, keep):
    """The same data, whose training split has the samples with these labels only."""
    rows = torch.isin(data.train.labels, torch.tensor(keep)).nonzero()[:, 0]
    return dataclasses.replace(data, train=data.train.subset(rows))


def test_the_same_seed_gives_the_same_network_and_leaves_the_prepared_one_alone(train, trained, prepared, case):
    before = state(prepared.backbone)
    again, results = train(case)
    assert same(state(again), state(trained[0]))
    assert results == trained[1]
    assert not same(state(again), state(train(case, seed=1, epochs=1)[0]))
    assert same(state(prepared.backbone), before)
    assert not any(module.training for module in prepared.backbone.modules())
    assert not any(parameter.grad is not None for parameter in prepared.backbone.parameters())


def test_what_a_phase_does_not_move_stays_bit_for_bit(train, watched, case):
    moved_at_all = []

    def look(trainee, *_, **__):
        before = state(trainee.module)
        moving = {id(tensor) for part in trainee.moving for tensor in (*part.parameters(), *part.buffers())}
        still = {id(buffer) for part in trainee.still for buffer in part.buffers()}

        def after():
            now = state(trainee.module)
            for name, tensor in trainee.module.state_dict(keep_vars=True).items():
                if id(tensor) not in moving or id(tensor) in still:
                    assert torch.equal(now[name], before[name]), name
            moved_at_all.append(any(not torch.equal(now[name], before[name]) for name in now))

        return after

    watched(look)
    train(case)
    assert moved_at_all
    assert all(moved_at_all)


def test_a_frozen_backbone_says_the_same_at_the_end(trained, prepared, case):
    values, _ = CASES[case]
    network, _ = trained
    frozen = REGIMES[values["name"]].freezes_backbone or case == "sequential-frozen"
    assert same(state(network.backbone), state(prepared.backbone)) == frozen
    if frozen:
        images = preprocessed(prepared.data.validation)
        assert torch.equal(network(images)[-1], prepared.backbone(images))


def test_the_loss_of_what_a_phase_trains_falls_and_its_exits_learn(train, prepared, watched, case):
    values, _ = CASES[case]
    settings = RegimeSettings(**values)
    data = prepared.data.train
    (teacher,) = logits_of(lambda x: [prepared.backbone(x)], data, CPU)
    losses = []

    def mean_loss(trainee, objective):
        logits = logits_of(trainee.judged, data, CPU)
        trained = [z for z, weight in zip(logits, objective.weights, strict=False) if weight]
        if REGIMES[settings.name].target(settings) == "backbone":
            return float(torch.stack([distillation_loss(z, teacher, 4.0) for z in trained]).mean())
        return float(torch.stack([label_loss(z, data.labels, settings.loss) for z in trained]).mean())

    def look(trainee, _train, _validation, objective, *_, **__):
        trainee.module.eval()
        before = mean_loss(trainee, objective)
        return lambda: losses.append((before, mean_loss(trainee, objective)))

    watched(look)
    _, results = train(case, epochs=9)
    before, after = np.array(losses).sum(0)
    assert after < 0.8 * before
    for result in results:
        exits = range(len(result.best)) if result.added is None else [result.added]
        assert min(result.best[exit_] for exit_ in exits) > 0.5  # of four classes


class Interrupting(Stage):
    def __init__(self, samples):
        self.left = samples

    def advance(self, steps=1):
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_training_that_is_run_again_ends_as_if_nothing_had_been(train, trained, case):
    with pytest.raises(KeyboardInterrupt):
        train(case, stage=Interrupting(500))
    again, results = train(case)
    assert same(state(again), state(trained[0]))
    assert results == trained[1]


@pytest.mark.parametrize("keep", [[0, 2], [1]], ids=["half", "one"])
def test_classes_may_be_missing(train, prepared, case, keep):
    """From every batch, and from all of the training data; batches may have one sample."""
    network, _ = train(case, data=with_labels(prepared.data, keep), epochs=2)
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values() if tensor.is_floating_point())
    labels = network(preprocessed(prepared.data.validation))[-1].argmax(1)
    assert len(labels) == len(prepared.data.validation)


def test_batches_of_two_samples_will_do(train, prepared, case):
    few = dataclasses.replace(prepared.data, train=prepared.data.train.subset(torch.arange(7)))
    network, _ = train(case, data=few, epochs=1, batch_size=2, lr=1e-3)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_a_sample_that_is_not_finite_is_refused(train, prepared, case):
    images = preprocessed(prepared.data.train)
    images[17, 0, 3, 3] = torch.nan
    data = dataclasses.replace(prepared.data, train=TensorSplit(images, prepared.data.train.labels, identity(1)))
    with pytest.raises(TrainingError, match=r"not finite|nan"):
        train(case, data=data)


def test_an_absurd_learning_rate_is_refused(train, case):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(case, lr=1e38, schedule="constant", optimizer="sgd")


def test_a_trained_network_is_ready_and_survives_saving(train, trained, prepared, specs, case):
    network, _ = trained
    assert list(network.specs) == specs
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = preprocessed(prepared.data.validation)
    fresh, _ = train(case, seed=5, epochs=1)
    fresh.load_state_dict(network.state_dict())
    for ours, theirs in zip(network(images), fresh(images), strict=True):
        assert torch.equal(ours, theirs)


def test_the_exported_exits_agree_with_pytorch(trained, prepared, tmp_path):
    network, _ = trained
    segments, branches = network.parts()
    data = prepared.data
    export_network(
        tmp_path,
        segments=segments,
        branches=branches,
        policy=Policy("max-probability", (0.6, 0.6)),
        input_shape=data.input_shape,
        classes=data.classes,
        preprocessing=data.preprocessing.to_json(),
        costs={},
        extra={},
        backbone=nn.Sequential(*segments),
    )
    raw = data.validation.raw(32)
    logits, labels, _ = EarlyExitSession(tmp_path).all_exits(raw.numpy())
    expected = torch.stack(network(data.preprocessing.apply(raw)))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-3, rtol=1e-3)
    assert (labels == expected.argmax(2).numpy()).mean() > 0.99
