"""Which of many points no other point beats: accuracy up, every cost down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Cells of the coarse raster over all costs that throws most points out before the exact comparison.
_RASTER_CELLS = 1 << 16
_RASTER_WORTH = 2048
_CHUNK = 256


def nondominated(correct: NDArray[np.integer[Any]], costs: Floats) -> Rows:
    """Return the rows of the non-dominated points, sorted by the first cost; one of equal points is kept.

    Args:
        correct: Number of right predictions (P,), 0 or more.
        costs: Finite costs (n_costs, P).
    """
    rows: Rows = np.arange(len(correct))
    if len(rows) > _RASTER_WORTH:
        rows = rows[_may_be_best(correct, costs)]
    # In this order nothing is dominated by what comes after it, and the first cost needs no comparison.
    order = np.lexsort((-correct[rows], *costs[::-1, rows]))
    rows = rows[order]
    others = np.concatenate([-correct[rows][None].astype(np.float64), costs[1:, rows]])
    return rows[_not_beaten_by_earlier(others)]


def thin(correct: NDArray[np.integer[Any]], costs: Floats, limit: int) -> Rows:
    """Return at most ``limit`` rows, evenly by position, the most accurate and the cheapest ones among them."""
    if len(correct) <= limit:
        return np.arange(len(correct))
    ends = [int(correct.argmax()), *costs.argmin(axis=1)]
    even = np.linspace(0, len(correct) - 1, limit - len(ends)).round().astype(np.intp)
    return np.union1d(ends, even)


def _may_be_best(correct: NDArray[np.integer[Any]], costs: Floats) -> NDArray[np.bool_]:
    """Drop points for which a cell that is cheaper in every cost holds a point at least as accurate."""
    low, high = costs.min(axis=1), costs.max(axis=1)
    varying = np.flatnonzero(high > low)
    if not len(varying):
        equal: NDArray[np.bool_] = correct == correct.max()
        return equal
    side = int(_RASTER_CELLS ** (1 / len(varying)) + 1e-9)
    cells: list[NDArray[np.intp]] = []
    for row in varying:
        # Rising in the cost, so a lower cell means a lower cost whatever the rounding.
        cell = ((costs[row] - low[row]) * (side / (high[row] - low[row]))).astype(np.intp)
        cells.append(np.minimum(cell, side - 1, out=cell))
    flat = np.ravel_multi_index(tuple(cells), (side,) * len(varying))
    best = np.full(side ** len(varying), -1, dtype=np.int64)
    np.maximum.at(best, flat, correct.astype(np.int64))
    best = best.reshape((side,) * len(varying))
    for axis in range(len(varying)):
        np.maximum.accumulate(best, axis=axis, out=best)
    bound = np.full_like(best, -1)
    bound[(slice(1, None),) * len(varying)] = best[(slice(None, -1),) * len(varying)]
    unbeaten: NDArray[np.bool_] = correct > bound.ravel()[flat]
    return unbeaten


def _not_beaten_by_earlier(values: Floats) -> Rows:
    """Return the columns of ``values`` (D, P) that no earlier column equals or undercuts in every row."""
    if len(values) == 1:
        lowest = np.minimum.accumulate(values[0])
        return np.flatnonzero(np.concatenate([[True], values[0, 1:] < lowest[:-1]]))[: values.shape[1]]
    earlier = np.tri(_CHUNK, k=-1, dtype=np.bool_)
    front: Rows = np.empty(0, dtype=np.intp)
    for start in range(0, values.shape[1], _CHUNK):
        chunk: Rows = np.arange(start, min(start + _CHUNK, values.shape[1]))
        chunk = chunk[~_beaten(values[:, chunk], values[:, front]).any(axis=1)]
        within = _beaten(values[:, chunk], values[:, chunk]) & earlier[: len(chunk), : len(chunk)]
        front = np.concatenate([front, chunk[~within.any(axis=1)]])
    return front


def _beaten(values: Floats, by: Floats) -> NDArray[np.bool_]:
    beaten: NDArray[np.bool_] = by[0][None, :] <= values[0][:, None]
    for row in range(1, len(values)):
        beaten &= by[row][None, :] <= values[row][:, None]
    return beaten
