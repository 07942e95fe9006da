"""Operating points, the curve they form, and the targets that choose one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import InputError
from aebnas.exits.policy import Thresholds

Floats = NDArray[np.float64]

# Shares of the static backbone's cost at which networks are held against each other.
BUDGETS = (0.25, 0.5, 0.75, 1.0)
# Mean costs are sums in floating point: a point whose cost *is* the limit must not fail by its last digit.
_SLACK = 1e-12


@dataclass(frozen=True)
class OperatingPoint:
    """One network with one set of thresholds.

    Attributes:
        thresholds: One per branch, a number or one per predicted class; None = switched off.
        accuracy: Plain or balanced, 0 to 1.
        exit_shares: Fraction of samples that leave at each exit, the final one last.
        costs: Mean costs, in the units of the exit costs.
    """

    thresholds: Thresholds
    accuracy: float
    exit_shares: tuple[float, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """What is asked of one mean cost.

    Args:
        cost: The limit (at-most) or the wish (two-sided), in the cost's unit.
        rule: ``at-most``: the most accurate point that costs no more. ``two-sided``, the rule of AEBNAS
            (arXiv 2512.10671): the highest accuracy% - 0.1 * 100 * |M - T| / T, so that being cheaper costs too.
        cost_index: Which of the costs is meant.
        min_accuracy: Floor that every choice has to keep, 0 to 1.

    Raises:
        InputError: a value is out of its range.
    """

    cost: float
    rule: Literal["at-most", "two-sided"] = "at-most"
    cost_index: int = 0
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in ("at-most", "two-sided"):
            raise InputError(f"target rule {self.rule!r} is unknown: use at-most or two-sided")
        if not (math.isfinite(self.cost) and self.cost > 0):
            raise InputError(f"a target's cost must be a number above 0, not {self.cost}")
        if self.cost_index < 0:
            raise InputError(f"a target's cost_index must be 0 or more, not {self.cost_index}")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise InputError(f"a target's min_accuracy must lie between 0 and 1, not {self.min_accuracy}")

    def scores(self, accuracy: Floats, costs: Floats) -> Floats:
        """Return the score (P,) of points with ``accuracy`` (P,) in 0 to 1 and ``costs`` (n_costs, P).

        The best point has the highest; -inf = not allowed.

        Raises:
            ValueError: there is no cost with this target's index.
        """
        if self.cost_index >= len(costs):
            raise ValueError(f"the target's cost_index is {self.cost_index}, but there are only {len(costs)} costs")
        cost = costs[self.cost_index]
        score = 100.0 * accuracy
        if self.rule == "at-most":
            score = np.where(cost <= self.cost * (1 + _SLACK), score, -np.inf)
        else:
            score = score - 0.1 * 100.0 * np.abs(cost - self.cost) / self.cost
        if self.min_accuracy is not None:
            score = np.where(accuracy >= self.min_accuracy, score, -np.inf)
        return score

    def choose(self, accuracy: Floats, costs: Floats) -> int | None:
        """Return the index of the best point, the cheaper of equals, or None where none is allowed."""
        scores = self.scores(accuracy, costs)
        best = scores.max(initial=-np.inf)
        if best == -np.inf:
            return None
        ties = np.flatnonzero(scores == best)
        return int(ties[np.argmin(costs[self.cost_index, ties])])


@dataclass(frozen=True)
class Curve:
    """The non-dominated operating points of one network, sorted by their first cost."""

    points: tuple[OperatingPoint, ...]

    def best(self, target: Target) -> OperatingPoint | None:
        """Return the point of the curve that meets ``target`` best, None where none is allowed.

        A two-sided target may be met better by a point that is dominated; ``tuning.solve`` looks at those too.
        """
        accuracy = np.array([point.accuracy for point in self.points])
        costs = np.array([point.costs for point in self.points]).T
        choice = target.choose(accuracy, costs)
        return None if choice is None else self.points[choice]
