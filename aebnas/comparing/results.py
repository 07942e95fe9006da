"""What one training of one seed gave: plain values, one JSON file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aebnas.exits.policy import Thresholds, thresholds_from_json


@dataclass(frozen=True)
class Point:
    """One policy, chosen on validation and applied once to test; costs are means per sample."""

    thresholds: Thresholds
    accuracy_val: float
    cost_val: float
    accuracy_test: float
    cost_test: float


@dataclass(frozen=True)
class Result:
    """One variant trained from one seed.

    Args:
        epochs: Trained from the regime's start, the longest of its branches where they train alone.
        backbone_epochs: Of the trained backbone that it starts or learns from; 0 where there is none.
        accuracies_val, accuracies_test: Every exit alone, the final one last.
        points: The curve of its policies and leaving all at one exit, by rising cost on validation.
        diagnostics: Of all exits on test: EEFP, ECE ..., means over the early exits.
        forgetting: Of exits added one after the other: accuracy on validation right after each step, and at the end.
    """

    variant: str
    seed: int
    epochs: int
    backbone_epochs: int
    seconds: float
    accuracies_val: tuple[float, ...]
    accuracies_test: tuple[float, ...]
    points: tuple[Point, ...]
    diagnostics: Mapping[str, float | None]
    forgetting: tuple[tuple[float, float], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """Read what :meth:`to_json` wrote; raises KeyError or TypeError for anything else."""
        forgetting = values["forgetting"]
        return cls(
            **{
                **values,
                "accuracies_val": tuple(values["accuracies_val"]),
                "accuracies_test": tuple(values["accuracies_test"]),
                "points": tuple(map(_point, values["points"])),
                "forgetting": None if forgetting is None else tuple((after, end) for after, end in forgetting),
            }
        )


def _point(values: Mapping[str, Any]) -> Point:
    return Point(**{**values, "thresholds": thresholds_from_json(values["thresholds"])})


@dataclass(frozen=True)
class StaticResult:
    """One static network trained from one seed with all epochs: the backbone, or it cut off behind one branch.

    Args:
        exit: The branch that it ends in; None: the whole backbone.
    """

    exit: int | None
    seed: int
    epochs: int
    seconds: float
    accuracy_val: float
    accuracy_test: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
