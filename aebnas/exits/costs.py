"""Mean costs of early exiting, from who leaves where."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = tuple[bool, ...]

CostOf = Callable[[Mask], NDArray[Any]]
"""Mask over the K branches (True = on) -> exit costs (n_costs, K+1), the final exit last; entries of branches that
are off are ignored and may be nan."""


class ExitCosts:
    """The exit costs of every on/off mask, asked for once and checked."""

    def __init__(self, cost_of: CostOf, branches: int) -> None:
        self._cost_of = cost_of
        self._branches = branches
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

    def mean(self, leaving: NDArray[np.integer[Any]], mask: Mask) -> Floats:
        """Return the mean costs (n_costs, P) of points where ``leaving`` (P, K+1) samples leave at each exit."""
        exits = [*np.flatnonzero(mask), self._branches]
        samples = leaving.sum(axis=1)
        left = samples - leaving.cumsum(axis=1).T
        # Summed step by step between neighbouring exits, as the joint histogram does it: the same numbers to the last
        # digit. Divided at the end, so that whole numbers (MACs) stay exact and equal costs compare as equal.
        costs = self[mask]
        total = costs[:, exits[0], None] * samples
        for here, there in itertools.pairwise(exits):
            total = total + left[here] * (costs[:, there] - costs[:, here])[:, None]
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
