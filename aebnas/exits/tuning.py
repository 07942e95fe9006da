"""Thresholds, solved: the curve accuracy against mean costs of one network, or the best point for a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import InputError
from aebnas.exits.accuracy import total_weight
from aebnas.exits.answers import Answers
from aebnas.exits.candidates import Ints, Keep, Scored
from aebnas.exits.class_sweep import sweep
from aebnas.exits.combining import Combining, Scene
from aebnas.exits.costs import MEANS, CostOf, ExitCosts, Reduction
from aebnas.exits.curve import Curve, OperatingPoint, Target
from aebnas.exits.dominance import nondominated
from aebnas.exits.points import MAX_CURVE_POINTS, best_of, front_of, meeting, point_of
from aebnas.exits.policy import (
    Threshold,
    behind_a_gap,
    leave_at,
    mask_of_thresholds,
    round_thresholds,
)

__all__ = [
    "CostOf",
    "Curve",
    "OperatingPoint",
    "Rule",
    "Target",
    "evaluate_answers",
    "evaluate_thresholds",
    "solve",
    "solve_answers",
    "tune",
    "tune_answers",
]

Rule = Literal["per-exit", "per-class"]

MAX_CELLS = 4_000_000
# A curve with a threshold per class is written down whole: of 1,000 classes and 4 branches, 50 points.
_MAX_CURVE_THRESHOLDS = 200_000
_MIN_CURVE_POINTS = 20


def tune(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    *,
    grid: int = 20,
    grids: Sequence[NDArray[Any]] | None = None,
    max_cells: int = MAX_CELLS,
    reduction: Reduction = MEANS,
    weights: Ints | None = None,
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
        weights: What each sample counts in the accuracy, whole numbers (N,) as of ``sample_weights``; None: 1. Exit
            shares and costs are those of the samples as they come.

    Raises:
        ValueError: the arrays do not fit each other, or there are no samples.
    """
    scene, costs = _checked(confidences, correct, weights), ExitCosts(cost_of, len(confidences), reduction)
    total = total_weight(correct.shape[1], weights)
    return front_of(Combining(grid, grids, max_cells).search(scene, costs, nondominated), total)


def solve(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    target: Target,
    *,
    grid: int = 20,
    grids: Sequence[NDArray[Any]] | None = None,
    max_cells: int = MAX_CELLS,
    reduction: Reduction = MEANS,
    weights: Ints | None = None,
) -> OperatingPoint | None:
    """Return the point that meets ``target`` best among all that ``tune`` compares, None where none is allowed.

    Unlike ``tune(...).best(target)`` it sees the points that a thinned curve leaves out, and the dominated ones that a
    two-sided target may prefer; and unless ``grids`` are explicit, coordinate descent with up to 512 quantiles per
    branch looks for better ones between those of the grid. Arguments and errors are those of ``tune``.
    """
    scene, costs = _checked(confidences, correct, weights), ExitCosts(cost_of, len(confidences), reduction)
    total = total_weight(correct.shape[1], weights)
    keep = meeting(target, total)
    return best_of(Combining(grid, grids, max_cells).search_closely(scene, costs, keep), keep, total)


def evaluate_thresholds(
    confidences: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    cost_of: CostOf,
    thresholds: Sequence[float | None],
    *,
    reduction: Reduction = MEANS,
    weights: Ints | None = None,
) -> OperatingPoint:
    """Return the operating point of given ``thresholds``, one per branch, None = off, on any samples.

    Arrays are those of ``tune``.

    Raises:
        InputError: a threshold is not finite.
        ValueError: the arrays do not fit each other, or there are no samples.
    """
    _checked(confidences, correct, weights)
    rounded = round_thresholds(thresholds)
    costs = ExitCosts(cost_of, len(rounded), reduction)
    return point_of(rounded, leave_at(confidences, rounded), correct, weights, costs)


