"""What tuned points cost: all costs of each, and which of them nothing beats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from aebnas.costs.network import NetworkCosts
from aebnas.exits.curve import OperatingPoint
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.dominance import nondominated


def with_costs(point: OperatingPoint, costs: NetworkCosts) -> OperatingPoint:
    """Return ``point`` with every cost: its file ends where all leave, while tuning went by all exits that are on."""
    mask = [threshold is not None for threshold in point.thresholds]
    found = costs.mean(mask, point.exit_shares, reachable_exits(point.thresholds)[-1])
    return dataclasses.replace(point, costs=tuple(map(float, found)))


def unbeaten(points: Sequence[OperatingPoint], wanted: Sequence[int]) -> list[OperatingPoint]:
    """Return the points that none of them beats by accuracy and the ``wanted`` costs, sorted by the first of these."""
    # As whole numbers, so that equal ones compare as equal; finer than one sample of any data set.
    right = np.array([round(point.accuracy * 1_000_000_000) for point in points], dtype=np.int64)
    rows = nondominated(right, np.array([[point.costs[number] for point in points] for number in wanted]))
    return [points[row] for row in rows]
