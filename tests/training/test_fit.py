"""The training loop: early stopping, the epoch that is kept, clipping, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from aebnas.data.preprocessing import identity
from aebnas.data.splits import TensorSplit
from aebnas.errors import TrainingError
from aebnas.training import fit as fit_module
from aebnas.training.fit import Trainee, accuracy_of, fit, logits_of, to_device
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
