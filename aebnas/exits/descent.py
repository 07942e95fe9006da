"""Coordinate descent over thresholds, for more branches than a joint histogram can hold."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import right_weight, total_weight
from aebnas.exits.candidates import Candidates, Ints, Keep
from aebnas.exits.costs import ExitCosts, Floats, Mask
from aebnas.exits.histogram import mask_of

# What one whole backbone of mean cost is worth in accuracy: from nothing to more than it can ever buy back.
_PRICES = (0.0, *np.geomspace(0.003, 3.0, 11).tolist())
_ROUNDS = 10


class CoordinateDescent:
    """Moves one threshold at a time to its best value, the others held, until no move helps.

    Each move is exact: it scores every value of that branch's grid, and the branch switched off, from one histogram.
    The descent is run for a sweep of prices of each cost (and of all costs together), each time from the last
    solution found, from all branches off, and from a random choice; everything that is scored on the way counts.

    Args:
        ranks: How many thresholds of its branch's grid each sample reaches, (K, N).
        sizes: Length of each branch's grid.
        correct: Whether each exit is right, (K+1, N).
        weights: What each sample counts where it is right, whole numbers (N,); None: 1.
        seed: Of the random starts.
    """

    def __init__(
        self,
        ranks: Ints,
        sizes: Sequence[int],
        correct: NDArray[np.bool_],
        weights: Ints | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self._ranks = ranks
        self._sizes = np.array(sizes, dtype=np.int64)
        self._correct = correct
        self._weights, self._total = weights, total_weight(correct.shape[1], weights)
        self._seed = seed

    def search(self, costs: ExitCosts, keep: Keep, only: Mask | None = None) -> Iterator[Candidates]:
        """Yield what ``keep`` keeps of each line that is searched.

        Args:
            costs: Exit costs of the masks.
            keep: Which candidates are worth keeping.
            only: The one mask that counts, None = all; branches that are off in it have empty grids, and no others.
        """
        generator = np.random.default_rng(self._seed)
        # The last value of each line: off, or the highest threshold where a branch may not be switched off.
        last = self._sizes if only is None else np.maximum(self._sizes - 1, 0)
        for weights in self._directions(costs):
            reached = last
            for price in _PRICES:
                for start in (reached, last, generator.integers(0, last + 1)):
                    reached = yield from self._descend(start.copy(), last, price * weights, costs, keep)

    def _directions(self, costs: ExitCosts) -> Floats:
        backbone = np.abs(costs[(False,) * len(self._sizes)][:, -1])
        scale = 1.0 / np.where(backbone > 0, backbone, 1.0)
        directions = np.eye(costs.number)
        if costs.number > 1:
            directions = np.vstack([directions, np.full(costs.number, 1 / costs.number)])
        return directions * scale

    def _descend(
        self, choice: Ints, last: Ints, prices: Floats, costs: ExitCosts, keep: Keep
    ) -> Generator[Candidates, None, Ints]:
        for _ in range(_ROUNDS):
            before = choice.copy()
            for branch in range(len(choice)):
                line = self._line(choice, branch, int(last[branch]), costs)
                value = line.correct / self._total - prices @ line.costs
                best = int(value.argmax())
                # Staying put when equal is what makes the descent end.
                if value[best] > value[choice[branch]]:
                    choice[branch] = best
                yield line.take(keep(line.correct, line.costs))
            if np.array_equal(choice, before):
                break
        return choice

    def _line(self, choice: Ints, branch: int, last: int, costs: ExitCosts) -> Candidates:
        """Score every value of ``branch`` up to ``last`` with the others as in ``choice``."""
        size, final = int(self._sizes[branch]), len(choice)
        elsewhere = self._leave_without(choice, branch)
        reaching = np.flatnonzero(elsewhere > branch)
        ranks, then = self._ranks[branch, reaching], elsewhere[reaching]
        cells = ranks * (final + 1) + then
        change = self._correct[branch, reaching].astype(np.int64) - self._correct[then, reaching]
        moving = np.bincount(cells, minlength=(size + 1) * (final + 1)).reshape(size + 1, final + 1)
        gained, lost = (self._count(ranks, reaching, some, size + 1) for some in (change > 0, change < 0))
        gain = gained - lost
        taken, more = _above(moving)[: last + 1], _above(gain)[: last + 1]

        leaving = np.bincount(elsewhere, minlength=final + 1) - taken
        leaving[:, branch] = taken.sum(axis=1)
        correct = right_weight(self._correct[elsewhere, np.arange(len(elsewhere))], self._weights) + more
        choices = np.repeat(choice[None], last + 1, axis=0)
        choices[:, branch] = np.arange(last + 1)
        mean = np.empty((costs.number, last + 1))
        # On, and off.
        for rows in (slice(0, size), slice(size, last + 1)):
            if rows.start < rows.stop:
                mean[:, rows] = costs.of_points(leaving[rows], mask_of(choices[rows.start], self._sizes.tolist()))
        return Candidates(choices, leaving, correct, mean)

    def _count(self, ranks: Ints, samples: NDArray[np.intp], some: NDArray[np.bool_], length: int) -> Ints:
        """Return what those ``some`` of ``samples`` count together that have each rank, (length,)."""
        weights = None if self._weights is None else self._weights[samples[some]]
        # Sums of weights are whole numbers in float64 too.
        return np.bincount(ranks[some], weights, minlength=length).astype(np.int64)

    def _leave_without(self, choice: Ints, branch: int) -> Ints:
        exits = np.full(self._ranks.shape[1], len(choice), dtype=np.int64)
        for other in reversed(range(len(choice))):
            if other != branch:
                exits[self._ranks[other] > choice[other]] = other
        return exits


def _above(counts: Ints) -> Ints:
    """Return, for each row, the sum of the rows after it."""
    total = counts[::-1].cumsum(axis=0)[::-1]
    above: Ints = total - counts
    return above
