"""What every training of a candidate begins with: its seed, its samples, its objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aebnas.data.splits import Split
from aebnas.errors import TrainingError
from aebnas.training.objective import Gate, Objective
from aebnas.training.regimes import REGIMES, regime_problem
from aebnas.training.settings import RegimeSettings


def seed_everything(seed: int) -> None:
    """Seed what initialises weights and draws dropout."""
    torch.manual_seed(seed)


def refuse(settings: RegimeSettings) -> None:
    """Raise TrainingError where the regime cannot do what ``settings`` say."""
    problem = regime_problem(settings)
    if problem is not None:
        raise TrainingError(f"regime.{problem}")


def chosen_rows(count: int, samples: int | None, seed: int) -> Tensor | None:
    """Return the first ``samples`` of a seeded shuffle of ``count`` rows, ascending; None: all of them."""
    if samples is None or samples >= count:
        return None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:samples].sort().values


def limited(split: Split, teacher: Tensor | None, samples: int | None, seed: int) -> tuple[Split, Tensor | None]:
    """Return the :func:`chosen_rows` of ``split`` with those of ``teacher``, or all of both."""
    rows = chosen_rows(len(split), samples, seed)
    if rows is None:
        return split, teacher
    return split.subset(rows), None if teacher is None else teacher[rows]


def objective_of(
    settings: RegimeSettings,
    weights: tuple[float, ...],
    teacher: Tensor | None,
    *,
    gate: Gate | None = None,
    schedule: Callable[[float], tuple[float, ...]] | None = None,
) -> Objective:
    """Return what exits of these ``weights`` learn under ``settings``; the other arguments as of Objective."""
    return Objective(
        weights,
        teacher,
        settings.temperature,
        final_teaches=REGIMES[settings.name].target(settings) == "final",
        distillation=settings.distillation,
        loss=settings.loss,
        label_smoothing=settings.label_smoothing,
        gate=gate,
        schedule=schedule,
    )
