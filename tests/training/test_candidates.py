"""Single branches on kept features, and the parts that networks share with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aebnas.backbones.cut import cut_backbone
from aebnas.branches.build import Branch
from aebnas.branches.linked import LinkedBranch
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BranchError, TrainingError
from aebnas.network import EarlyExitNetwork
from aebnas.training import branches, candidates
from aebnas.training.candidates import limited, start_over, train_branch, train_network
from aebnas.training.fit import logits_of
from aebnas.training.regimes import Phase, Regime
from aebnas.training.settings import FitSettings, RegimeSettings

CPU = torch.device("cpu")
TRAINING = FitSettings(epochs=3, batch_size=32, lr=0.03)


@pytest.fixture
def branch_of(prepared, store):
    def run(spec, *, budget=1.0, target="labels", samples=None, seed=0, training=TRAINING):
        settings = RegimeSettings(target=target, training=training)
        features = store(budget)
        return train_branch(
            spec, features, prepared.backbone, settings, training, samples=samples, seed=seed, device=CPU
        )

    return run


def states_close(one, other, tolerance):
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("target", ["labels", "backbone"])
@pytest.mark.parametrize("samples", [None, 100])
@pytest.mark.parametrize("number", [0, 1])
def test_a_branch_alone_is_the_branch_of_a_disjoint_network(prepared, specs, branch_of, target, samples, number):
    """The oracle of the feature cache: the plain path, which runs the whole network for every batch."""
    alone = branch_of(specs[number], budget=0.0, target=target, samples=samples)
    (teacher,) = logits_of(lambda x: [prepared.backbone(x)], prepared.data.train, CPU)
    network, (result,) = train_network(
        [specs[number]],
        prepared.backbone,
        prepared.data,
        RegimeSettings(name="disjoint", target=target, training=TRAINING),
        TRAINING.epochs,
        initial=None,
        teacher=teacher if target == "backbone" else None,
        samples=samples,
        seed=0,
        device=CPU,
    )
    states_close(alone.branch, network.branches[0], 1e-3)
    assert [epoch[0] for epoch in result.accuracies] == pytest.approx([a[0] for a in alone.accuracies], abs=0.03)


@pytest.mark.parametrize("samples", [None, 100])
def test_kept_features_train_the_same_branch_as_computed_ones(specs, branch_of, samples):
    kept, computed = (branch_of(specs[1], budget=b, target="backbone", samples=samples) for b in (1.0, 0.0))
    states_close(kept.branch, computed.branch, 0.02)  # half precision


def test_logits_and_accuracies_of_a_branch_are_those_on_validation(prepared, specs, branch_of):
    trained = branch_of(specs[0])
    images = torch.cat([batch.images for batch in prepared.data.validation.batches(512)])
    logits = trained.branch(prepared.backbone.features(images)[0])
    torch.testing.assert_close(trained.validation_logits, logits, rtol=0.01, atol=0.01)
    right = (trained.validation_logits.argmax(1) == prepared.data.validation.labels).float().mean()
    assert float(right) == pytest.approx(max(epoch[0] for epoch in trained.accuracies))


def test_a_branch_is_deterministic_and_leaves_the_backbone_alone(prepared, specs, branch_of):
    before = {name: tensor.clone() for name, tensor in prepared.backbone.state_dict().items()}
    one, other, third = branch_of(specs[0]), branch_of(specs[0]), branch_of(specs[0], seed=1)
    assert torch.equal(one.validation_logits, other.validation_logits)
    assert not torch.equal(one.validation_logits, third.validation_logits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in prepared.backbone.state_dict().items())


def test_a_branch_that_does_not_fit_is_refused(prepared, branch_of):
    spec = BranchSpec(prepared.backbone.attach_points[1].name, (), PartSpec.of("grid-linear", size=3))
    with pytest.raises(BranchError, match="size 3 does not divide"):
        branch_of(spec)


def test_a_branch_that_diverges_is_refused(specs, branch_of):
    absurd = FitSettings(epochs=1, batch_size=32, lr=1e38, optimizer="sgd", schedule="constant")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        branch_of(specs[0], training=absurd)


def test_limited_takes_a_seeded_choice_with_its_teacher(prepared):
    split, teacher = prepared.data.train, torch.arange(len(prepared.data.train))
    part, rows = limited(split, teacher, 50, seed=0)
    assert len(part) == len(set(rows.tolist())) == 50
    assert torch.equal(part.labels, split.labels[rows])
    assert torch.equal(limited(split, teacher, 50, seed=0)[1], rows)
    assert not torch.equal(limited(split, teacher, 50, seed=1)[1], rows)
    assert limited(split, None, 50, seed=0)[1] is None


@pytest.mark.parametrize("samples", [None, 240, 10_000])
def test_limited_to_more_than_there_is_takes_everything(prepared, samples):
    assert limited(prepared.data.train, None, samples, seed=0) == (prepared.data.train, None)


class Scale(nn.Module):
    """A layer with a weight of its own that does not know how to initialise it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 1, 1), 3.0))

    def forward(self, x):
        return x * self.weight


