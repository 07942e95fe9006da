"""Regimes: lists of phases (arXiv 2407.14320). A new regime is a new list, not a new training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aebnas.errors import ExperimentError
from aebnas.registry import Registry
from aebnas.training.objective import WEIGHTINGS
from aebnas.training.settings import RegimeSettings


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: For progress and messages.
        branches: Whether the branches move.
        backbone: Whether the segments, the backbone's classifier among them, move.
        exit_weights: Of the exits' losses, the final exit last; 0 leaves an exit out.
        epochs: Share of the regime's epochs that this phase takes, in (0, 1].
    """

    name: str
    branches: bool
    backbone: bool
    exit_weights: tuple[float, ...]
    epochs: float = 1.0


@dataclass(frozen=True)
class Regime:
    """Phases for a network of some number of branches, and where the backbone's weights start."""

    phases: Callable[[int, RegimeSettings], list[Phase]]
    start: Literal["trained", "initial"] = "trained"

    @property
    def freezes_backbone(self) -> bool:
        """Whether branches train independently of each other on features that never change."""
        return not any(phase.backbone for phase in self.phases(1, RegimeSettings()))


REGIMES: Registry[Regime] = Registry("regime", ExperimentError)


def _weights(exits: int, settings: RegimeSettings) -> tuple[float, ...]:
    return WEIGHTINGS[settings.weighting](exits)


def _disjoint(branches: int, settings: RegimeSettings) -> list[Phase]:
    """The backbone is trained already and stays frozen; every branch trains on its own."""
    return [Phase("branches", branches=True, backbone=False, exit_weights=(1.0,) * branches + (0.0,))]


def _together(branches: int, settings: RegimeSettings) -> list[Phase]:
    """Everything trains together: from scratch it is the joint regime, from a trained backbone the mixed one."""
    return [Phase("everything", branches=True, backbone=True, exit_weights=_weights(branches + 1, settings))]


REGIMES.add("disjoint")(Regime(_disjoint))
REGIMES.add("joint")(Regime(_together, start="initial"))
REGIMES.add("mixed")(Regime(_together))
