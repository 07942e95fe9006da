"""What is known of one network: its curve, its static truncations, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aebnas.branches.spec import NetworkSpec
from aebnas.exits.curve import Curve, OperatingPoint
from aebnas.exits.policy import thresholds_from_json, thresholds_to_json

Budget = Literal["search", "final"]


@dataclass(frozen=True)
class StaticPoint:
    """A static network: validation accuracy in [0, 1] and its costs by name."""

    accuracy: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One network under one training budget.

    Args:
        curve: Its points' costs are in the order of ``cost_names``. They are sorted by the first of those that are
            objectives, and none beats another by these, limits and the target; only the best for a two-sided target,
            the last one then, may be beaten.
        truncated: The static network that always ends at a branch, of the first branches that can stand alone: all of
            them, or only the first where each hears the one before.
        weights: ``{"branches": [keys]}`` or ``{"network": key}`` in the run's stores.
        failure: Why there is no curve, or None.
        seconds: Spent on training and tuning.
        curves: Validation accuracy after each epoch, of every branch that was trained alone, or of every exit of a
            network that was trained as a whole.
        epochs: For each of these after how many epochs it was stopped, or None where it was trained to the end.
    """

    spec: NetworkSpec
    budget: Budget
    cost_names: tuple[str, ...]
    curve: Curve
    truncated: tuple[StaticPoint, ...]
    weights: Mapping[str, Any]
    seconds: float
    failure: str | None = None
    curves: tuple[tuple[float, ...], ...] = ()
    epochs: tuple[int | None, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether some training was stopped: all figures are of the network as it was left then."""
        return any(epochs is not None for epochs in self.epochs)

    @property
    def id(self) -> str:
        """A short name for people: 8 hex digits, marked when trained with the full budget."""
        return self.spec.key[:8] + ("f" if self.budget == "final" else "")

    def cost(self, point: OperatingPoint, name: str) -> float:
        """Return one mean cost of a point by its name."""
        return point.costs[self.cost_names.index(name)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {
            "spec": self.spec.to_json(),
            "budget": self.budget,
            "cost_names": list(self.cost_names),
            "curve": [_point_json(point) for point in self.curve.points],
            "truncated": [{"accuracy": static.accuracy, "costs": dict(static.costs)} for static in self.truncated],
            "weights": dict(self.weights),
            "seconds": self.seconds,
            "failure": self.failure,
            "curves": [list(curve) for curve in self.curves],
            "epochs": list(self.epochs),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evaluation:
        """Read what :meth:`to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        return cls(
            NetworkSpec.from_json(value["spec"]),
            value["budget"],
            tuple(value["cost_names"]),
            Curve(tuple(_point(point) for point in value["curve"])),
            tuple(StaticPoint(static["accuracy"], static["costs"]) for static in value["truncated"]),
            value["weights"],
            float(value["seconds"]),
            value["failure"],
            # Older runs stopped nothing, and kept no curves.
            tuple(tuple(map(float, curve)) for curve in value.get("curves", ())),
            tuple(value.get("epochs", ())),
        )


def _point_json(point: OperatingPoint) -> dict[str, Any]:
    return {
        "thresholds": thresholds_to_json(point.thresholds),
        "accuracy": point.accuracy,
        "exit_shares": list(point.exit_shares),
        "costs": list(point.costs),
    }


def _point(value: Mapping[str, Any]) -> OperatingPoint:
    return OperatingPoint(
        thresholds_from_json(value["thresholds"]),
        float(value["accuracy"]),
        tuple(value["exit_shares"]),
        tuple(value["costs"]),
    )
