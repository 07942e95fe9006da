"""The reference's search for thresholds: for every combination a Python loop over the samples (arXiv 2512.10671)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.curve import Target

Thresholds = tuple[float | None, ...]
ExitCostsOf = Callable[[tuple[bool, ...]], NDArray[np.float64]]
_TENTHS = tuple(float(np.float32(step / 10)) for step in range(1, 10))
# Beside 1, which is an exit that is off: the grid of the public code, and one of ten values per exit.
PUBLIC_GRID, TEN_VALUES = _TENTHS[:2], _TENTHS


class ThresholdLoop:
    """The reference's procedure: for one combination, a loop over the samples and, in it, over the exits.

    Args:
        confidences: Of the branches, (K, N).
        correct: Whether each exit is right, (K+1, N).
        cost_of: Mask over the branches -> exit costs (n_costs, K+1), the first of which counts.
        target: The mean cost that is wished for.
    """

    def __init__(
        self,
        confidences: NDArray[np.floating[Any]],
        correct: NDArray[np.bool_],
        cost_of: ExitCostsOf,
        target: float,
    ) -> None:
        self._rows = list(zip(confidences.T.tolist(), correct.T.tolist(), strict=True))
        self._exits, self._cost_of, self._target = len(confidences), cost_of, target

    def combinations(self, values: Sequence[float]) -> list[Thresholds]:
        """Return every combination of ``values`` and "off"."""
        return list(itertools.product((*values, None), repeat=self._exits))

    def score(self, thresholds: Thresholds) -> float:
        """Return accuracy% - 0.1 * 100 * |M - T| / T of one combination."""
        costs = self._cost_of(tuple(threshold is not None for threshold in thresholds))[0].tolist()
        right, cost = 0, 0.0
        for confidences, correct in self._rows:
            leave = len(thresholds)
            for exit_index, threshold in enumerate(thresholds):
                if threshold is not None and confidences[exit_index] >= threshold:
                    leave = exit_index
                    break
            right += correct[leave]
            cost += costs[leave]
        mean = cost / len(self._rows)
        return 100.0 * right / len(self._rows) - 0.1 * 100.0 * abs(mean - self._target) / self._target

    def best(self, combinations: Iterable[Thresholds]) -> tuple[float, Thresholds]:
        """Return the highest score and the first combination that has it."""
        scored = ((self.score(combination), combination) for combination in combinations)
        return max(scored, key=lambda pair: pair[0])


def score_of(accuracy: float, cost: float, target: float) -> float:
    """Return the reference's score of one operating point."""
    return float(Target(target, "two-sided").scores(np.array([accuracy]), np.array([[cost]]))[0])
