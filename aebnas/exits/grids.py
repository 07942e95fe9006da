"""The thresholds that are worth trying at one exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float32]


def quantile_grid(confidence: NDArray[np.floating[Any]], size: int) -> Grid:
    """Return at most ``size`` rising float32 thresholds that split ``confidence`` (N,) evenly.

    A threshold lies midway between two neighbouring confidences, so that rounding in another runtime moves no sample
    across it; the lowest is at most 0: everything leaves. With ``size`` distinct confidences or fewer, every possible
    split is in the grid. Confidences that are not finite are left out.

    Raises:
        ValueError: ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"a grid needs at least 1 value, not {size}")
    ordered = np.sort(np.asarray(confidence, dtype=np.float32))
    values = ordered[np.isfinite(ordered)]
    distinct = np.unique(values)
    chosen = distinct if len(distinct) <= size else _spread(values, size)
    below = np.searchsorted(distinct, chosen) - 1
    return np.where(below < 0, np.minimum(chosen, np.float32(0)), midway(distinct[below], chosen)).astype(np.float32)


def midway(lower: Grid, upper: Grid) -> Grid:
    """Return float32 thresholds that ``upper`` reaches and ``lower``, which is below it, does not: their middles."""
    middle = ((lower.astype(np.float64) + upper) / 2).astype(np.float32)
    # Between neighbouring floats the midpoint may round down to the lower one, which must not leave.
    return np.where(middle > lower, middle, upper)


def checked_grids(grids: Sequence[NDArray[Any]], branches: int) -> list[Grid]:
    """Return explicit ``grids``, one per branch, as rising distinct float32 values.

    Raises:
        ValueError: their number is not ``branches``, or a value is not finite.
    """
    if len(grids) != branches:
        raise ValueError(f"there are {len(grids)} grids for {branches} branches: give one per branch")
    rounded = [np.unique(np.asarray(grid, dtype=np.float32)) for grid in grids]
    if not all(np.isfinite(grid).all() for grid in rounded):
        raise ValueError("a grid holds a value that is not finite; every exit can be switched off without one")
    return rounded


def rank(confidence: NDArray[np.floating[Any]], grid: Grid) -> NDArray[np.int64]:
    """Return how many thresholds of ``grid`` each confidence (N,) reaches; one that is not a number reaches none."""
    scores = np.asarray(confidence, dtype=np.float32)
    reached = np.searchsorted(grid, scores, side="right")
    return np.where(np.isnan(scores), 0, reached)


def _spread(values: Grid, size: int) -> Grid:
    chosen = np.empty(0, dtype=np.float32)
    # Saturated confidences are often equal: quantiles that fall together are made up for among the other values.
    while len(chosen) < size:
        rest = values[~np.isin(values, chosen)]
        picks = np.linspace(0, len(rest) - 1, size - len(chosen)).round().astype(np.int64)
        chosen = np.union1d(chosen, rest[picks])
    return chosen
