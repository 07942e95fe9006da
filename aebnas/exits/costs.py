"""Mean and tail costs of early exiting, from who leaves where."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = tuple[bool, ...]

CostOf = Callable[[Mask], NDArray[Any]]
"""Mask over the K branches (True = on) -> exit costs (n_costs, K+1), the final exit last; entries of branches that
are off are ignored and may be nan."""

# A tail is the cost that one sample in 20 may exceed: the 95 % quantile.
TAIL_ONE_IN = 20


@dataclass(frozen=True)
class Reduction:
    """How exit costs become the cost of a point: the mean over its samples, but for some rows.

    Args:
        tails: Rows of which the 95 % quantile counts: the cost of the first exit behind which at most 5 % of the
            samples go on.
        switching: (row, extra): going on behind an exit costs so much more whenever the sample before did not go on
            there, because of caches; samples come in no order, so of a share p that goes on, 1 - p have such a one
            before them.
    """

    tails: tuple[int, ...] = ()
    switching: tuple[tuple[int, float], ...] = ()

    def of_rows(self, rows: Sequence[int]) -> Reduction:
        """Return the reduction of the costs ``rows`` alone."""
        return Reduction(
            tuple(rows.index(row) for row in self.tails if row in rows),
            tuple((rows.index(row), extra) for row, extra in self.switching if row in rows),
        )


MEANS = Reduction()


class ExitCosts:
    """The exit costs of every on/off mask, asked for once and checked, and how they become the costs of a point."""

    def __init__(self, cost_of: CostOf, branches: int, reduction: Reduction = MEANS) -> None:
        self._cost_of = cost_of
        self._branches = branches
        self._reduction = reduction
        self._known: dict[Mask, Floats] = {}
        self.number = len(self[(False,) * branches])

    def __getitem__(self, mask: Mask) -> Floats:
        """Return the exit costs (n_costs, K+1) of ``mask``.

        Raises:
            ValueError: they have the wrong shape, or the cost of an exit that is on is not finite.
        """
        if mask not in self._known:
            self._known[mask] = self._checked(mask)
        return self._known[mask]

    def start(self, mask: Mask, samples: int) -> Floats:
        """Return ``samples`` times the costs (n_costs,) of points where all leave at the first exit of ``mask``."""
        first = [*mask, True].index(True)
        total: Floats = self[mask][:, first] * samples
        return total

    def advance(
        self, total: Floats, passing: NDArray[np.integer[Any]], mask: Mask, exits: tuple[int, int], samples: int
    ) -> Floats:
        """Return ``total`` (n_costs, ...) when of ``samples`` the ``passing`` (...) go on from one exit to the next.

        Summed step by step between neighbouring exits, and divided by the samples only at the end: whole numbers (MACs)
        stay exact, and equal costs compare as equal.
        """
        here, there = exits
        costs = self[mask]
        step = costs[:, there] - costs[:, here]
        moved: Floats = total + passing * step.reshape(-1, *(1,) * passing.ndim)
        for row, extra in self._reduction.switching:
            moved[row] += extra * passing * (1 - passing / samples)
        for row in self._reduction.tails:
            moved[row] = np.where(TAIL_ONE_IN * passing > samples, samples * costs[row, there], total[row])
        return moved

    def of_points(self, leaving: NDArray[np.integer[Any]], mask: Mask) -> Floats:
        """Return the costs (n_costs, P) of points where ``leaving`` (P, K+1) samples leave at each exit."""
        exits = [*np.flatnonzero(mask).tolist(), self._branches]
        samples = int(leaving[0].sum())
        left = samples - leaving.cumsum(axis=1).T
        total = np.repeat(self.start(mask, samples)[:, None], len(leaving), axis=1)
        for here, there in itertools.pairwise(exits):
            total = self.advance(total, left[here], mask, (here, there), samples)
        mean: Floats = total / samples
        return mean

    def _checked(self, mask: Mask) -> Floats:
        costs = np.asarray(self._cost_of(mask), dtype=np.float64)
        if costs.ndim != 2 or not len(costs) or costs.shape[1] != self._branches + 1:
            raise ValueError(f"exit costs must be (n_costs, {self._branches + 1}), not {costs.shape}, for mask {mask}")
        if self._known and len(costs) != self.number:
            raise ValueError(f"mask {mask} has {len(costs)} costs where others have {self.number}")
        if not np.isfinite(costs[:, [*mask, True]]).all():
            raise ValueError(f"the cost of an exit that is on is not finite for mask {mask}")
        return costs
