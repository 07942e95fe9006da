"""The training loop: early stopping, the epoch that is kept, clipping, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aebnas.backbones.modes import ByMode
from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import TrainingError
from aebnas.training import fit as fit_module
from aebnas.training.fit import Guard, Trainee, accuracy_of, fit, logits_of, to_device
from aebnas.training.objective import Objective
from aebnas.training.settings import FitSettings

CPU = torch.device("cpu")
EPOCHS = 8


class TwoExits(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.first, self.last = nn.Linear(4, 2), nn.Linear(8, 2)

    def forward(self, x):
        return [self.first(x.flatten(1)), self.last(self.body(x))]


def split(count=64, seed=0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 1, 2, 2, generator=random) + 3.0 * labels[:, None, None, None]
    return TensorSplit(images, labels, identity(1))


BOTH = Objective((1.0, 1.0))


def run(model, objective=BOTH, moving=None, train=None, **settings):
    values = {"epochs": 1, "batch_size": 16, "lr": 0.05, "schedule": "constant", **settings}
    trainee = Trainee(model, model, (model,) if moving is None else moving)
    return fit(trainee, train or split(), split(32, 1), objective, FitSettings(**values), device=CPU, seed=0)


def scripted(monkeypatch, *exits):
    """Let validation accuracies be those of a script: one list per exit."""
    epochs = iter(zip(*exits, strict=True))
    monkeypatch.setattr(fit_module, "accuracy_of", lambda *_: list(next(epochs)))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_training_stops_when_every_exit_has_run_out(monkeypatch):
    # The first exit is out of patience after epoch 2; the second improves until then and runs out after epoch 4.
    scripted(monkeypatch, [0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    assert len(run(TwoExits(), epochs=EPOCHS, patience=2).accuracies) == 5


def test_an_exit_that_improves_again_starts_its_own_counter_anew(monkeypatch):
    # The first exit would be out after epoch 2, but is at its best in epoch 3; the second never improves.
    scripted(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.9] * 8)
    assert len(run(TwoExits(), epochs=EPOCHS, patience=2).accuracies) == 5


def test_an_exit_without_weight_neither_stops_nor_prolongs_training(monkeypatch):
    scripted(monkeypatch, [0.5] * 8, [n / 10 for n in range(1, 9)])
    assert len(run(TwoExits(), Objective((1.0, 0.0)), epochs=EPOCHS, patience=2).accuracies) == 3


def test_without_patience_all_epochs_are_trained(monkeypatch):
    scripted(monkeypatch, [0.5] * 8, [0.5] * 8)
    assert len(run(TwoExits(), epochs=EPOCHS).accuracies) == EPOCHS


def test_the_weights_of_the_best_epoch_are_kept(monkeypatch):
    until_best = TwoExits()
    run(until_best, epochs=3)
    scripted(monkeypatch, [0.1, 0.2, 0.6, 0.9, 0.1], [0.1, 0.2, 0.8, 0.3, 0.1])
    model = TwoExits()
    result = run(model, epochs=5)
    assert result.best_epoch == 2  # the best mean, not the best of one exit
    assert result.best == [0.6, 0.8]
    assert same(model, until_best)


def test_of_equally_good_epochs_the_last_is_kept(monkeypatch):
    scripted(monkeypatch, [0.5, 0.5, 0.4], [0.5, 0.5, 0.4])
    assert run(TwoExits(), epochs=3).best_epoch == 1


def test_the_reported_accuracy_is_that_of_the_kept_weights():
    model = TwoExits()
    result = run(model, epochs=4, lr=0.2)
    assert accuracy_of(model, split(32, 1), CPU) == result.best


@pytest.mark.parametrize("clip", [0.01, 0.5])
def test_a_clipped_step_has_the_length_that_was_asked_for(clip):
    model, data = TwoExits(), split(16)
    before = copy.deepcopy(model).train()
    Objective((1.0, 1.0))(before(data.images), data.labels, torch.arange(16)).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in before.parameters()])
    assert float(gradient.norm()) > clip
    run(model, train=data, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1.0, clip_norm=clip)
    old = torch.cat([parameter.detach().flatten() for parameter in before.parameters()])
    new = torch.cat([parameter.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(old - new, clip * gradient / gradient.norm(), rtol=1e-3, atol=1e-6)


def test_without_clipping_the_step_is_the_gradient():
    model, data = TwoExits(), split(16)
    before = copy.deepcopy(model).train()
    Objective((1.0, 1.0))(before(data.images), data.labels, torch.arange(16)).backward()
    run(model, train=data, optimizer="sgd", momentum=0.0, weight_decay=0.0, lr=1.0, clip_norm=None)
    for old, new in zip(before.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(old.detach() - new, old.grad, rtol=1e-3, atol=1e-6)


def test_what_does_not_move_stays_as_it_is():
    model = TwoExits()
    body, last = copy.deepcopy(model.body), copy.deepcopy(model.last)
    before = copy.deepcopy(model.first)
    run(model, moving=(model.first,), epochs=2)
    assert same(model.body, body)  # its batch-norm statistics among it
    assert same(model.last, last)
    assert not same(model.first, before)


def test_a_phase_in_which_nothing_moves_is_refused():
    with pytest.raises(TrainingError, match="nothing to train"):
        run(TwoExits(), moving=())


def test_a_last_batch_of_one_sample_is_left_out():
    one_more = split(33)
    assert len(run(TwoExits(), train=one_more, batch_size=16).accuracies) == 1


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimiser_and_schedule_learns(optimizer, schedule):
    result = run(TwoExits(), epochs=5, optimizer=optimizer, schedule=schedule)
    assert min(result.best) > 0.85


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("epochs", range(1, 6))
def test_every_schedule_takes_a_few_steps(schedule, epochs):
    assert len(run(TwoExits(), train=split(8), schedule=schedule, epochs=epochs).accuracies) == epochs


def test_a_fitted_module_is_left_ready_for_inference():
    model = TwoExits()
    run(model)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_logits_are_those_of_one_big_batch():
    model, data = TwoExits().eval(), split(1100)  # more than are computed at once
    for ours, whole in zip(logits_of(model, data, CPU), model(data.images), strict=True):
        torch.testing.assert_close(ours, whole)


def test_maps_become_channels_last_and_vectors_stay():
    assert to_device(torch.zeros(2, 3, 4, 4), CPU).is_contiguous(memory_format=torch.channels_last)
    assert to_device(torch.zeros(2, 3), CPU).shape == (2, 3)


class Recording(Guard):
    def __init__(self, model):
        self.model, self.penalties, self.steps = model, 0, []

    def penalty(self, images, logits):
        self.penalties += 1
        assert len(images) == len(logits[0])
        return 100.0 * self.model.last.weight.square().sum()

    def project(self):
        self.steps.append(self.model.last.weight.abs().max().item())
        self.model.last.weight.data.clamp_(-0.01, 0.01)


def test_a_guard_adds_to_the_loss_and_has_the_last_word_after_every_step():
    model = TwoExits()
    guard = Recording(model)
    trainee = Trainee(model, model, (model,))
    settings = FitSettings(epochs=2, batch_size=16, lr=0.05, schedule="constant")
    fit(trainee, split(), split(32, 1), BOTH, settings, device=CPU, seed=0, guard=guard)
    assert guard.penalties == len(guard.steps) == 8
    assert max(guard.steps) > 0.01
    assert float(model.last.weight.abs().max()) <= 0.01


def test_a_penalty_pulls():
    free, pulled = TwoExits(), TwoExits()
    guard = Recording(pulled)
    guard.project = lambda: None
    for model, own in ((free, None), (pulled, guard)):
        trainee = Trainee(model, model, (model,))
        settings = FitSettings(epochs=3, batch_size=16, lr=0.05, schedule="constant")
        fit(trainee, split(), split(32, 1), BOTH, settings, device=CPU, seed=0, guard=own)
    assert pulled.last.weight.norm() < 0.3 * free.last.weight.norm()


def test_statistics_that_are_still_stay_while_the_weights_move():
    model = TwoExits()
    before = copy.deepcopy(model.body)
    trainee = Trainee(model, model, (model,), still=(model.body,))
    settings = FitSettings(epochs=2, batch_size=16, lr=0.05)
    fit(trainee, split(), split(32, 1), BOTH, settings, device=CPU, seed=0)
    for ours, theirs in zip(model.body.buffers(), before.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(torch.equal(a, b) for a, b in zip(model.body.parameters(), before.parameters(), strict=True))


def test_functional_statistics_are_still_as_well():
    layer = ByMode(torch.nn.functional.batch_norm, None, None)
    dropout = ByMode(torch.nn.functional.dropout, None, None)
    model = nn.Sequential(nn.Linear(1, 1), layer, dropout)
    Trainee(model, model, (model,), still=(model,)).train()
    assert [layer.training, dropout.training] == [False, True]


def test_accuracies_may_be_those_of_more_exits_than_are_trained():
    model = TwoExits()
    trainee = Trainee(model, lambda x: model(x)[:1], (model.first,), judged=model)
    settings = FitSettings(epochs=3, batch_size=16, lr=0.05)
    result = fit(trainee, split(), split(32, 1), Objective((1.0,)), settings, device=CPU, seed=0)
    assert [len(epoch) for epoch in result.accuracies] == [2, 2, 2]
    assert result.best == accuracy_of(model, split(32, 1), CPU)


def test_what_the_exit_before_said_goes_with_its_samples():
    """Features are noise, the stored logits give the label away; rows of another sample would say nothing."""
    train, validation = split(), split(32, 1)
    said = [nn.functional.one_hot(part.labels.flip(0), 2).float().flip(0) for part in (train, validation)]
    seen = []

    class Listening(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.1))

        def forward(self, images, previous):
            seen.append(len(previous))
            return self.scale * previous

    model = Listening()
    trainee = Trainee(model, lambda *inputs: [model(*inputs)], (model,), previous=tuple(said))
    settings = FitSettings(epochs=2, batch_size=16, lr=0.05)
    result = fit(trainee, train, validation, Objective((1.0,)), settings, device=CPU, seed=0)
    assert result.best == [1.0]
    assert seen == [16, 16, 16, 16, 32] * 2
    (logits,) = logits_of(trainee.forward, validation, CPU, said[1])
    torch.testing.assert_close(logits, model(None, said[1]))


def test_the_objective_is_told_how_much_of_the_training_is_over():
    seen = []

    class Watching(Objective):
        def __call__(self, logits, labels, index, progress=1.0):
            seen.append(progress)
            return super().__call__(logits, labels, index, progress)

    run(TwoExits(), Watching((1.0, 1.0)), epochs=2)  # of four steps each
    assert seen == pytest.approx([n / 8 for n in range(8)])


def test_a_fit_leaves_no_gradients():
    model = TwoExits()
    run(model)
    assert all(parameter.grad is None for parameter in model.parameters())
