"""A policy: which confidence is compared with which thresholds, and where each sample leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import InputError

Thresholds = tuple[float | None, ...]


@dataclass(frozen=True)
class Policy:
    """Leave at branch e when its confidence >= thresholds[e]; the final exit takes the rest.

    Args:
        confidence: Name of the confidence measure.
        thresholds: One per branch, None = switched off; rounded to float32, in which they are compared.

    Raises:
        InputError: a threshold is not a finite number.
    """

    confidence: str
    thresholds: Thresholds

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", round_thresholds(self.thresholds))

    def leave_at(self, confidences: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return the exit (N,) int64 in 0..K of each sample, K = final, for ``confidences`` (K, N)."""
        return leave_at(confidences, self.thresholds)


def leave_at(confidences: NDArray[np.floating[Any]], thresholds: Sequence[float | None]) -> NDArray[np.int64]:
    """Return the exit (N,) int64 in 0..K of each sample, K = final; ``confidences`` (K, N) are compared in float32.

    A confidence that is not a number never leaves.

    Raises:
        ValueError: ``confidences`` has not one row per threshold.
    """
    scores = np.asarray(confidences, dtype=np.float32)
    if scores.ndim != 2 or len(scores) != len(thresholds):
        raise ValueError(f"confidences must be (branches, samples) with {len(thresholds)} branches, not {scores.shape}")
    exits = np.full(scores.shape[1], len(thresholds), dtype=np.int64)
    for branch in reversed(range(len(thresholds))):
        threshold = thresholds[branch]
        if threshold is not None:
            exits[scores[branch] >= np.float32(threshold)] = branch
    return exits


def round_thresholds(thresholds: Sequence[float | None]) -> Thresholds:
    """Return ``thresholds`` as Python floats that float32 represents exactly.

    Raises:
        InputError: one is not finite.
    """
    for threshold in thresholds:
        if threshold is not None and not math.isfinite(threshold):
            raise InputError(f"a threshold must be a finite number, or null to switch the exit off, not {threshold}")
    return tuple(None if threshold is None else float(np.float32(threshold)) for threshold in thresholds)
