"""One contract that every regime keeps, and what each of the three is."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import ExperimentError, TrainingError
from aebnas.training.candidates import forgetting, train_network
from aebnas.training.fit import logits_of
from aebnas.training.objective import Objective
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings, RegimeSettings

CPU = torch.device("cpu")
MOVING = ("joint", "mixed", "cgt-hard", "cgt-soft")


@pytest.fixture(params=["labels", "backbone"])
def target(request):
    return request.param


@pytest.fixture(params=list(REGIMES))
def regime(request):
    return request.param


@pytest.fixture
def train(prepared, specs):
    def run(
        name,
        target="labels",
        *,
        data=prepared.data,
        initial=prepared.initial,
        epochs=3,
        seed=0,
        samples=None,
        **training,
    ):
        settings = RegimeSettings(
            name=name, target=target, training=FitSettings(**{"batch_size": 32, "lr": 0.03, **training})
        )
        teacher = None
        if target == "backbone":
            (teacher,) = logits_of(lambda x: [prepared.backbone(x)], prepared.data.train, CPU)
        return train_network(
            specs,
            prepared.backbone,
            data,
            settings,
            epochs,
            initial=initial,
            teacher=teacher,
            samples=samples,
            seed=seed,
            device=CPU,
        )

    return run


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def with_images(data, images):
    return dataclasses.replace(data, train=TensorSplit(images, data.train.labels, identity(1)))


def preprocessed(split):
    return torch.cat([batch.images for batch in split.batches(512)])


def test_the_same_seed_gives_the_same_network(train, regime, target):
    (one, first), (other, second) = train(regime, target), train(regime, target)
    assert same(state(one), state(other))
    assert first == second
    assert not same(state(one), state(train(regime, target, seed=1)[0]))


def test_the_prepared_backbone_is_never_touched(train, prepared, regime):
    before = state(prepared.backbone)
    train(regime)
    assert same(state(prepared.backbone), before)
    assert not any(module.training for module in prepared.backbone.modules())


def test_parts_that_no_phase_moves_are_the_same_bit_by_bit(train, prepared, regime):
    network, _ = train(regime)
    frozen = REGIMES[regime].freezes_backbone
    assert same(state(network.backbone), state(prepared.backbone)) == frozen
    if frozen:
        images = preprocessed(prepared.data.validation)
        assert torch.equal(network(images)[-1], prepared.backbone(images))


@pytest.mark.parametrize("regime", [name for name in REGIMES if name != "sequential"])
def test_the_loss_falls(train, prepared, regime, target):
    """But where later steps may harm earlier exits: what they do is told apart in the contract suite."""
    (teacher,) = logits_of(lambda x: [prepared.backbone(x)], prepared.data.train, CPU)
    objective = Objective((1.0, 1.0, 1.0), teacher if target == "backbone" else None)
    losses = []
    for lr, epochs in ((1e-9, 1), (0.03, 6)):
        network, _ = train(regime, target, lr=lr, epochs=epochs)
        logits = logits_of(network, prepared.data.train, CPU)
        losses.append(float(objective(logits, prepared.data.train.labels, torch.arange(len(teacher)))))
    assert losses[1] < 0.8 * losses[0]


def test_branches_learn(train, regime):
    _, results = train(regime, epochs=9)
    after = [right_after for right_after, _ in forgetting(results)] or results[-1].best
    assert min(after) > 0.5  # of four classes


def test_a_sample_that_is_not_finite_is_refused(train, prepared, regime, target):
    images = preprocessed(prepared.data.train)
    images[17, 0, 3, 3] = torch.nan
    with pytest.raises(TrainingError, match=r"not finite|nan"):
        train(regime, target, data=with_images(prepared.data, images))


def test_an_absurd_learning_rate_is_refused(train, regime, target):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(regime, target, lr=1e38, schedule="constant", optimizer="sgd")


def test_a_trained_network_has_the_branches_that_were_asked_for(train, specs, regime):
    network, _ = train(regime, epochs=1)
    assert list(network.specs) == specs
    assert not network.training


def test_a_network_survives_saving_and_loading(train, prepared, regime):
    """What is trained is what is stored: a copied backbone whose segments moved alone would not be."""
    network, _ = train(regime)
    images = preprocessed(prepared.data.validation)
    fresh, _ = train(regime, seed=5, epochs=1)
    fresh.load_state_dict(network.state_dict())
    for ours, theirs in zip(network(images), fresh(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", MOVING)
def test_a_regime_that_moves_the_backbone_moves_all_of_it(train, prepared, name):
    network, _ = train(name)
    before, after = state(prepared.backbone), state(network.backbone)
    assert [key for key in before if torch.equal(before[key], after[key])] == []


STILL = {"lr": 1e-12, "weight_decay": 0.0, "epochs": 1}  # too small a step to see: weights are those of the start


def test_mixed_starts_from_the_trained_weights_and_joint_from_those_before(train, prepared):
    for seed in (0, 1):  # whatever the seed of this network
        for name, start in (("mixed", prepared.backbone.model.state_dict()), ("joint", prepared.initial)):
            moved = dict(train(name, seed=seed, **STILL)[0].backbone.model.named_parameters())
            assert moved.keys() <= start.keys()
            for key, weights in moved.items():
                torch.testing.assert_close(weights, start[key], rtol=0, atol=1e-8)
    trained = dict(prepared.backbone.model.named_parameters())
    assert not any(torch.allclose(weights, prepared.initial[key]) for key, weights in trained.items())


def test_joint_starts_a_backbone_that_came_trained_from_fresh_weights(train, prepared):
    one, same_seed, other = (train("joint", seed=seed, initial=None, **STILL)[0].backbone for seed in (0, 0, 1))
    assert same(state(one), state(same_seed))
    trained, fresh, different = (state(body.model) for body in (prepared.backbone, one, other))
    convolutions = [name for name in fresh if fresh[name].dim() == 4]
    assert convolutions
    assert not any(torch.allclose(fresh[name], trained[name]) for name in convolutions)
    assert not any(torch.equal(fresh[name], different[name]) for name in convolutions)


@pytest.mark.parametrize("regime", [name for name in REGIMES if not name.startswith("cgt")])
def test_labels_do_not_matter_where_the_backbone_is_the_target(train, prepared, regime):
    """But for gates, which open and close by them."""
    data = prepared.data
    shuffled = TensorSplit(data.train.images, data.train.labels.flip(0), data.train.preprocessing)
    one, _ = train(regime, "backbone", epochs=1)
    other, _ = train(regime, "backbone", epochs=1, data=dataclasses.replace(data, train=shuffled))
    assert same(state(one), state(other))


@pytest.mark.parametrize("samples", [40, 97])
def test_a_limited_split_keeps_its_teacher(train, prepared, regime, samples):
    """Fewer samples with the backbone as target: the same as giving those samples and their teacher alone."""
    rows = torch.randperm(len(prepared.data.train), generator=torch.Generator().manual_seed(0))[:samples].sort().values
    data = dataclasses.replace(prepared.data, train=prepared.data.train.subset(rows))
    (teacher,) = logits_of(lambda x: [prepared.backbone(x)], data.train, CPU)
    settings = RegimeSettings(name=regime, target="backbone", training=FitSettings(batch_size=32, lr=0.03))
    limited, _ = train(regime, "backbone", samples=samples, epochs=1)
    alone, _ = train_network(
        limited.specs,
        prepared.backbone,
        data,
        settings,
        1,
        initial=prepared.initial,
        teacher=teacher,
        samples=None,
        seed=0,
        device=CPU,
    )
    for one, other in zip(limited.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_which_parts_the_regimes_move():
    settings = RegimeSettings(weighting="linear")
    (alone,) = REGIMES["disjoint"].phases(2, settings)
    assert (alone.branches, alone.depth, alone.exit_weights) == ((0, 1), 0, (1.0, 1.0, 0.0))
    for name in MOVING:
        (together,) = REGIMES[name].phases(2, settings)
        assert (together.branches, together.depth, together.exit_weights) == ((0, 1), 3, (0.5, 1.0, 1.5))
    in_order = REGIMES["calex"].phases(2, settings)
    assert [(phase.branches, phase.depth, phase.exit_weights) for phase in in_order] == [
        ((0,), 0, (1.0, 0.0, 0.0)),
        ((1,), 0, (0.0, 1.0, 0.0)),
    ]
    steps = REGIMES["sequential"].phases(2, settings)
    assert [(phase.branches, phase.depth, phase.still, phase.exit_weights) for phase in steps] == [
        ((0,), 1, 0, (1.0, 0.0, 0.0)),
        ((1,), 2, 1, (0.0, 1.0, 0.0)),
        ((), 3, 2, (0.0, 0.0, 1.0)),
    ]
    starts = {name: REGIMES[name].starts(settings) for name in REGIMES}
    assert sorted(name for name, start in starts.items() if start == "initial") == ["cgt-hard", "cgt-soft", "joint"]
    assert [name for name in REGIMES if REGIMES[name].freezes_backbone] == ["disjoint", "calex"]


def test_an_unknown_regime_names_the_nearest():
    with pytest.raises(ExperimentError, match="did you mean 'joint'"):
        REGIMES["jiont"]
