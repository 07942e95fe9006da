"""Threshold combinations that were scored, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.policy import Thresholds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Keep = Callable[[NDArray[np.integer[Any]], Floats], NDArray[np.intp]]
"""What right predictions count together (P,) and mean costs (n_costs, P) -> the rows worth keeping."""


@dataclass(frozen=True)
class Candidates:
    """P scored combinations.

    Attributes:
        choices: Of combinations, the index (P, K) into each branch's grid, its length = switched off; of a sweep, the
            step (P, 1).
        leaving: Number of samples (P, K+1) that leave at each exit.
        correct: What right predictions count together (P,): their number, or the sum of their weights.
        costs: Mean costs (n_costs, P).
    """

    choices: Ints
    leaving: Ints
    correct: Ints
    costs: Floats

    def take(self, rows: NDArray[np.intp]) -> Candidates:
        """Return the candidates at ``rows``."""
        return Candidates(self.choices[rows], self.leaving[rows], self.correct[rows], self.costs[:, rows])

    @staticmethod
    def join(parts: Iterable[Candidates]) -> Candidates:
        """Return all ``parts``, at least one, as one."""
        every = list(parts)
        return Candidates(
            np.concatenate([part.choices for part in every]),
            np.concatenate([part.leaving for part in every]),
            np.concatenate([part.correct for part in every]),
            np.concatenate([part.costs for part in every], axis=1),
        )


@dataclass(frozen=True)
class Scored:
    """The candidates of one search, and the thresholds (K,) that one of its choices stands for."""

    candidates: Candidates
    thresholds: Callable[[Ints], Thresholds]
