"""How well a score ranks samples: ROC, AUROC, FPR at a TPR, risk-coverage and the areas under it.

Samples of equal score are never told apart: they are accepted together, and where a curve passes through them it is
the mean over their orders. A score that is not a number ranks last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Ranking:
    """Samples in falling order of a score, sorted once for all that is asked of it.

    Args:
        scores: (N,), higher = accepted earlier.
    """

    def __init__(self, scores: NDArray[np.floating[Any]]) -> None:
        falling = -np.where(np.isnan(scores), -np.inf, scores)
        self._order = np.argsort(falling, kind="stable")
        ordered = falling[self._order]
        # How many samples are accepted by the time that a group of equal scores is.
        self._accepted = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], len(ordered) > 0)) + 1

    def roc(self, positive: Flags) -> tuple[Floats, Floats] | None:
        """Return the false and true positive rates, (G+1,) each from 0 to 1; None if one of the classes is empty."""
        hits, misses = self._counts(positive), self._counts(~positive)
        if not hits[-1] or not misses[-1]:
            return None
        return misses / misses[-1], hits / hits[-1]

    def auroc(self, positive: Flags) -> float | None:
        """Return the chance that a positive sample has a higher score than a negative one, equal scores count half.

        None if ``positive`` (N,) holds one class only.
        """
        hits, misses = self._counts(positive), self._counts(~positive)
        pairs = int(hits[-1]) * int(misses[-1])
        if not pairs:
            return None
        # Twice the trapezoids, in whole numbers.
        return int((np.diff(misses) * (hits[1:] + hits[:-1])).sum()) / (2 * pairs)

    def fpr_at_tpr(self, positive: Flags, tpr: float = 0.95) -> float | None:
        """Return the share of negatives accepted at the highest threshold that accepts ``tpr`` of the positives.

        None if ``positive`` (N,) holds one class only.
        """
        hits, misses = self._counts(positive), self._counts(~positive)
        if not hits[-1] or not misses[-1]:
            return None
        enough = hits >= math.ceil(tpr * int(hits[-1]) - 1e-9)
        return float(misses[int(enough.argmax())] / misses[-1])

    def risk_coverage(self, correct: Flags) -> tuple[Floats, Floats]:
        """Return coverages k/N and the share of errors among the k samples of highest score, (N,) each."""
        count = np.arange(1, len(correct) + 1)
        accepted = np.append(0, self._accepted)
        wrong = np.interp(count, accepted, self._counts(~correct))
        return count / max(len(correct), 1), wrong / count

    def aurc(self, correct: Flags) -> float | None:
        """Return the mean risk over all coverages (arXiv 1805.08206); None without samples."""
        return float(self.risk_coverage(correct)[1].mean()) if len(correct) else None

    def excess_aurc(self, correct: Flags) -> float | None:
        """Return the AURC beyond that of a ranking that puts every error last; None without samples.

        The best AURC is exact for the N samples, where arXiv 1805.08206 gives its limit for many.
        """
        found = self.aurc(correct)
        return None if found is None else max(0.0, found - best_aurc(len(correct), int((~correct).sum())))

    def _counts(self, flags: Flags) -> NDArray[np.int64]:
        """Return how many flagged samples each group's end accepts, 0 first."""
        running = np.append(0, np.cumsum(flags[self._order], dtype=np.int64))
        counts: NDArray[np.int64] = running[np.append(0, self._accepted)]
        return counts


def best_aurc(samples: int, wrong: int) -> float:
    """Return the AURC of ``samples`` of which the ``wrong`` ones all come last."""
    count = np.arange(samples - wrong + 1, samples + 1)
    return float(((count - (samples - wrong)) / count).sum() / samples)


def auroc_error(auroc: float, positives: int, negatives: int) -> float:
    """Return the standard error of an AUROC found on so many samples (Hanley and McNeil 1982)."""
    both, either = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (positives - 1) * (both - auroc**2) + (negatives - 1) * (either - auroc**2)
    return math.sqrt(max(0.0, spread) / (positives * negatives))
