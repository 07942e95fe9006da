"""The one training loop: for backbones, single branches and whole networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from aebnas.data.splits import Split
from aebnas.exits.accuracy import AccuracyKind
from aebnas.progress import Stage
from aebnas.training.batch_norm import statistics_that_follow
from aebnas.training.fitting import CHECK_EVERY, FitResult, Fitting
from aebnas.training.inference import Forward, accuracy_of, evaluation_batch, logits_of, to_device
from aebnas.training.log import TellEpoch
from aebnas.training.objective import Objective
from aebnas.training.settings import FitSettings
from aebnas.training.trainee import Guard, Trainee

__all__ = [
    "CHECK_EVERY",
    "FitResult",
    "Forward",
    "Guard",
    "Trainee",
    "WatchEpochs",
    "accuracy_of",
    "evaluation_batch",
    "fit",
    "logits_of",
    "to_device",
]

# Epochs that are over and validation accuracy per exit -> whether to go on.
WatchEpochs = Callable[[int, list[float]], bool]


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
    mixed: bool = False,
    watch: WatchEpochs | None = None,
    resume: Mapping[str, Any] | None = None,
    told: TellEpoch | None = None,
    accuracy: AccuracyKind = "plain",
) -> FitResult:
    """Train, and leave the weights of the epoch with the best mean validation accuracy over the exits that train.

    Early stopping keeps one counter per exit and stops when all have run out (arXiv 2407.14320).

    Args:
        guard: Looks after every step.
        name: What is trained, shown with the progress.
        mixed: Whether networks compute in bfloat16 where ``device`` is a CUDA device.
        watch: Asked after every epoch but the last; False stops here, and the result is told as ``paused``.
        resume: A ``paused`` of the same training, which goes on from there.
        told: Is told of every epoch that is over.
        accuracy: Which one the epoch is chosen by, and early stopping goes by.

    Raises:
        TrainingError: the loss is not finite, or there is nothing to train.
    """
    objective = objective.for_classes(settings, train.labels)
    fitting = Fitting(trainee, objective, settings, samples=len(train), device=device, guard=guard, mixed=mixed)
    if resume is not None:
        fitting.load_state_dict(resume)
    stage = stage or Stage()
    judged, previous = trainee.judged or trainee.forward, trainee.previous[1] if trainee.previous else None
    going_on = True
    while going_on and not fitting.finished:
        start = time.perf_counter()
        fitting.begin_epoch()
        with statistics_that_follow(trainee.fresh, fitting.steps):
            for batch in train.batches(settings.batch_size, seed=seed + fitting.epoch):
                fitting.step(batch)
                stage.advance(len(batch.labels))
        fitting.settle()
        accuracies = accuracy_of(judged, validation, device, previous, accuracy)
        fitting.end_epoch(accuracies)
        stage.note(
            f"{name}{', ' if name else ''}epoch {fitting.epoch}/{settings.epochs}, "
            f"validation {100 * fitting.mean:.2f} %{'' if accuracy == 'plain' else ' balanced'}"
        )
        if watch is not None and not fitting.finished:
            going_on = watch(fitting.epoch, accuracies)
        if told is not None:
            told(fitting.last_epoch(name, seconds=time.perf_counter() - start, stopped=not going_on))
    return fitting.result()
