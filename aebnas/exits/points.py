"""From scored combinations of thresholds to operating points: all that nothing beats, or the best one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import right_weight, total_weight
from aebnas.exits.candidates import Candidates, Ints, Keep, Scored
from aebnas.exits.costs import ExitCosts
from aebnas.exits.curve import Curve, OperatingPoint, Target
from aebnas.exits.dominance import nondominated, thin
from aebnas.exits.policy import Thresholds, mask_of_thresholds

MAX_CURVE_POINTS = 200


def meeting(target: Target, total: int) -> Keep:
    """Return what keeps the one candidate that meets ``target`` best, if any may.

    Args:
        total: What all samples count together.
    """

    def keep(right: NDArray[np.integer[Any]], mean: NDArray[np.float64]) -> NDArray[np.intp]:
        choice = target.choose(right / total, mean)
        return np.array([] if choice is None else [choice], dtype=np.intp)

    return keep


def front_of(scored: Iterable[Scored], total: int, limit: int = MAX_CURVE_POINTS) -> Curve:
    """Return the candidates that none of them beats, at most ``limit``, evenly and with both ends."""
    parts = list(scored)
    every = Candidates.join(part.candidates for part in parts)
    rows = nondominated(every.correct, every.costs)
    rows = rows[thin(every.correct[rows], every.costs[:, rows], limit)]
    return Curve(tuple(_points(parts, every, rows, total)))


def best_of(scored: Iterable[Scored], keep: Keep, total: int) -> OperatingPoint | None:
    """Return the one candidate that ``keep`` keeps of all, None where it keeps none."""
    parts = list(scored)
    every = Candidates.join(part.candidates for part in parts)
    return next(_points(parts, every, keep(every.correct, every.costs), total), None)


def _points(parts: Sequence[Scored], every: Candidates, rows: NDArray[np.intp], total: int) -> Iterator[OperatingPoint]:
    """Yield the points at ``rows`` of ``every``, the candidates of all ``parts`` in their order.

    Args:
        total: What all samples count together.
    """
    ends = np.cumsum([len(part.candidates.correct) for part in parts])
    for row, place in zip(rows.tolist(), np.searchsorted(ends, rows, side="right").tolist(), strict=True):
        leaving = every.leaving[row]
        yield OperatingPoint(
            parts[place].thresholds(every.choices[row]),
            float(every.correct[row] / total),
            tuple((leaving / leaving.sum()).tolist()),
            tuple(every.costs[:, row].tolist()),
        )


def point_of(
    thresholds: Thresholds, exits: Ints, correct: NDArray[np.bool_], weights: Ints | None, costs: ExitCosts
) -> OperatingPoint:
    """Return the point of ``thresholds`` (K,) under which samples leave at ``exits``, int64 (N,).

    Args:
        correct: Whether each exit is right, (K+1, N).
        weights: What each sample counts where it is right, whole numbers (N,); None: 1.
    """
    leaving = np.bincount(exits, minlength=len(correct))
    right = right_weight(correct[exits, np.arange(len(exits))], weights)
    accuracy = right / total_weight(len(exits), weights)
    mean = costs.of_points(leaving[None], mask_of_thresholds(thresholds))
    shares = (leaving / len(exits)).tolist()
    return OperatingPoint(thresholds, accuracy, tuple(shares), tuple(mean[:, 0].tolist()))
