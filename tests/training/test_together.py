"""Several branches at a time, against each of them alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from aebnas.branches.layers import LAYERS
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import TrainingError
from aebnas.training import branches
from aebnas.training.candidates import BranchJob, train_branch, train_branches
from aebnas.training.settings import FitSettings, RegimeSettings

CPU = torch.device("cpu")
TRAINING = FitSettings(epochs=4, batch_size=32, lr=0.03)


class Negate(nn.Module):
    """Changes its input in place."""

    def forward(self, x):
        return x.neg_()


@pytest.fixture
def three(prepared, monkeypatch):
    """Two branches at the first attach point, one of which draws random numbers while it trains, and one behind."""
    monkeypatch.setitem(LAYERS._entries, "forgetful", lambda shape: nn.Dropout(0.3))
    first, second = prepared.backbone.attach_points
    conv = (PartSpec.of("conv", kernel=3), PartSpec("batch-norm"), PartSpec("relu"), PartSpec("forgetful"))
    return [
        BranchSpec(first.name, conv),
        BranchSpec(second.name, (PartSpec("forgetful"),), PartSpec.of("grid-linear", size=2)),
        BranchSpec(first.name, ()),
    ]


@pytest.fixture
def teach(prepared, store):
    """Train jobs at once, or a single specification alone."""

    def run(what, *, budget=0.0, target="labels", samples=None, training=TRAINING, features=None, **options):
        settings = RegimeSettings(target=target, training=training)
        train = train_branch if isinstance(what, BranchSpec) else train_branches
        return train(
            what,
            features or store(budget),
            prepared.backbone,
            settings,
            training,
            samples=samples,
            seed=3,
            device=CPU,
            **options,
        )

    return run


def same(one, other):
    assert one.accuracies == other.accuracies
    assert torch.equal(one.validation_logits, other.validation_logits)
    pairs = zip(one.branch.state_dict().values(), other.branch.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(parameter.requires_grad for parameter in one.branch.parameters())


def stop(*when):
    """Stop the jobs at these (number, epochs)."""
    return lambda number, epochs, accuracy: (number, epochs) not in when


@pytest.mark.parametrize("budget", [0.0, 1.0])
@pytest.mark.parametrize(("target", "samples"), [("labels", None), ("backbone", 100)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_branch_is_the_one_that_was_trained_alone(three, teach, budget, target, samples, optimizer):
    training = TRAINING.model_copy(update={"optimizer": optimizer})
    options = {"budget": budget, "target": target, "samples": samples, "training": training}
    together = teach([BranchJob(spec) for spec in three], **options)
    assert [trained.branch.spec for trained in together] == three
    for spec, trained in zip(three, together, strict=True):
        same(trained, teach(spec, **options))
        assert trained.paused is None
        assert trained.train_logits is None


def test_a_branch_that_overwrites_its_features_does_not_harm_those_beside_it(three, teach, monkeypatch):
    monkeypatch.setitem(LAYERS._entries, "negate", lambda shape: Negate())
    greedy = BranchSpec(three[0].attach, (PartSpec("negate"),))
    together = teach([BranchJob(spec) for spec in (greedy, three[0], greedy, three[2])])
    for spec, trained in zip((greedy, three[0], greedy, three[2]), together, strict=True):
        same(trained, teach(spec))


def test_it_does_not_where_a_last_batch_of_one_sample_is_left_out(three, teach, monkeypatch):
    monkeypatch.setitem(LAYERS._entries, "negate", lambda shape: Negate())
    greedy = BranchSpec(three[0].attach, (PartSpec("negate"),))
    options = {"samples": 65}  # in batches of 32
    together = teach([BranchJob(greedy), BranchJob(three[2])], **options)
    for spec, trained in zip((greedy, three[2]), together, strict=True):
        same(trained, teach(spec, **options))


def test_kept_features_may_be_shared_as_well(three, teach, monkeypatch):
    """So it is on CUDA."""
    one_by_one = teach([BranchJob(spec) for spec in three], budget=1.0)
    monkeypatch.setattr(branches._Lesson, "shares", lambda *_: True)
    for ours, theirs in zip(teach([BranchJob(spec) for spec in three], budget=1.0), one_by_one, strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_who_runs_out_of_patience_leaves_the_others_at_it(three, teach, budget):
    training = FitSettings(epochs=8, batch_size=32, lr=0.03, patience=1)
    together = teach([BranchJob(spec) for spec in three], budget=budget, training=training)
    assert len({len(trained.accuracies) for trained in together}) > 1
    for spec, trained in zip(three, together, strict=True):
        same(trained, teach(spec, budget=budget, training=training))
        assert trained.paused is None


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_stopped_and_gone_on_with_it_is_the_branch_that_was_left_alone(three, teach, budget):
    jobs = [BranchJob(spec) for spec in three]
    whole = teach(jobs, budget=budget)
    stopped = teach(jobs, budget=budget, watch=stop((0, 1), (2, 3)))
    assert [len(trained.accuracies) for trained in stopped] == [1, 4, 3]
    assert [trained.paused is None for trained in stopped] == [False, True, False]
    same(stopped[1], whole[1])
    # One that is behind, one that is ahead, and one that begins: each sees the batches of its own epoch.
    again = teach([BranchJob(t.branch.spec, t.paused) for t in (stopped[2], stopped[0])] + jobs[1:2], budget=budget)
    for ours, theirs in zip(again, (whole[2], whole[0], whole[1]), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_stopped_branch_is_what_its_best_epoch_so_far_made_of_it(three, teach, budget, prepared, store):
    (trained,) = teach([BranchJob(three[0])], budget=budget, watch=stop((0, 2)))
    said = [trained.branch(batch.images) for batch in store(budget).split("validation", 0).batches(512)]
    torch.testing.assert_close(torch.cat(said), trained.validation_logits)
    right = (trained.validation_logits.argmax(1) == prepared.data.validation.labels).float().mean()
    assert float(right) == pytest.approx(max(epoch[0] for epoch in trained.accuracies))


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_the_watch_is_asked_about_every_job_after_every_epoch_but_its_last(three, teach, budget):
    asked = []

    def watch(number, epochs, accuracy):
        asked.append((number, epochs, accuracy))
        return (number, epochs) != (1, 2)

    together = teach([BranchJob(spec) for spec in three], budget=budget, watch=watch)
    told = {(number, epochs): accuracy for number, epochs, accuracy in asked}
    assert len(told) == len(asked)
    expected = {
        (number, epochs): together[number].accuracies[epochs - 1][0]
        for number in range(3)
        for epochs in ((1, 2) if number == 1 else (1, 2, 3))
    }
    assert told == expected


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_branches_are_handed_over_with_the_number_of_their_job(three, teach, budget):
    handed = {}
    together = teach([BranchJob(spec) for spec in three], budget=budget, done=handed.__setitem__)
    assert handed == dict(enumerate(together))


def test_a_finished_branch_is_handed_over_before_the_next_one_begins(three, teach):
    told = []
    teach(
        [BranchJob(spec) for spec in three[:2]],
        budget=1.0,
        watch=lambda number, *_: told.append(("watch", number)) or True,
        done=lambda number, _: told.append(("done", number)),
    )
    assert told == [("watch", 0)] * 3 + [("done", 0)] + [("watch", 1)] * 3 + [("done", 1)]


def test_one_pass_of_the_backbone_serves_all_branches(three, teach, prepared, store):
    """Every image goes through every segment once per epoch, for however many branches."""
    features, passed = store(0.0), []
    hooks = [
        segment.register_forward_hook(lambda _, inputs, __, number=number: passed.append((number, len(inputs[0]))))
        for number, segment in enumerate(prepared.backbone.segments)
    ]
    try:
        teach([BranchJob(spec) for spec in three], features=features)
    finally:
        for hook in hooks:
            hook.remove()
    train, validation = len(prepared.data.train), len(prepared.data.validation)
    # Validation once per epoch, and once more for what the weights that are kept say.
    expected = TRAINING.epochs * train + (TRAINING.epochs + 1) * validation
    assert [sum(count for number, count in passed if number == segment) for segment in range(3)] == [
        expected,
        expected,
        0,
    ]


def test_branches_that_are_not_there_any_more_cost_no_pass(three, teach, prepared, store):
    features, passed = store(0.0), []
    hook = prepared.backbone.segments[1].register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    try:
        teach([BranchJob(spec) for spec in three], features=features, watch=stop((1, 1)))
    finally:
        hook.remove()
    train, validation = len(prepared.data.train), len(prepared.data.validation)
    assert sum(passed) == train + 2 * validation


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_progress_counts_every_sample_of_every_branch(three, teach, prepared, budget):
    stage = SimpleNamespace(steps=0, notes=[])
    stage.advance = lambda steps=1: setattr(stage, "steps", stage.steps + steps)
    stage.note = stage.notes.append
    teach([BranchJob(spec) for spec in three], budget=budget, stage=stage)
    assert stage.steps == 3 * TRAINING.epochs * len(prepared.data.train)
    assert stage.notes[-1].startswith("epoch 4/4" if budget else "3 branches side by side, epoch 4/4, validation ")


def test_time_is_divided_among_the_branches(three, teach, monkeypatch):
    """A clock that goes one further whenever somebody looks at it; nobody looks twice at the same time."""
    now = iter(range(10**9))
    monkeypatch.setattr("aebnas.training.together.time", SimpleNamespace(perf_counter=lambda: next(now)))
    together = teach([BranchJob(spec) for spec in three], watch=stop((2, 1)))
    seconds = [trained.seconds for trained in together]
    assert seconds[0] == pytest.approx(seconds[1])
    assert 0 < seconds[2] < seconds[0] / 2


def test_alone_a_branch_has_all_the_time(three, teach):
    assert teach(three[0], budget=1.0).seconds > 0


def test_branches_that_go_by_each_other_are_refused(three, prepared, store):
    settings = RegimeSettings(name="calex", training=TRAINING)
    with pytest.raises(ValueError, match="calex does not train branches one without the other"):
        train_branches(
            [BranchJob(three[0])], store(), prepared.backbone, settings, TRAINING, samples=None, seed=0, device=CPU
        )


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_branch_that_diverges_ends_the_call(three, teach, budget):
    absurd = FitSettings(epochs=1, batch_size=32, lr=1e38, optimizer="sgd", schedule="constant")
    with pytest.raises(TrainingError, match="lower the learning rate"):
        teach([BranchJob(spec) for spec in three], budget=budget, training=absurd)


def test_nothing_to_do_is_done_at_once(teach):
    assert teach([]) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("budget", [0.0, 1.0])
@pytest.mark.parametrize("mixed", [False, True])
def test_cuda_trains_the_same_branches(prepared, specs, store, monkeypatch, budget, mixed):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # Not adamw: it makes whole steps of gradients that are zero but for rounding.
    training = TRAINING.model_copy(update={"optimizer": "sgd"})

    def learnt(device, **options):
        prepared.backbone.to(device)
        try:
            return train_branches(
                [BranchJob(spec) for spec in specs],
                store(budget, device=device),
                prepared.backbone,
                RegimeSettings(target="backbone", training=training),
                training,
                samples=None,
                seed=3,
                device=device,
                **options,
            )
        finally:
            prepared.backbone.cpu()

    for ours, theirs in zip(learnt(torch.device("cuda"), mixed=mixed), learnt(CPU), strict=True):
        assert ours.accuracies[-1] == pytest.approx(theirs.accuracies[-1], abs=0.1 if mixed else 0.03)
        for a, b in zip(ours.branch.state_dict().values(), theirs.branch.state_dict().values(), strict=True):
            assert mixed or torch.allclose(a, b, rtol=0.02, atol=0.02)
