"""The figures of one variant and seed at fixed points, from its policies and the static backbone of the same seed.

Policies are chosen by validation; what is told of them is test. Costs are told as a share of the static backbone's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aebnas.comparing.compare import Comparison
from aebnas.comparing.results import Point, Result
from aebnas.exits.curve import BUDGETS

# Between the first exit and the whole backbone, for the area under the curve and for pictures.
STEPS = 41
# What has a cost within a budget must not fail by the last digit of a sum.
_SLACK = 1e-9
# Accuracy that may be given up for a lower cost, at the second of the fixed accuracies.
_ONE_POINT = 0.01


@dataclass(frozen=True)
class Scale:
    """What costs are told in, and the budgets between the first exit and the backbone, as shares of it."""

    backbone: float
    budgets: tuple[float, ...]

    @classmethod
    def of(cls, comparison: Comparison) -> Scale:
        """Return the scale of a comparison: from the dearest first exit on, so that all variants meet all budgets."""
        every = comparison.prices.values()
        backbone = next(iter(every)).backbone
        first = min(1.0, max(prices.first for prices in every) / backbone)
        return cls(backbone, tuple(np.linspace(first, 1.0, STEPS).tolist()))


def within(points: Sequence[Point], cost: float) -> Point | None:
    """Return the most accurate of ``points`` on validation that cost at most so much there, the cheapest of equals."""
    allowed = [point for point in points if point.cost_val <= cost * (1 + _SLACK)]
    return max(allowed, key=lambda point: (point.accuracy_val, -point.cost_val), default=None)


def reaching(points: Sequence[Point], accuracy: float) -> Point | None:
    """Return the cheapest of ``points`` with at least this accuracy on validation, the most accurate of equals."""
    allowed = [point for point in points if point.accuracy_val >= accuracy - _SLACK]
    return min(allowed, key=lambda point: (point.cost_val, -point.accuracy_val), default=None)


def curve(result: Result, scale: Scale) -> list[tuple[float, float] | None]:
    """Return (cost as a share, accuracy) on test at every budget of ``scale``, None where nothing fits."""
    found = [within(result.points, budget * scale.backbone) for budget in scale.budgets]
    return [None if point is None else (point.cost_test / scale.backbone, point.accuracy_test) for point in found]


def area(result: Result, scale: Scale, low: float = 0.0, high: float = 1.0) -> float | None:
    """Return the mean test accuracy over the budgets from ``low`` to ``high``, None where one of them is not met."""
    inside = [low - _SLACK <= budget <= high + _SLACK for budget in scale.budgets]
    points = [point for point, counts in zip(curve(result, scale), inside, strict=True) if counts]
    known = [accuracy for _, accuracy in filter(None, points)]
    return float(np.mean(known)) if known and len(known) == len(points) else None


def figures(result: Result, scale: Scale, backbone_val: float | None) -> dict[str, float | None]:
    """Return all figures of one result by name.

    Args:
        backbone_val: Validation accuracy of the static backbone of the same seed; None: not known.
    """
    found: dict[str, float | None] = {}
    for budget in BUDGETS:
        point = within(result.points, budget * scale.backbone)
        found[f"accuracy_{100 * budget:.0f}"] = None if point is None else point.accuracy_test
        found[f"cost_{100 * budget:.0f}"] = None if point is None else point.cost_test / scale.backbone
    for name, drop in (("same", 0.0), ("minus1", _ONE_POINT)):
        point = None if backbone_val is None else reaching(result.points, backbone_val - drop)
        found[f"cost_{name}"] = None if point is None else point.cost_test / scale.backbone
        found[f"accuracy_{name}"] = None if point is None else point.accuracy_test
    found["area"] = area(result, scale)
    for number, accuracy in enumerate(result.accuracies_test[:-1], 1):
        found[f"exit{number}"] = accuracy
    found["final"] = result.accuracies_test[-1]
    found |= dict(result.diagnostics)
    found["forgetting"] = mean_forgetting(result)
    return found


def mean_forgetting(result: Result) -> float | None:
    """Return what earlier exits lost between their own step and the end, on average; None where none came later.

    The last step's exit is left out: nothing was trained after it.
    """
    if result.forgetting is None or len(result.forgetting) < 2:
        return None
    return float(np.mean([after - end for after, end in result.forgetting[:-1]]))


def equal_accuracy_costs(
    results: Mapping[int, Result], others: Mapping[int, Result], scale: Scale, *, give: float = 0.005
) -> tuple[dict[int, float | None], dict[int, float | None]]:
    """Return, by seed, what two variants cost on test where both reach the same validation accuracy.

    That is the highest that both reach, less ``give``: the last tenths of a per cent are noise.
    """
    mine: dict[int, float | None] = {}
    theirs: dict[int, float | None] = {}
    for seed in results.keys() & others.keys():
        pair = (results[seed].points, others[seed].points)
        target = min(max(point.accuracy_val for point in points) for points in pair) - give
        costs = [point.cost_test / scale.backbone for points in pair if (point := reaching(points, target))]
        mine[seed], theirs[seed] = costs
    return mine, theirs