def tune_answers(
    answers: Answers,
    cost_of: CostOf,
    *,
    rule: Rule = "per-exit",
    grid: int = 20,
    max_cells: int = MAX_CELLS,
    reduction: Reduction = MEANS,
) -> Curve:
    """Return the curve of a network from what its exits say, whichever of them are on.

    ``per-exit``: one threshold per branch, as in ``tune``. Where what an exit says depends on which exits before it
    are on, or a branch needs those before it, every mask is searched by itself, and a threshold of ``NEVER`` stands for
    a branch that is on and lets nobody leave: ``Combining.search_answers``. ``per-class``: one threshold per branch and
    predicted class, from a margin of precision that sweeps the curve: ``class_sweep.sweep``; the curve then holds at
    most 200 points and about 200,000 thresholds, but 20 points in any case.

    Args:
        answers: What the exits say about every validation sample.
        cost_of: Mask over the branches -> exit costs (n_costs, K+1).
        rule: Which thresholds are looked for.
        grid: Thresholds per branch, or steps of the margin per mask.
        max_cells: Limit of a joint histogram, beyond which coordinate descent finds the thresholds of an exit.
        reduction: How exit costs become the cost of a point; means over the samples by default.

    Raises:
        InputError: there is no such rule.
        ValueError: what the exits say does not fit the samples, or there are none.
    """
    scored = _search_answers(answers, cost_of, nondominated, rule, grid, max_cells, reduction)
    total = total_weight(len(answers.truth), answers.weights)
    if rule == "per-exit":
        return front_of(scored, total)
    affordable = _MAX_CURVE_THRESHOLDS // max(answers.branches * answers.count_classes(), 1)
    return front_of(scored, total, min(max(affordable, _MIN_CURVE_POINTS), MAX_CURVE_POINTS))


def solve_answers(
    answers: Answers,
    cost_of: CostOf,
    target: Target,
    *,
    rule: Rule = "per-exit",
    grid: int = 20,
    max_cells: int = MAX_CELLS,
    reduction: Reduction = MEANS,
) -> OperatingPoint | None:
    """Return the point that meets ``target`` best among all that ``tune_answers`` compares, None where none may.

    It differs from ``tune_answers(...).best(target)`` as ``solve`` does from ``tune``; but it looks between the values
    of a grid only where exits say the same whoever is on, and with one threshold per exit. Arguments and errors are
    those of ``tune_answers``.
    """
    weights = answers.weights
    total = total_weight(len(answers.truth), weights)
    keep = meeting(target, total)
    if rule == "per-exit" and not (answers.depends or answers.prefixes):
        confidences, labels = answers.whole((True,) * answers.branches)
        return solve(
            confidences,
            labels == answers.truth,
            cost_of,
            target,
            grid=grid,
            max_cells=max_cells,
            reduction=reduction,
            weights=weights,
        )
    return best_of(_search_answers(answers, cost_of, keep, rule, grid, max_cells, reduction), keep, total)


def evaluate_answers(
    answers: Answers, cost_of: CostOf, thresholds: Sequence[Threshold], *, reduction: Reduction = MEANS
) -> OperatingPoint:
    """Return the operating point of given ``thresholds``, per exit or per class, on any samples.

    Args:
        answers: What the exits say about the samples.
        cost_of: Mask over the branches -> exit costs (n_costs, K+1).
        thresholds: One per branch, None = off.
        reduction: How exit costs become the cost of a point.

    Raises:
        InputError: a threshold is not finite, or a branch is on that cannot be because one before it is off.
        ValueError: what the exits say does not fit the samples or the thresholds, or there are no samples.
    """
    _check_samples(len(answers.truth))
    rounded = round_thresholds(thresholds)
    if len(rounded) != answers.branches:
        raise ValueError(f"there are {len(rounded)} thresholds for {answers.branches} branches: give one per branch")
    mask = mask_of_thresholds(rounded)
    if answers.prefixes and behind_a_gap(mask) is not None:
        raise InputError("a branch of a cascade is on behind one that is off: give each branch before it a threshold")
    confidences, labels = answers.whole(mask)
    exits, correct = leave_at(confidences, rounded, labels[:-1]), labels == answers.truth
    return point_of(rounded, exits, correct, answers.weights, ExitCosts(cost_of, answers.branches, reduction))


def _search_answers(
    answers: Answers, cost_of: CostOf, keep: Keep, rule: Rule, grid: int, max_cells: int, reduction: Reduction
) -> Iterator[Scored]:
    _check_samples(len(answers.truth))
    costs = ExitCosts(cost_of, answers.branches, reduction)
    if rule == "per-exit":
        return Combining(grid, None, max_cells).search_answers(answers, costs, keep)
    if rule == "per-class":
        return sweep(answers, costs, keep, grid)
    raise InputError(f"thresholds cannot be tuned {rule!r}: use per-exit or per-class")


def _checked(confidences: NDArray[np.floating[Any]], correct: NDArray[np.bool_], weights: Ints | None) -> Scene:
    if confidences.ndim != 2 or correct.shape != (len(confidences) + 1, confidences.shape[1]):
        raise ValueError(f"confidences {confidences.shape} and correct {correct.shape} must be (K, N) and (K+1, N)")
    _check_samples(confidences.shape[1])
    if weights is not None and weights.shape != confidences.shape[1:]:
        raise ValueError(f"weights must be {confidences.shape[1:]}, one per sample, not {weights.shape}")
    return Scene(confidences, correct, weights=weights)


def _check_samples(samples: int) -> None:
    if not samples:
        raise ValueError("thresholds cannot be tuned on no samples")
