"""What each regime is; what all of them must do is in test_regime_contract.py."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from aebnas.data.splits import TensorSplit
from aebnas.errors import ExperimentError, TrainingError
from aebnas.progress import Stage
from aebnas.training import candidates
from aebnas.training.candidates import forgetting, train_network
from aebnas.training.fit import FitResult, logits_of
from aebnas.training.protection import ElasticWeights
from aebnas.training.regimes import REGIMES, matters, phase_epochs, possible, regime_problem
from aebnas.training.settings import FitSettings, RegimeSettings

CPU = torch.device("cpu")
MOVING = ("joint", "mixed", "cgt-hard", "cgt-soft")


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
        own=None,
        chosen=specs,
        confidence="max-probability",
        step=None,
        stage=None,
        **training,
    ):
        settings = RegimeSettings(
            name=name, target=target, training=FitSettings(**{"batch_size": 32, "lr": 0.03, **training}), **(own or {})
        )
        teacher = None
        if target == "backbone":
            (teacher,) = logits_of(lambda x: [prepared.backbone(x)], prepared.data.train, CPU)
        return train_network(
            chosen,
            prepared.backbone,
            data,
            settings,
            epochs,
            initial=initial,
            teacher=teacher,
            samples=samples,
            seed=seed,
            device=CPU,
            confidence=confidence,
            step=step,
            stage=stage,
        )

    return run


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "disjoint", "target": "final"}, "target: exits learn from the final exit where all train at once"),
        ({"name": "sequential", "target": "final"}, "under sequential take labels or backbone"),
        ({"name": "calex", "start": "initial"}, "start: calex trains no backbone here"),
        (
            {"name": "sequential", "start": "initial", "sequential": {"protection": "frozen"}},
            "start: sequential trains no backbone here",
        ),
    ],
)
def test_what_a_regime_cannot_do_is_said_with_the_key(train, values, sentence):
    assert sentence in regime_problem(RegimeSettings(**values))
    own = {key: value for key, value in values.items() if key not in ("name", "target")}
    with pytest.raises(TrainingError, match=f"regime.{sentence.split(':')[0]}" if ":" in sentence else sentence):
        train(values["name"], values.get("target", "labels"), own=own)


def test_every_regime_can_do_what_it_does_by_default(regime):
    assert regime_problem(RegimeSettings(name=regime)) is None


def leaves(settings, prefix=""):
    for name, value in settings.model_dump().items():
        if isinstance(value, dict) and name != "training":
            yield from (f"{name}.{key}" for key in value)
        else:
            yield f"{prefix}{name}"


def test_every_setting_has_an_effect_under_some_regime_and_no_other_is_named():
    used = frozenset().union(*(REGIMES[name].uses for name in REGIMES))
    known = set(leaves(RegimeSettings()))
    assert {key for key in used if key not in ("cgt", "calex", "sequential", "confidence")} == known


def test_own_targets_and_starts():
    assert [REGIMES[name].target(RegimeSettings(name=name)) for name in ("calex", "disjoint", "joint")] == [
        "backbone",
        "labels",
        "labels",
    ]
    assert REGIMES["calex"].target(RegimeSettings(target="labels")) == "labels"
    assert REGIMES["joint"].starts(RegimeSettings(start="trained")) == "trained"


@pytest.mark.parametrize(
    ("shares", "epochs", "lengths"),
    [
        ((1.0,), 5, [5]),
        ((1.0, 1.0), 3, [3, 3]),
        ((1 / 3,) * 3, 10, [3, 4, 3]),
        ((1 / 3,) * 3, 4, [1, 2, 1]),
        ((0.25,) * 4, 2, [1, 1, 1, 1]),
    ],
)
def test_phases_divide_the_epochs(shares, epochs, lengths):
    (phase,) = REGIMES["joint"].phases(1, RegimeSettings())
    assert phase_epochs([dataclasses.replace(phase, epochs=share) for share in shares], epochs) == lengths


def test_forgetting_by_hand():
    results = [
        FitResult([[0.5, 0.1], [0.7, 0.1]], 1, added=0),
        FitResult([[0.6, 0.9], [0.4, 0.8]], 0, added=1),
    ]
    assert forgetting(results) == [(0.7, 0.6), (0.9, 0.9)]
    assert forgetting([FitResult([[0.5, 0.9]])]) == []


def test_joint_training_of_a_trained_backbone_is_the_mixed_regime(train):
    one, _ = train("joint", own={"start": "trained"}, epochs=1)
    other, _ = train("mixed", epochs=1)
    assert same(state(one), state(other))


@pytest.mark.parametrize("name", ["calex", "sequential"])
def test_one_branch_on_a_frozen_backbone_is_a_disjoint_one(train, specs, name):
    own = {"sequential": {"protection": "frozen"}}
    one, _ = train(name, chosen=specs[:1], own=own)
    other, _ = train("disjoint", chosen=specs[:1])
    assert same(state(one), state(other))


def test_a_teacher_that_is_not_given_is_the_backbone(train, prepared, specs):
    given, _ = train("joint", "backbone", epochs=1)
    settings = RegimeSettings(name="joint", target="backbone", training=FitSettings(batch_size=32, lr=0.03))
    made, _ = train_network(
        specs,
        prepared.backbone,
        prepared.data,
        settings,
        1,
        initial=prepared.initial,
        teacher=None,
        samples=None,
        seed=0,
        device=CPU,
    )
    assert same(state(given), state(made))


def test_a_teacher_is_not_asked_where_labels_are_the_target(train, prepared, specs):
    settings = RegimeSettings(name="joint", training=FitSettings(batch_size=32, lr=0.03))
    nonsense = torch.full((len(prepared.data.train), 4), torch.nan)
    network, _ = train_network(
        specs,
        prepared.backbone,
        prepared.data,
        settings,
        1,
        initial=prepared.initial,
        teacher=nonsense,
        samples=None,
        seed=0,
        device=CPU,
    )
    assert same(state(network), state(train("joint", epochs=1)[0]))


def test_phases_are_told_as_they_end(train):
    told = []
    _, results = train("sequential", step=told.append)
    assert told == results
    assert [result.added for result in told] == [0, 1, 2]


def test_the_progress_names_the_phase(train):
    class Noting(Stage):
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text.split(", validation")[0])

    stage = Noting()
    train("sequential", stage=stage)
    assert stage.notes == ["branch 1, epoch 1/1", "branch 2, epoch 1/1", "classifier, epoch 1/1"]


def test_statistics_of_earlier_steps_stay_unless_they_may_move(train, monkeypatch):
    seen = []
    real = candidates.fit

    def spy(trainee, *arguments, **options):
        result = real(trainee, *arguments, **options)
        seen.append({name: tensor for name, tensor in state(trainee.module).items() if "running" in name})
        return result

    monkeypatch.setattr(candidates, "fit", spy)
    for rule in ("freeze", "train"):
        seen.clear()
        train("sequential", own={"sequential": {"batch_norm": rule}})
        stem = [step["backbone.model.features.1.running_mean"] for step in seen]
        assert [torch.equal(stem[0], later) for later in stem[1:]] == [rule == "freeze"] * 2
        # What is behind the first branch is new in the second step.
        last = [name for name in seen[0] if name.startswith("backbone")][-1]
        assert not torch.equal(seen[0][last], seen[2][last])


@pytest.mark.parametrize("protection", ["ewc", "lwf", "interval"])
def test_a_protected_exit_forgets_less(train, protection):
    def lost(kind):
        pairs = [
            forgetting(train("sequential", own={"sequential": {"protection": kind}}, epochs=9, seed=seed)[1])[0]
            for seed in range(3)
        ]
        return sum(before - after for before, after in pairs) / 3

    assert lost(protection) < 0.6 * lost("none")


def test_what_nobody_comes_after_is_not_looked_into(train, monkeypatch):
    """Fisher information takes a pass back per sample."""
    looked = []
    monkeypatch.setattr(ElasticWeights, "remember", lambda self, scene, exit_: looked.append(exit_))
    train("sequential", own={"sequential": {"protection": "ewc"}})
    assert looked == [0, 1]


@pytest.fixture
def gates(monkeypatch):
    """The gate of every fit."""
    seen = []
    real = candidates.fit

    def spy(trainee, train, validation, objective, *arguments, **options):
        seen.append(objective.gate)
        return real(trainee, train, validation, objective, *arguments, **options)

    monkeypatch.setattr(candidates, "fit", spy)
    return seen


def test_only_branches_behind_others_go_by_survivors_and_only_if_aligned(train, gates):
    train("calex", epochs=1)
    assert [gate is not None for gate in gates] == [False, True]
    gates.clear()
    train("calex", own={"calex": {"aligned": False}}, epochs=1)
    assert gates == [None, None]


def test_survivors_make_another_branch_where_classes_may_leave(train, monkeypatch):
    """The toy data is too small for thresholds of 30 samples: they are given here."""
    thresholds = torch.full((1, 4), 0.5)
    monkeypatch.setattr("aebnas.training.regimes.cascade_thresholds", lambda *_: thresholds)
    aligned, _ = train("calex")
    plain, _ = train("calex", own={"calex": {"aligned": False}})
    assert same(state(aligned.branches[0]), state(plain.branches[0]))
    assert not same(state(aligned.branches[1]), state(plain.branches[1]))


@pytest.mark.parametrize("name", ["cgt-hard", "calex"])
def test_what_goes_by_a_confidence_takes_the_one_it_is_given(train, name, monkeypatch):
    monkeypatch.setattr("aebnas.training.regimes.cascade_thresholds", lambda *_: torch.full((1, 4), 0.5))
    by = {
        measure: state(train(name, confidence=measure, own={"cgt": {"tau": 0.3}})[0])
        for measure in ("max-probability", "margin", "patience")
    }
    assert not same(by["max-probability"], by["margin"])
    assert not same(by["max-probability"], by["patience"])


def test_gates_change_what_joint_training_makes(train):
    networks = [state(train(name)[0]) for name in ("joint", "cgt-hard", "cgt-soft")]
    assert not any(same(networks[0], other) for other in networks[1:])
    annealed = state(train("cgt-soft", own={"cgt": {"anneal": True}})[0])
    assert not same(annealed, networks[2])


@pytest.mark.parametrize(
    ("settings", "idle", "working"),
    [
        ({"name": "disjoint"}, ["temperature", "distillation", "weighting", "cgt.tau", "start"], ["label_smoothing"]),
        ({"name": "disjoint", "target": "backbone"}, ["label_smoothing"], ["temperature", "distillation", "loss"]),
        ({"name": "joint", "target": "final"}, [], ["label_smoothing", "temperature", "start", "weighting"]),
        ({"name": "cgt-soft"}, ["temperature"], ["cgt.tau", "cgt.sharpness", "cgt.residual"]),
        ({"name": "cgt-soft", "cgt": {"residual": "probability"}}, ["cgt.tau", "cgt.sharpness"], ["cgt.floor"]),
        ({"name": "cgt-hard", "cgt": {"residual": "probability"}}, ["cgt.residual", "cgt.sharpness"], ["cgt.tau"]),
        ({"name": "calex"}, ["weighting"], ["calex.margin", "temperature"]),
        ({"name": "calex", "calex": {"aligned": False}}, ["calex.margin", "calex.floor"], ["calex.aligned"]),
        ({"name": "sequential"}, ["sequential.strength", "sequential.radius"], ["sequential.batch_norm", "start"]),
        ({"name": "sequential", "sequential": {"protection": "frozen"}}, ["sequential.batch_norm", "start"], []),
        (
            {"name": "sequential", "sequential": {"protection": "ewc"}},
            ["sequential.radius", "sequential.temperature"],
            ["sequential.strength", "sequential.fisher_samples"],
        ),
        ({"name": "mixed"}, ["training.momentum"], ["training.lr", "gradients"]),
        ({"name": "mixed", "training": {"optimizer": "sgd"}}, [], ["training.momentum"]),
    ],
)
def test_a_setting_matters_only_where_something_reads_it(settings, idle, working):
    made = RegimeSettings.model_validate(settings)
    for key in idle:
        assert not matters(made, key)
    assert all(matters(made, key) for key in working)


def test_what_a_regime_cannot_have_gives_way_to_its_own():
    final = RegimeSettings(name="disjoint", target="final", start="initial")
    assert regime_problem(final) is not None
    made = possible(final)
    assert (made.target, made.start) == (None, None)
    assert regime_problem(made) is None
    joint = RegimeSettings(name="joint", target="final", start="trained")
    assert possible(joint) == joint
