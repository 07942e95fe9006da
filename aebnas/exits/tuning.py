"""Thresholds, solved: the curve accuracy against mean costs of one network, or the best point for a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.candidates import Candidates, Keep
from aebnas.exits.costs import MEANS, CostOf, ExitCosts, Reduction
from aebnas.exits.curve import Curve, OperatingPoint, Target
from aebnas.exits.descent import CoordinateDescent
from aebnas.exits.dominance import nondominated, thin
from aebnas.exits.grids import Grid, checked_grids, quantile_grid, rank
from aebnas.exits.histogram import JointHistogram
from aebnas.exits.policy import leave_at, round_thresholds

__all__ = ["CostOf", "Curve", "OperatingPoint", "Target", "evaluate_thresholds", "solve", "tune"]

MAX_CURVE_POINTS = 200
# A line search costs one pass over the samples however many values it tries, so it can afford many.
_LINE_VALUES = 512


def tune(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    *,
    grid: int = 20,
    grids: Sequence[NDArray[Any]] | None = None,
    max_cells: int = 4_000_000,
    reduction: Reduction = MEANS,
) -> Curve:
    """Return the curve of a network from what its exits say about every validation sample.

    All combinations of ``grid`` quantiles per branch and "off" are compared, exactly, as long as they are at most
    ``max_cells``; beyond, coordinate descent with up to 512 quantiles per branch finds a curve that need not be the
    best. The backbone alone is always among the points compared. At most 200 points are kept, evenly, with both ends.

    Args:
        confidences: Of the branches, (K, N), compared in float32; K may be 0.
        correct: Whether each exit is right, (K+1, N), the final exit last.
        cost_of: Mask over the branches -> exit costs (n_costs, K+1).
        grid: Thresholds per branch.
        grids: Explicit thresholds per branch instead.
        max_cells: Limit of the joint histogram; it needs about 20 bytes per cell.
        reduction: How exit costs become the cost of a point; means over the samples by default.

    Raises:
        ValueError: the arrays do not fit each other, or there are no samples.
    """
    values, parts = _search(
        confidences, correct, cost_of, nondominated, grid=grid, grids=grids, max_cells=max_cells, reduction=reduction
    )
    every = Candidates.join(parts)
    front = every.take(nondominated(every.correct, every.costs))
    front = front.take(thin(front.correct, front.costs, MAX_CURVE_POINTS))
    return Curve(tuple(_point(front, row, values) for row in range(len(front.correct))))


def solve(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    target: Target,
    *,
    grid: int = 20,
    grids: Sequence[NDArray[Any]] | None = None,
    max_cells: int = 4_000_000,
    reduction: Reduction = MEANS,
) -> OperatingPoint | None:
    """Return the point that meets ``target`` best among all that ``tune`` compares, None where none is allowed.

    Unlike ``tune(...).best(target)`` it sees the points that a thinned curve leaves out, and the dominated ones that a
    two-sided target may prefer. Arguments and errors are those of ``tune``.
    """
    samples = correct.shape[1]

    def keep(right: NDArray[np.integer[Any]], mean: NDArray[np.float64]) -> NDArray[np.intp]:
        choice = target.choose(right / samples, mean)
        return np.array([] if choice is None else [choice], dtype=np.intp)

    values, parts = _search(
        confidences, correct, cost_of, keep, grid=grid, grids=grids, max_cells=max_cells, reduction=reduction
    )
    every = Candidates.join(parts)
    best = keep(every.correct, every.costs)
    return _point(every, int(best[0]), values) if len(best) else None


def evaluate_thresholds(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    thresholds: Sequence[float | None],
    *,
    reduction: Reduction = MEANS,
) -> OperatingPoint:
    """Return the operating point of given ``thresholds``, one per branch, None = off, on any samples.

    Arrays are those of ``tune``.

    Raises:
        InputError: a threshold is not finite.
        ValueError: the arrays do not fit each other, or there are no samples.
    """
    _check(confidences, correct)
    rounded = round_thresholds(thresholds)
    exits = leave_at(confidences, rounded)
    leaving = np.bincount(exits, minlength=len(correct))
    right = int(correct[exits, np.arange(len(exits))].sum())
    mask = tuple(threshold is not None for threshold in rounded)
    mean = ExitCosts(cost_of, len(rounded), reduction).of_points(leaving[None], mask)
    shares = (leaving / len(exits)).tolist()
    return OperatingPoint(rounded, right / len(exits), tuple(shares), tuple(mean[:, 0].tolist()))


def _search(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    keep: Keep,
    *,
    grid: int,
    grids: Sequence[NDArray[Any]] | None,
    max_cells: int,
    reduction: Reduction,
) -> tuple[list[Grid], Iterator[Candidates]]:
    _check(confidences, correct)
    correct = np.asarray(correct, dtype=np.bool_)
    costs = ExitCosts(cost_of, len(confidences), reduction)
    values = _grids(confidences, grids, grid)
    cells = float(np.prod([len(one) + 1.0 for one in values]))
    if cells > max_cells:
        values = _grids(confidences, grids, max(grid, _LINE_VALUES))
    ranks = np.empty(confidences.shape, dtype=np.int64)
    for branch, one in enumerate(values):
        ranks[branch] = rank(confidences[branch], one)
    method = CoordinateDescent if cells > max_cells else JointHistogram
    return values, method(ranks, [len(one) for one in values], correct).search(costs, keep)


def _grids(confidences: NDArray[np.floating[Any]], grids: Sequence[NDArray[Any]] | None, size: int) -> list[Grid]:
    if grids is not None:
        return checked_grids(grids, len(confidences))
    return [quantile_grid(one, size) for one in confidences]


def _check(confidences: NDArray[np.floating[Any]], correct: NDArray[np.bool_]) -> None:
    if confidences.ndim != 2 or correct.shape != (len(confidences) + 1, confidences.shape[1]):
        raise ValueError(f"confidences {confidences.shape} and correct {correct.shape} must be (K, N) and (K+1, N)")
    if not confidences.shape[1]:
        raise ValueError("thresholds cannot be tuned on no samples")


def _point(candidates: Candidates, row: int, grids: Sequence[Grid]) -> OperatingPoint:
    leaving = candidates.leaving[row]
    thresholds = tuple(
        float(grid[index]) if index < len(grid) else None
        for index, grid in zip(candidates.choices[row], grids, strict=True)
    )
    return OperatingPoint(
        thresholds,
        float(candidates.correct[row] / leaving.sum()),
        tuple((leaving / leaving.sum()).tolist()),
        tuple(candidates.costs[:, row].tolist()),
    )
