"""Training a backbone that comes without weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from aebnas.data.splits import DataBundle
from aebnas.exits.accuracy import AccuracyKind
from aebnas.progress import Progress
from aebnas.training.fit import FitResult, Trainee, fit
from aebnas.training.log import TellEpoch
from aebnas.training.objective import Objective
from aebnas.training.resident import resident
from aebnas.training.settings import FitSettings

# A share of (1 - m)^n of where running statistics began is left after n steps of momentum m: 1 % after so many / m.
_FORGOTTEN = math.log(100)
# torch's own default; nothing is made to follow faster.
_USUAL = 0.1


def train_backbone(
    model: nn.Module,
    data: DataBundle,
    settings: FitSettings,
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
    mixed: bool = False,
    told: TellEpoch | None = None,
    accuracy: AccuracyKind = "plain",
) -> FitResult:
    """Train ``model`` in place on the labels; the weights of the best validation epoch stay.

    Args:
        mixed: Whether it computes in bfloat16 where ``device`` is a CUDA device.
        told: Is told of every epoch that is over.
        accuracy: Which one the epoch is chosen by.
    """
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainee = Trainee(model, lambda images: [model(images)], (model,))
    steps = math.ceil(len(data.train) / settings.batch_size)
    with (
        progress.stage("training the backbone", settings.epochs * len(data.train)) as stage,
        _statistics_that_follow(model, steps),
    ):
        result = fit(
            trainee,
            resident(data.train, device),
            resident(data.validation, device),
            Objective((1.0,)),
            settings,
            device=device,
            seed=seed,
            stage=stage,
            mixed=mixed,
            told=told,
            accuracy=accuracy,
        )
    model.cpu()
    return result


@contextlib.contextmanager
def _statistics_that_follow(model: nn.Module, steps: int) -> Iterator[None]:
    """Let batch-norm statistics forget within an epoch of ``steps`` steps what they were before it.

    MobileNetV3, EfficientNet and MnasNet of the libraries come with a momentum of 0.01 or less, which is for epochs of
    thousands of steps. In shorter ones their statistics lag behind the weights, and what has learnt is judged, and
    used, as if it had not.
    """
    least = min(_USUAL, _FORGOTTEN / steps)
    slow = {
        layer: layer.momentum
        for layer in model.modules()
        if isinstance(layer, _NormBase) and layer.momentum is not None and layer.momentum < least
    }
    for layer in slow:
        layer.momentum = least
    try:
        yield
    finally:
        for layer, momentum in slow.items():
            layer.momentum = momentum