def cut_up(*layers):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), *layers)
    return cut_backbone(nn.Sequential(body, nn.Sequential(nn.ReLU(), head)), (1, 8, 8), modules=["0"])


def test_without_earlier_weights_every_layer_gets_fresh_ones():
    torch.manual_seed(0)
    backbone = cut_up(nn.ReLU())
    model = backbone.model
    model[0][1].running_mean.fill_(5.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_over(backbone, None)
    for name in ("0.0.weight", "0.0.bias", "1.1.2.weight"):
        assert not torch.equal(model.state_dict()[name], before[name])
    assert float(model[0][1].running_mean.abs().max()) == 0.0


def test_earlier_weights_come_back_in_the_network_that_is_trained():
    backbone = cut_up(Scale())  # with them a layer need not know how to initialise itself
    state = backbone.model.state_dict()
    initial = {name: torch.rand_like(tensor, dtype=torch.float32) for name, tensor in state.items()}
    initial["0.1.num_batches_tracked"] = torch.tensor(3)
    start_over(backbone, initial)
    assert all(torch.equal(tensor, initial[name]) for name, tensor in backbone.model.state_dict().items())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(backbone.eval()(images), backbone.model(images))  # its segments, too


def test_a_layer_that_cannot_start_over_is_named():
    with pytest.raises(TrainingError, match=r"0\.2 cannot initialise itself: give it reset_parameters\(\), or choose"):
        start_over(cut_up(Scale()), None)


def test_phases_share_the_epochs_of_a_regime(monkeypatch, prepared, specs):
    seen = []
    real = candidates.fit

    def spy(trainee, train, validation, objective, settings, **options):
        seen.append((settings.epochs, options["seed"], len(trainee.moving)))
        return real(trainee, train, validation, objective, settings, **options)

    phases = [
        Phase("branches", (0, 1), 0, (1.0, 1.0, 0.0), epochs=0.5),
        Phase("everything", (0, 1), 3, (1.0, 1.0, 1.0), epochs=0.5),
    ]
    monkeypatch.setattr(candidates, "REGIMES", {"mixed": Regime(lambda branches, settings: phases)})
    monkeypatch.setattr(candidates, "fit", spy)
    _, results = train_network(
        specs,
        prepared.backbone,
        prepared.data,
        RegimeSettings(name="mixed", training=TRAINING),
        4,
        initial=None,
        teacher=None,
        samples=64,
        seed=7,
        device=CPU,
    )
    segments = len(prepared.backbone.segments)
    assert seen == [(2, 7, 2), (2, 8, 2 + segments)]
    assert [len(result.accuracies) for result in results] == [2, 2]


@pytest.fixture
def row_of(prepared, store, specs):
    """Train both branches in a row, as a search does."""

    def run(name="disjoint", cascade="none", *, samples=None, budget=1.0, **own):
        settings = RegimeSettings(name=name, training=TRAINING, **own)
        features, trained = store(budget), []
        for spec in specs:
            trained.append(
                train_branch(
                    spec,
                    features,
                    prepared.backbone,
                    settings,
                    TRAINING,
                    samples=samples,
                    seed=0,
                    device=CPU,
                    earlier=tuple(trained),
                    cascade=cascade,
                )
            )
        return trained

    return run


@pytest.mark.parametrize("cascade", ["inputs", "ensemble", "both"])
def test_a_cascade_trained_in_a_row_says_what_its_network_says(prepared, specs, row_of, cascade):
    trained = row_of(cascade=cascade, budget=0.0)
    assert [type(branch.branch) for branch in trained] == [Branch, LinkedBranch]
    network = EarlyExitNetwork(prepared.backbone, specs, cascade).eval()
    for ours, found in zip(network.branches, trained, strict=True):
        ours.load_state_dict(found.branch.state_dict())
    for split, logits in (
        (prepared.data.validation, [branch.validation_logits for branch in trained]),
        (prepared.data.train, [branch.train_logits for branch in trained]),
    ):
        for ours, whole in zip(logits, logits_of(network, split, CPU)[:2], strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-3, atol=1e-3)


def test_a_branch_that_hears_another_learns_from_that(row_of, specs, branch_of):
    alone, linked = branch_of(specs[1]), row_of(cascade="inputs")[1]
    assert float(linked.branch.inputs.weight.abs().sum()) > 0
    assert not torch.equal(linked.validation_logits, alone.validation_logits)


@pytest.mark.parametrize("samples", [None, 100])
def test_only_where_later_branches_go_by_them_training_logits_are_kept(row_of, prepared, samples):
    kept = {
        (name, cascade): [branch.train_logits for branch in row_of(name, cascade, samples=samples)]
        for name, cascade in (("disjoint", "none"), ("disjoint", "both"), ("calex", "none"))
    }
    assert kept.pop(("disjoint", "none")) == [None, None]
    for logits in kept.values():
        assert [z.shape for z in logits] == [(samples or len(prepared.data.train), 4)] * 2


def test_survivors_of_a_row_are_those_of_the_branches_before(row_of, monkeypatch):
    """Weighing every sample the same is what an unaligned branch does; anything else is another branch."""
    seen = []
    real = branches.survivors_gate

    def spy(measure, on_train, on_validation, backbone, truth, settings, accuracy):
        seen.append((on_train, on_validation))
        assert len(on_validation[0]) == len(backbone) == len(truth)
        return real(measure, on_train, on_validation, backbone, truth, settings, accuracy)

    monkeypatch.setattr(branches, "survivors_gate", spy)
    monkeypatch.setattr("aebnas.training.survivors.cascade_thresholds", lambda *_: torch.full((1, 4), 0.5))
    aligned, plain = row_of("calex"), row_of("calex", calex={"aligned": False})
    ((on_train, on_validation),) = seen
    assert torch.equal(on_train[0], aligned[0].train_logits)
    assert torch.equal(on_validation[0], aligned[0].validation_logits)
    assert torch.equal(aligned[0].validation_logits, plain[0].validation_logits)
    assert not torch.equal(aligned[1].validation_logits, plain[1].validation_logits)


def test_calex_learns_from_the_backbone_unless_told_otherwise(row_of):
    own, backbone, labels = row_of("calex"), row_of("calex", target="backbone"), row_of("calex", target="labels")
    assert torch.equal(own[0].validation_logits, backbone[0].validation_logits)
    assert not torch.equal(own[0].validation_logits, labels[0].validation_logits)


@pytest.mark.parametrize(("name", "cascade"), [("disjoint", "inputs"), ("calex", "none")])
def test_branches_of_one_row_are_trained_on_the_same_samples(prepared, store, specs, row_of, name, cascade):
    first = row_of(name, cascade, samples=50)[0]
    with pytest.raises(ValueError, match="trained on 50 samples"):
        train_branch(
            specs[1],
            store(),
            prepared.backbone,
            RegimeSettings(name=name, training=TRAINING),
            TRAINING,
            samples=None,
            seed=0,
            device=CPU,
            earlier=[first],
            cascade=cascade,
        )


def test_a_branch_that_was_trained_on_its_own_is_no_part_of_a_row(prepared, store, specs, branch_of):
    with pytest.raises(ValueError, match="no logits on the training split"):
        train_branch(
            specs[1],
            store(),
            prepared.backbone,
            RegimeSettings(name="calex", training=TRAINING),
            TRAINING,
            samples=None,
            seed=0,
            device=CPU,
            earlier=[branch_of(specs[0])],
        )
