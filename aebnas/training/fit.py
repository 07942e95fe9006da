"""The one training loop: for backbones, single branches and whole networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from aebnas.backbones.modes import ByMode
from aebnas.data.splits import Batch, Split
from aebnas.errors import TrainingError
from aebnas.progress import Stage
from aebnas.training.objective import Objective
from aebnas.training.settings import FitSettings

# Images (or features), and where there are some the logits of the exit before, to the logits of every exit.
Forward = Callable[..., Sequence[Tensor]]
EVALUATION_BATCH = 512
# Reading the loss back stalls an accelerator; a NaN is found at most this many steps late.
CHECK_EVERY = 50


@dataclass(frozen=True)
class FitResult:
    """What a fit did: validation accuracy per epoch and exit, and the epoch whose weights were kept.

    Args:
        added: The exit that this fit was there for, where exits are trained one after the other.
    """

    accuracies: list[list[float]] = field(default_factory=list)
    best_epoch: int = 0
    added: int | None = None

    @property
    def best(self) -> list[float]:
        """Validation accuracy of every exit with the weights that were kept."""
        return self.accuracies[self.best_epoch]


@dataclass(frozen=True)
class Trainee:
    """What is trained.

    Args:
        module: Holds everything that ``forward`` uses; its state is kept and restored.
        forward: Images (or features) to the logits of every exit that is trained.
        moving: The modules whose weights and batch-norm statistics move; all others stay as they are.
        still: Those of them whose weights move, but whose batch-norm statistics stay.
        judged: To the logits that accuracies are those of, where they are more than ``forward`` gives.
        previous: Logits of the exit before for every sample of the training and of the validation split, which
            ``forward`` takes beside the features.
    """

    module: nn.Module
    forward: Forward
    moving: tuple[nn.Module, ...]
    still: tuple[nn.Module, ...] = ()
    judged: Forward | None = None
    previous: tuple[Tensor, Tensor] | None = None

    def start(self) -> list[nn.Parameter]:
        """Freeze everything but the moving modules; return the parameters to optimise."""
        self.module.requires_grad_(False)
        for part in self.moving:
            part.requires_grad_(True)
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def train(self) -> None:
        """Set the moving modules to training mode and freeze the batch-norm statistics of the others."""
        self.module.eval()
        for part in self.moving:
            part.train()
        for part in self.still:
            for layer in part.modules():
                if isinstance(layer, _NormBase) or (isinstance(layer, ByMode) and layer.function is F.batch_norm):
                    layer.eval()


class Guard:
    """What looks after every step of a training; this one does nothing."""

    def penalty(self, images: Tensor, logits: Sequence[Tensor]) -> Tensor | None:
        """Return what is added to the loss of a batch, a scalar, from its images and the logits of the exits."""
        return None

    def project(self) -> None:
        """Put weights back in their place after a step of the optimiser."""


def fit(
    trainee: Trainee,
    train: Split,
    validation: Split,
    objective: Objective,
    settings: FitSettings,
    *,
    device: torch.device,
    seed: int,
    stage: Stage | None = None,
    guard: Guard | None = None,
    name: str = "",
) -> FitResult:
    """Train, and leave the weights of the epoch with the best mean validation accuracy over the exits that train.

    Early stopping keeps one counter per exit and stops when all have run out (arXiv 2407.14320).

    Args:
        guard: Looks after every step.
        name: What is trained, shown with the progress.

    Raises:
        TrainingError: the loss is not finite, or there is nothing to train.
    """
    parameters = trainee.start()
    if not parameters:
        raise TrainingError("nothing to train: every part of this phase is frozen")
    stage = stage or Stage()
    steps = math.ceil(len(train) / settings.batch_size)
    optimizer = _optimizer(parameters, settings)
    schedule = _schedule(optimizer, settings, steps * settings.epochs)
    trained = [exit_ for exit_, weight in enumerate(objective.weights) if weight]
    counters = {exit_: _Counter() for exit_ in trained}
    accuracies: list[list[float]] = []
    best_mean, best_epoch, best_state = -1.0, 0, {}
    judged, previous = trainee.judged or trainee.forward, trainee.previous[1] if trainee.previous else None
    loop = _Loop(trainee, objective, settings, optimizer, schedule, device, stage, guard or Guard())
    for epoch in range(settings.epochs):
        trainee.train()
        loop.epoch(train, epoch, seed + epoch)
        trainee.module.eval()
        accuracies.append(accuracy_of(judged, validation, device, previous))
        mean = sum(accuracies[-1][exit_] for exit_ in trained) / len(trained)
        stage.note(f"{name}{', ' if name else ''}epoch {epoch + 1}/{settings.epochs}, validation {100 * mean:.2f} %")
        if mean >= best_mean:
            best_mean, best_epoch = mean, epoch
            best_state = {name: tensor.detach().clone() for name, tensor in trainee.module.state_dict().items()}
        run_out = [counter.update(accuracies[-1][exit_], settings.patience) for exit_, counter in counters.items()]
        if all(run_out):
            break
    optimizer.zero_grad(set_to_none=True)
    trainee.module.load_state_dict(best_state)
    trainee.module.requires_grad_(False).eval()
    return FitResult(accuracies, best_epoch)


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """Move a batch to ``device``; maps become channels-last, which convolutions train faster on."""
    images = images.to(device, non_blocking=True)
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


@torch.no_grad()
def logits_of(forward: Forward, split: Split, device: torch.device, previous: Tensor | None = None) -> list[Tensor]:
    """Return the logits of every exit on a split, in order: ``(N, classes)`` float32 each, on the CPU.

    Args:
        previous: What ``forward`` takes beside the images, ``(N, classes)``: the logits of the exit before.
    """
    chunks = [
        [z.float().cpu() for z in forward(*_inputs(batch, device, previous))]
        for batch in split.batches(EVALUATION_BATCH)
    ]
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


def accuracy_of(forward: Forward, split: Split, device: torch.device, previous: Tensor | None = None) -> list[float]:
    """Return the accuracy in [0, 1] of every exit on a split; arguments as of :func:`logits_of`."""
    logits = logits_of(forward, split, device, previous)
    return [float((z.argmax(1) == split.labels).float().mean()) for z in logits]


def _inputs(batch: Batch, device: torch.device, previous: Tensor | None) -> list[Tensor]:
    images = to_device(batch.images, device)
    return [images] if previous is None else [images, previous[batch.index].to(device)]


class _Counter:
    """Epochs since one exit was last at its best."""

    def __init__(self) -> None:
        self.best, self.since = -1.0, 0

    def update(self, accuracy: float, patience: int | None) -> bool:
        self.since = 0 if accuracy > self.best else self.since + 1
        self.best = max(self.best, accuracy)
        return patience is not None and self.since >= patience


@dataclass(frozen=True)
class _Loop:
    """What the epochs of one fit have in common."""

    trainee: Trainee
    objective: Objective
    settings: FitSettings
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device
    stage: Stage
    guard: Guard

    def epoch(self, train: Split, number: int, seed: int) -> None:
        settings = self.settings
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        steps = math.ceil(len(train) / settings.batch_size)
        for step, batch in enumerate(train.batches(settings.batch_size, seed=seed)):
            if len(batch.labels) == 1 and step:
                continue  # batch-norm cannot train on a last batch of one sample
            loss = self.loss(batch, (number + step / steps) / settings.epochs)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            self.optimizer.step()
            self.guard.project()
            self.schedule.step()
            if step % CHECK_EVERY == 0 and not math.isfinite(float(loss.detach())):
                raise TrainingError(f"the loss is {float(loss.detach())}: lower the learning rate (now {settings.lr})")
            self.stage.advance(len(batch.labels))
        if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
            raise TrainingError(f"a weight is not finite after an epoch: lower the learning rate (now {settings.lr})")

    def loss(self, batch: Batch, progress: float) -> Tensor:
        previous = self.trainee.previous[0] if self.trainee.previous else None
        images, *before = _inputs(batch, self.device, previous)
        logits = self.trainee.forward(images, *before)
        loss = self.objective(logits, batch.labels.to(self.device), batch.index, progress)
        penalty = self.guard.penalty(images, logits)
        return loss if penalty is None else loss + penalty


def _optimizer(parameters: list[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        )
    return torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)


def _schedule(
    optimizer: torch.optim.Optimizer, settings: FitSettings, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "one-cycle":
        # OneCycleLR needs at least two steps, divides by zero where its rise is one step, and cycles the momentum of
        # optimisers that have one.
        steps = max(2, total + 1)
        rise = 0.3 if steps == 4 else 0.25
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.lr, total_steps=steps, pct_start=rise, cycle_momentum=False
        )
    if settings.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total))
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
