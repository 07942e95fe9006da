"""Every combination of thresholds at once, from one joint histogram and its cumulative sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import right_weight, total_weight
from aebnas.exits.candidates import Candidates, Keep
from aebnas.exits.costs import ExitCosts, Floats, Mask

# Combinations that are scored together: bounds the memory, and keeps the arrays in the cache.
_BLOCK_CELLS = 1 << 18
_LARGEST_INT32 = (1 << 31) - 1

Index = tuple[slice | int, ...]
Counts = NDArray[np.signedinteger[Any]]


class JointHistogram:
    """Who is still there after each exit, and how many are right, for every combination of thresholds.

    A sample passes branch k with the threshold of index j exactly when it reaches at most j thresholds of that branch's
    grid (its rank), and every sample passes a branch that is off, j = the grid's length. So the number that
    pass branches 0..k is the cumulative sum, along every axis, of the joint histogram of ranks 0..k. The
    number of right predictions changes, for those who pass k, by being right at the next exit instead of at k: one
    more histogram per branch, weighted by that difference.

    Args:
        ranks: How many thresholds each sample reaches, (K, N).
        sizes: Length of each branch's grid.
        correct: Whether each exit is right, (K+1, N).
        weights: What each sample counts where it is right, whole numbers (N,); None: 1. Who passes is counted anyway.
    """

    def __init__(
        self,
        ranks: NDArray[np.int64],
        sizes: Sequence[int],
        correct: NDArray[np.bool_],
        weights: NDArray[np.int64] | None = None,
    ) -> None:
        self._sizes = tuple(sizes)
        self._samples = correct.shape[1]
        self._passing: list[Counts] = []
        kind = np.int32 if total_weight(self._samples, weights) <= _LARGEST_INT32 else np.int64
        right: Counts = np.array(right_weight(correct[0], weights), dtype=kind)
        cell = np.zeros(self._samples, dtype=np.int64)
        for branch, size in enumerate(self._sizes):
            shape = tuple(size + 1 for size in self._sizes[: branch + 1])
            cell = cell * (size + 1) + ranks[branch]
            gains, losses = correct[branch + 1] & ~correct[branch], correct[branch] & ~correct[branch + 1]
            self._passing.append(_cumulated(_histogram(cell, shape)))
            gained, lost = (
                _histogram(cell[some], shape, None if weights is None else weights[some], kind)
                for some in (gains, losses)
            )
            right = right[..., None] + _cumulated(gained - lost)
        self._right = right

    def search(self, costs: ExitCosts, keep: Keep, only: Mask | None = None) -> Iterator[Candidates]:
        """Score every combination, mask by mask from all off to all on; yield what ``keep`` keeps of each block.

        Args:
            costs: Exit costs of the masks.
            keep: Which candidates are worth keeping.
            only: The one mask that counts, None = all.
        """
        branches = len(self._sizes)
        masks = sorted(itertools.product((False, True), repeat=branches), key=sum) if only is None else [only]
        for mask in masks:
            on = [branch for branch in range(branches) if mask[branch]]
            if all(self._sizes[branch] for branch in on):
                for index in self._blocks(on):
                    right, mean = self._score(index, mask, costs)
                    yield self._candidates(index, on, keep(right, mean), right, mean)

    def _blocks(self, on: Sequence[int]) -> Iterator[Index]:
        index: list[slice | int] = [slice(0, size) if branch in on else size for branch, size in enumerate(self._sizes)]
        if not on:
            yield tuple(index)
            return
        inner = int(np.prod([self._sizes[branch] for branch in on[1:]], dtype=np.int64))
        step = max(1, _BLOCK_CELLS // inner)
        for start in range(0, self._sizes[on[0]], step):
            index[on[0]] = slice(start, min(start + step, self._sizes[on[0]]))
            yield tuple(index)

    def _score(self, index: Index, mask: Mask, costs: ExitCosts) -> tuple[Counts, Floats]:
        exits = [*np.flatnonzero(mask).tolist(), len(self._sizes)]
        total = costs.start(mask, self._samples)
        for here, there in itertools.pairwise(exits):
            passing = self._passing[here][index[: here + 1]]
            total = costs.advance(total[..., None], passing, mask, (here, there), self._samples)
        total /= self._samples
        return self._right[index].reshape(-1), total.reshape(costs.number, -1)

    def _candidates(
        self, index: Index, on: Sequence[int], rows: NDArray[np.intp], right: Counts, mean: Floats
    ) -> Candidates:
        choices = np.empty((len(rows), len(self._sizes)), dtype=np.int64)
        choices[:] = self._sizes
        ranges = [part for part in index if isinstance(part, slice)]
        places = np.unravel_index(rows, [part.stop - part.start for part in ranges]) if on else ()
        for branch, part, place in zip(on, ranges, places, strict=True):
            choices[:, branch] = place + part.start
        return Candidates(choices, self._leaving(choices), right[rows].astype(np.int64), mean[:, rows])

    def _leaving(self, choices: NDArray[np.int64]) -> NDArray[np.int64]:
        passing = np.zeros((len(choices), len(self._sizes) + 2), dtype=np.int64)
        passing[:, 0] = self._samples
        for branch, counts in enumerate(self._passing):
            passing[:, branch + 1] = counts[tuple(choices[:, : branch + 1].T)]
        # After the final exit nobody is left: the last column stays 0.
        return passing[:, :-1] - passing[:, 1:]


def _histogram(
    cell: NDArray[np.int64],
    shape: tuple[int, ...],
    weights: NDArray[np.int64] | None = None,
    kind: type[np.signedinteger[Any]] = np.int32,
) -> Counts:
    # Sums of weights are whole numbers in float64 too.
    return np.bincount(cell, weights, minlength=int(np.prod(shape))).astype(kind).reshape(shape)


def _cumulated(counts: Counts) -> Counts:
    for axis in range(counts.ndim):
        np.cumsum(counts, axis=axis, dtype=counts.dtype, out=counts)
    return counts


def mask_of(choice: NDArray[np.integer[Any]], sizes: Sequence[int]) -> Mask:
    """Return which branches are on for one ``choice`` (K,) of grid indices."""
    return tuple(bool(index < size) for index, size in zip(choice, sizes, strict=True))
