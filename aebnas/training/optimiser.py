"""Optimisers and schedules by name."""

from __future__ import annotations

import torch
from torch import nn

from aebnas.training.settings import FitSettings


def optimiser_of(parameters: list[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    """Return the optimiser that ``settings`` name."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            settings.lr,
            settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.momentum > 0,
        )
    return torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)


def schedule_of(
    optimizer: torch.optim.Optimizer, settings: FitSettings, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule that ``settings`` name over ``total`` steps."""
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
