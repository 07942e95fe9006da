"""One training under way: it goes step by step, can be put aside after any epoch, and goes on as if nothing was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aebnas.data.splits import Batch
from aebnas.errors import TrainingError
from aebnas.training.accelerator import autocast, random_state, set_random_state
from aebnas.training.inference import batch_to_device, inputs_of
from aebnas.training.log import Epoch
from aebnas.training.objective import Objective
from aebnas.training.optimiser import optimiser_of, schedule_of
from aebnas.training.settings import FitSettings
from aebnas.training.trainee import Guard, Trainee

# Reading the loss back stalls an accelerator; a NaN is found at most this many steps late.
CHECK_EVERY = 50


@dataclass(frozen=True)
class FitResult:
    """What a fit did: validation accuracy per epoch and exit, and the epoch whose weights were kept.

    Args:
        added: The exit that this fit was there for, where exits are trained one after the other.
        paused: The state to go on from, where it was stopped before its end; see :meth:`Fitting.state_dict`.
    """

    accuracies: list[list[float]] = field(default_factory=list)
    best_epoch: int = 0
    added: int | None = None
    paused: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def best(self) -> list[float]:
        """Validation accuracy of every exit with the weights that were kept."""
        return self.accuracies[self.best_epoch]


class Fitting:
    """A training that somebody else feeds: epoch by epoch ``begin_epoch``, all its batches, ``settle``, ``end_epoch``.

    Args:
        samples: In the training split.
        device: Where the trainee is, and what is computed on.
        guard: Looks after every step.
        mixed: Whether networks compute in bfloat16 where ``device`` is a CUDA device; losses are in float32.

    Attributes:
        steps: Of an epoch.
        epoch: How many are over.
        accuracies: On validation, per epoch and exit.

    Raises:
        TrainingError: there is nothing to train.
    """

    def __init__(
        self,
        trainee: Trainee,
        objective: Objective,
        settings: FitSettings,
        *,
        samples: int,
        device: torch.device,
        guard: Guard | None = None,
        mixed: bool = False,
    ) -> None:
        self._parameters = trainee.start()
        if not self._parameters:
            raise TrainingError("nothing to train: every part of this phase is frozen")
        self._trainee, self._settings, self._samples = trainee, settings, samples
        self._device, self._guard, self._mixed = device, guard or Guard(), mixed
        self._objective = objective.on(device)
        self._previous = trainee.previous[0].to(device) if trainee.previous else None
        self.steps, self._step = settings.steps(samples), 0
        self._optimizer = optimiser_of(self._parameters, settings)
        self._schedule = schedule_of(self._optimizer, settings, self.steps * settings.epochs)
        self._counters = {exit_: _Counter() for exit_, weight in enumerate(objective.weights) if weight}
        # Summed up where it is computed; only a log reads it, once per epoch.
        self._lost: Tensor | float = 0.0
        self._seen = 0
        self._best_mean, self._best_epoch = -1.0, 0
        self._best_state: dict[str, Tensor] = {}
        self.epoch = 0
        self.accuracies: list[list[float]] = []

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or every exit that trains has run out of patience."""
        patience = self._settings.patience
        run_out = patience is not None and all(counter.since >= patience for counter in self._counters.values())
        return run_out or self.epoch >= self._settings.epochs

    @property
    def mean(self) -> float:
        """Mean validation accuracy over the exits that train, after the last epoch."""
        return sum(self.accuracies[-1][exit_] for exit_ in self._counters) / len(self._counters)

    def begin_epoch(self) -> None:
        """Get ready for the batches of an epoch."""
        self._trainee.train()
        self._step = self._seen = 0
        self._lost = 0.0

    def step(self, batch: Batch) -> None:
        """Train on one batch of the training split.

        Raises:
            TrainingError: the loss is not finite.
        """
        step, self._step = self._step, self._step + 1
        if len(batch.labels) == 1 and step:
            return  # batch-norm cannot train on a last batch of one sample
        loss = self._loss(batch_to_device(batch, self._device), (self.epoch + step / self.steps))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._lost = self._lost + loss.detach() * len(batch.labels)
        self._seen += len(batch.labels)
        if self._settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._optimizer.step()
        self._guard.project()
        self._schedule.step()
        if step % CHECK_EVERY == 0 and not math.isfinite(found := float(loss.detach())):
            raise TrainingError(f"the loss is {found}: lower the learning rate (now {self._settings.lr})")

    def settle(self) -> None:
        """End the steps of an epoch: the trainee is ready to be judged.

        Raises:
            TrainingError: a weight is not finite.
        """
        self._trainee.module.eval()
        if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in self._parameters]).all()):
            raise TrainingError(
                f"a weight is not finite after an epoch: lower the learning rate (now {self._settings.lr})"
            )

    def end_epoch(self, accuracies: list[float]) -> None:
        """Note how every exit did on validation after this epoch; early stopping keeps one counter per exit."""
        self.accuracies.append(accuracies)
        if self.mean >= self._best_mean:
            self._best_mean, self._best_epoch = self.mean, self.epoch
            self._best_state = {key: value.detach().clone() for key, value in self._trainee.module.state_dict().items()}
        for exit_, counter in self._counters.items():
            counter.update(accuracies[exit_])
        self.epoch += 1

    def last_epoch(self, phase: str = "", *, seconds: float, stopped: bool) -> Epoch:
        """Return what there is to tell of the epoch that is just over; waits for the device.

        Args:
            phase: What is trained, in its own words.
            seconds: The epoch took.
            stopped: Whether the training goes no further, though its epochs are not over.
        """
        loss = float(self._lost) / max(1, self._seen)
        accuracies = tuple(self.accuracies[-1])
        return Epoch(phase, self.epoch, self._settings.epochs, loss, accuracies, seconds, stopped)

    def result(self) -> FitResult:
        """Leave the weights of the epoch with the best mean accuracy, ready for inference; at least one is over."""
        paused = None if self.finished else self.state_dict()
        self._optimizer.zero_grad(set_to_none=True)
        self._trainee.module.load_state_dict(self._best_state)
        self._trainee.module.requires_grad_(False).eval()
        return FitResult(self.accuracies, self._best_epoch, paused=paused)

    def state_dict(self) -> dict[str, Any]:
        """Return all that going on after this epoch takes: tensors on the CPU, numbers, texts, and lists of them."""
        now = _kept(self._trainee.module.state_dict())
        return {
            "training": self._training(),
            "accuracies": [list(epoch) for epoch in self.accuracies],
            "module": now,
            "best": now if self._best_epoch == self.epoch - 1 else _kept(self._best_state),
            "best_mean": self._best_mean,
            "best_epoch": self._best_epoch,
            "optimizer": _kept(self._optimizer.state_dict()),
            "schedule": _kept(self._schedule.state_dict()),
            "counters": [[counter.best, counter.since] for counter in self._counters.values()],
            # What drops out from here on is drawn from these.
            "random": random_state(self._device),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, of the same training; on the CPU bit for bit as if it had never been put aside.

        Raises:
            ValueError: it is that of another training.
        """
        if state["training"] != self._training():
            raise ValueError(f"this state is of a training with {state['training']}, this one has {self._training()}")
        self._trainee.module.load_state_dict(state["module"])
        # An optimiser would go on with these very tensors.
        self._optimizer.load_state_dict(_kept(state["optimizer"]))
        self._schedule.load_state_dict(_kept(state["schedule"]))
        self._best_mean, self._best_epoch = state["best_mean"], state["best_epoch"]
        self._best_state = {name: tensor.to(self._device, copy=True) for name, tensor in state["best"].items()}
        for counter, (best, since) in zip(self._counters.values(), state["counters"], strict=True):
            counter.best, counter.since = best, since
        self.accuracies = [list(epoch) for epoch in state["accuracies"]]
        self.epoch = len(self.accuracies)
        set_random_state(state["random"], self._device)

    def _loss(self, batch: Batch, epochs: float) -> Tensor:
        with autocast(self._device, self._mixed):
            logits = self._trainee.forward(*inputs_of(batch, self._previous))
        logits = [z.float() for z in logits]
        loss = self._objective(logits, batch.labels, batch.index, epochs / self._settings.epochs)
        penalty = self._guard.penalty(batch.images, logits)
        return loss if penalty is None else loss + penalty

    def _training(self) -> dict[str, Any]:
        return {"samples": self._samples, **self._settings.about()}


@dataclass
class _Counter:
    """Epochs since one exit was last at its best (arXiv 2407.14320)."""

    best: float = -1.0
    since: int = 0

    def update(self, accuracy: float) -> None:
        self.since = 0 if accuracy > self.best else self.since + 1
        self.best = max(self.best, accuracy)


def _kept(value: Any) -> Any:
    """Return a copy of nested dicts and lists in which every tensor is a copy of its own, on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _kept(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_kept(part) for part in value)
    return value
