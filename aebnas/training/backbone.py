"""Training a backbone that comes without weights."""

from __future__ import annotations

import torch
from torch import nn

from aebnas.data.splits import DataBundle
from aebnas.exits.accuracy import AccuracyKind
from aebnas.progress import Progress
from aebnas.training.fit import FitResult, Trainee, fit
from aebnas.training.log import TellEpoch
from aebnas.training.objective import Objective
from aebnas.training.resident import resident
from aebnas.training.settings import FitSettings


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
    trainee = Trainee(model, lambda images: [model(images)], (model,), fresh=(model,))
    with progress.stage("training the backbone", settings.epochs * len(data.train)) as stage:
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
