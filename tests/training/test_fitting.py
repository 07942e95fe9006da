"""A training that is put aside and gone on with, against the same one left alone."""

from __future__ import annotations

import io
import itertools

import pytest
import torch
from torch import nn

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import TrainingError
from aebnas.exits.confidence import build_confidence
from aebnas.training import fit as fit_module
from aebnas.training.fit import Trainee, fit
from aebnas.training.fitting import Fitting
from aebnas.training.gates import hard_gate, soft_gate
from aebnas.training.objective import Objective
from aebnas.training.settings import CalexSettings, CgtSettings, FitSettings
from aebnas.training.survivors import survivors_gate

CPU = torch.device("cpu")
BOTH = Objective((1.0, 1.0))


class TwoExits(nn.Module):
    """Batch-norm statistics, maps and dropout: whatever can be forgotten when a training is put aside."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5))
        self.first, self.last = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return [self.first(x.flatten(1)), self.last(self.body(x))]


def split(count=66, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 1, 2, 2, generator=random) + labels[:, None, None, None]
    return TensorSplit(images, labels, identity(1))


def train(settings, *, watch=None, resume=None, objective=BOTH, seed=3):
    torch.manual_seed(seed)
    model = TwoExits()
    trainee = Trainee(model, model, (model,))
    return model, fit(
        trainee, split(), split(32, 1), objective, settings, device=CPU, seed=7, watch=watch, resume=resume
    )


def stop_after(*epochs):
    return lambda done, accuracies: done not in epochs


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same_weights(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def plain(**values):
    return FitSettings(**{"epochs": 5, "batch_size": 16, "lr": 0.02, **values})


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_put_aside_after_every_epoch_it_is_the_training_that_was_left_alone(optimizer, schedule, momentum, patience):
    settings = plain(optimizer=optimizer, schedule=schedule, momentum=momentum, patience=patience)
    whole, expected = train(settings)
    model, result = train(settings, watch=stop_after(1))
    for epoch in itertools.count(2):
        if result.paused is None:
            break
        # Another seed: whatever is drawn from here on has to come from the state.
        model, result = train(settings, watch=stop_after(epoch), resume=through_a_file(result.paused), seed=epoch)
    assert result == expected
    assert same_weights(model, whole)


def test_a_state_can_be_gone_on_from_twice():
    _, first = train(plain(), watch=stop_after(2))
    runs = [train(plain(), resume=first.paused, seed=seed) for seed in (1, 2)]
    assert same_weights(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert len(first.accuracies) == len(first.paused["accuracies"]) == 2


def test_a_stopped_training_leaves_its_best_epoch_so_far(monkeypatch):
    until_best, _ = train(plain(schedule="constant"), watch=stop_after(1))
    script = iter([[0.9, 0.9], [0.1, 0.2], [0.3, 0.3]])
    monkeypatch.setattr(fit_module, "accuracy_of", lambda *_: next(script))
    model, result = train(plain(schedule="constant"), watch=stop_after(3))
    assert (result.best_epoch, result.best, len(result.accuracies)) == (0, [0.9, 0.9], 3)
    assert same_weights(model, until_best)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_watch_is_asked_after_every_epoch_but_the_last(monkeypatch):
    script = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    left, asked = iter(script), []
    monkeypatch.setattr(fit_module, "accuracy_of", lambda *_: next(left))
    _, result = train(plain(epochs=3), watch=lambda *told: asked.append(told) or True)
    assert asked == [(1, script[0]), (2, script[1])]
    assert result.paused is None


def test_a_training_out_of_patience_is_at_its_end_and_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(fit_module, "accuracy_of", lambda *_: [0.5, 0.5])
    asked = []
    _, result = train(plain(patience=1), watch=lambda done, _: asked.append(done) or True)
    assert asked == [1]
    assert (len(result.accuracies), result.paused) == (2, None)


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"epochs": 6}, {"schedule": "constant"}])
def test_a_state_of_another_training_is_refused(change):
    _, result = train(plain(), watch=stop_after(2))
    with pytest.raises(ValueError, match="of a training with"):
        train(plain(**change), resume=result.paused)


def test_a_state_is_made_of_what_a_file_may_hold():
    _, result = train(plain(), watch=stop_after(2))
    assert isinstance(through_a_file(result.paused), dict)
    leaves = list(leaves_of(result.paused))
    assert {type(leaf) for leaf in leaves} <= {torch.Tensor, int, float, str, bool, type(None)}
    assert all(leaf.device == CPU and not leaf.requires_grad for leaf in leaves if isinstance(leaf, torch.Tensor))


def leaves_of(value):
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves_of(part)
    else:
        yield value


def test_what_the_training_goes_on_with_is_no_part_of_a_state():
    model = TwoExits()
    data = split(16)
    fitting = Fitting(Trainee(model, model, (model,)), BOTH, plain(), samples=16, device=CPU)

    def epoch():
        fitting.begin_epoch()
        for batch in data.batches(16):
            fitting.step(batch)
        fitting.settle()
        fitting.end_epoch([0.5, 0.5])

    epoch()
    state = fitting.state_dict()
    before = [leaf.clone() for leaf in leaves_of(state) if isinstance(leaf, torch.Tensor)]
    epoch()
    after = [leaf for leaf in leaves_of(state) if isinstance(leaf, torch.Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


GATES = {
    "none": None,
    "hard": hard_gate(build_confidence("max-probability"), CgtSettings()),
    "soft": soft_gate(CgtSettings()),
    "survivors": survivors_gate(
        build_confidence("max-probability"),
        [torch.randn(66, 2, generator=torch.Generator().manual_seed(0))],
        [torch.randn(32, 2, generator=torch.Generator().manual_seed(1))],
        torch.randn(32, 2, generator=torch.Generator().manual_seed(2)),
        torch.arange(32) % 2,
        CalexSettings(),
    ),
}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("gate", GATES)
def test_a_step_never_waits_for_its_numbers(optimizer, gate):
    """The meta device has none: whoever asks it for one, as an accelerator would be waited for, gets an error."""
    meta = torch.device("meta")
    model = TwoExits().to(meta)
    exits = 1 if gate == "survivors" else 2
    trainee = Trainee(model, lambda x: model(x)[:exits], (model,))
    objective = Objective((1.0,) * exits, teacher=torch.zeros(66, 2), distillation=0.5, gate=GATES[gate])
    fitting = Fitting(trainee, objective, plain(optimizer=optimizer), samples=66, device=meta, mixed=True)
    fitting.begin_epoch()
    first, *others = split().batches(16, seed=0)
    with pytest.raises(RuntimeError, match="meta"):
        fitting.step(first)  # looks at its loss when all else is done
    for batch in others:
        fitting.step(batch)
    with pytest.raises(RuntimeError, match="meta"):
        fitting.settle()


def test_a_loss_that_is_not_finite_is_found_soon(monkeypatch):
    monkeypatch.setattr("aebnas.training.fitting.CHECK_EVERY", 2)
    model = TwoExits()
    fitting = Fitting(Trainee(model, model, (model,)), BOTH, plain(), samples=66, device=CPU)
    fitting.begin_epoch()
    batches = list(split().batches(16, seed=0))
    fitting.step(batches[0])
    broken = batches[1]._replace(images=torch.full_like(batches[1].images, float("nan")))
    fitting.step(broken)
    with pytest.raises(TrainingError, match="the loss is nan: lower the learning rate"):
        fitting.step(batches[2])
    with pytest.raises(TrainingError, match="a weight is not finite after an epoch"):
        fitting.settle()


def test_mixed_precision_lets_networks_compute_in_it_and_not_the_loss(monkeypatch):
    """As on CUDA, which alone is asked to."""
    monkeypatch.setattr(
        "aebnas.training.fitting.autocast", lambda device, mixed: torch.autocast("cpu", torch.bfloat16, enabled=mixed)
    )
    computed, judged = [], []

    class Watching(Objective):
        def __call__(self, logits, labels, index, progress=1.0):
            judged.extend(z.dtype for z in logits)
            return super().__call__(logits, labels, index, progress)

    model = TwoExits()
    model.last.register_forward_hook(lambda module, _, said: computed.append((module.training, said.dtype)))
    trainee = Trainee(model, model, (model,))
    result = fit(trainee, split(), split(32, 1), Watching((1.0, 1.0)), plain(), device=CPU, seed=0, mixed=True)
    assert set(computed) == {(True, torch.bfloat16), (False, torch.float32)}
    assert set(judged) == {torch.float32}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    assert min(result.best) > 0.6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
def test_cuda_trains_the_same_network(monkeypatch, mixed):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # Not adamw: it makes whole steps of gradients that are zero but for rounding.
    settings = plain(optimizer="sgd")

    def learnt(device, mixed):
        torch.manual_seed(3)
        model = TwoExits()
        model.body[-1] = nn.Identity()  # every device draws numbers of its own
        trainee = Trainee(model.to(device), model, (model,))
        result = fit(trainee, split(), split(32, 1), BOTH, settings, device=torch.device(device), seed=7, mixed=mixed)
        return model.cpu(), result

    (ours, result), (theirs, expected) = learnt("cuda", mixed), learnt("cpu", False)
    assert result.best == pytest.approx(expected.best, abs=0.15 if mixed else 0.04)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert mixed or torch.allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_cuda_waits_for_nothing():
    device = torch.device("cuda")
    model = TwoExits().to(device)
    objective = Objective((1.0, 1.0), teacher=torch.zeros(66, 2))
    fitting = Fitting(Trainee(model, model, (model,)), objective, plain(), samples=66, device=device, mixed=True)
    fitting.begin_epoch()
    first, *others = split().batches(16, seed=0)
    fitting.step(first)  # the one that looks at its loss
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in others:
            fitting.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
