"""Thresholds per predicted class, from the precision that each class must keep (CalexNet, arXiv 2509.08318)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.grids import midway

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Weights = NDArray[np.int64]

# With fewer samples a precision says too little to let a class leave.
MIN_SAMPLES = 30


def class_precisions(
    predicted: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    classes: int,
    weights: Weights | None = None,
) -> Floats:
    """Return how often each predicted class is right, (C,) float64; 1 for a class that is never predicted.

    In float64, as the precisions that are compared with floors made of these: where both are of the same counts, they
    are equal.

    Args:
        predicted: Labels (N,), 0 to classes-1.
        truth: The right labels (N,).
        classes: Number C of classes.
        weights: What each sample counts, whole numbers (N,); None: 1.
    """
    right = predicted == truth
    count = np.bincount(predicted, weights, minlength=classes)
    hits = np.bincount(predicted[right], None if weights is None else weights[right], minlength=classes)
    return np.where(count > 0, hits / np.maximum(count, 1), 1.0)


def class_thresholds(
    confidence: NDArray[np.floating[Any]],
    predicted: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    floors: NDArray[np.floating[Any]],
    weights: Weights | None = None,
    *,
    min_samples: int = MIN_SAMPLES,
) -> NDArray[np.float32]:
    """Return the threshold (C,) float32 of each predicted class; inf = that class never leaves.

    Of the samples predicted as a class, by falling confidence, as many leave as possible with a precision of at least
    the class's floor, but at least ``min_samples``. Equal confidences stay together. A threshold lies midway between
    the last confidence that leaves and the next one, so that rounding in another runtime moves no sample across it; it
    is at most 0 where all leave. CalexNet's "class precision margin" in our variant.

    Args:
        confidence: Of one exit, (N,), compared in float32; what is not finite is left out.
        predicted: Labels (N,) of that exit, 0 to C-1.
        truth: The right labels (N,).
        floors: Least precision of each class, (C,); one that is not a number is never reached.
        weights: What each sample counts in a precision, whole numbers (N,); None: 1.
        min_samples: Least number of samples that a precision is trusted with, whatever they count.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    ranking = ClassRanking(confidence, predicted, truth, len(floors), weights)
    return ranking.thresholds(floors, min_samples=min_samples)


class ClassRanking:
    """The samples of one exit by predicted class and falling confidence, sorted once for many floors.

    Args:
        confidence: (N,), compared in float32; what is not finite is left out.
        predicted: Labels (N,) of the exit, 0 to classes-1.
        truth: The right labels (N,).
        classes: Number C of classes.
        weights: What each sample counts in a precision, whole numbers (N,); None: 1.

    Raises:
        ValueError: the arrays do not fit each other.
    """

    def __init__(
        self,
        confidence: NDArray[np.floating[Any]],
        predicted: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
        classes: int,
        weights: Weights | None = None,
    ) -> None:
        sure = np.asarray(confidence, dtype=np.float32)
        if sure.ndim != 1 or predicted.shape != sure.shape or truth.shape != sure.shape:
            raise ValueError(
                f"confidence {sure.shape}, predicted {predicted.shape} and truth {truth.shape} must all be (N,)"
            )
        if len(predicted) and not 0 <= predicted.min() <= predicted.max() < classes:
            raise ValueError(f"predicted labels must lie between 0 and {classes - 1}")
        rows = np.flatnonzero(np.isfinite(sure))
        self._rows: Rows = rows[np.lexsort((-sure[rows], predicted[rows]))]
        self._sure, self._class = sure[self._rows], predicted[self._rows]
        self._right = (predicted == truth)[self._rows]
        self._counts = np.ones(len(rows), dtype=np.int64) if weights is None else weights[self._rows]
        self._samples, self._classes = len(sure), classes

    def thresholds(
        self,
        floors: NDArray[np.floating[Any]],
        alive: NDArray[np.bool_] | None = None,
        *,
        min_samples: int = MIN_SAMPLES,
    ) -> NDArray[np.float32]:
        """Return the thresholds (C,) of ``class_thresholds`` from the samples that are ``alive`` (N,), None = all."""
        kept = slice(None) if alive is None else alive[self._rows]
        sure, class_ = self._sure[kept], self._class[kept]
        chosen = np.full(self._classes, np.inf, dtype=np.float32)
        if not len(sure):
            return chosen
        same, precision, trusted = _running(sure, class_, self._right[kept], self._counts[kept], min_samples)
        last = np.flatnonzero(trusted & (precision >= np.asarray(floors, dtype=np.float64)[class_]))
        # Of several values for one index the last is assigned: that with the lowest confidence.
        below = np.minimum(last + 1, len(sure) - 1)
        cut = np.where(same[last], midway(sure[below], sure[last]), np.minimum(sure[last], np.float32(0)))
        chosen[class_[last]] = cut
        return chosen

    def margins(self, precisions: Floats, *, min_samples: int = MIN_SAMPLES) -> Floats:
        """Return the smallest margin m (N,) float64 at which each sample leaves, if all are alive; inf = at none.

        It leaves where the floors are (1 - m) * ``precisions`` (C,); below 0 = better than these. Of a class whose
        precision is 0, all that can leave do at every margin: -inf.
        """
        found = np.full(self._samples, np.inf)
        if not len(self._rows):
            return found
        same, precision, trusted = _running(self._sure, self._class, self._right, self._counts, min_samples)
        least = precisions[self._class]
        needed = 1 - np.divide(precision, least, out=np.full(len(least), np.inf), where=least != 0)
        needed = np.where(trusted & ~np.isnan(needed), needed, np.inf)
        starts = np.flatnonzero(~np.insert(same[:-1], 0, False))
        for start, end in itertools.pairwise([*starts.tolist(), len(same)]):
            own = slice(start, end)
            # A sample leaves with the first threshold at or below its confidence that reaches the bar.
            found[self._rows[own]] = np.minimum.accumulate(needed[own][::-1])[::-1]
        return found


def _running(
    sure: NDArray[np.float32],
    class_: NDArray[np.integer[Any]],
    right: NDArray[np.bool_],
    counts: Weights,
    min_samples: int,
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.bool_]]:
    """Return, along sorted samples, whether the next is of the same class, the class's precision so far, and whether
    a threshold may lie behind the sample: enough samples, and no other of the same confidence after it."""
    places = np.arange(len(sure))
    same = np.append(class_[1:] == class_[:-1], False)
    starts = np.maximum.accumulate(np.where(np.insert(same[:-1], 0, False), 0, places))
    won = right * counts
    hits, held = np.cumsum(won), np.cumsum(counts)
    seen = places - starts + 1
    # Whole numbers up to the division: what is the same share is the same precision.
    precision = (hits - (hits - won)[starts]) / (held - (held - counts)[starts])
    tied = same & (np.append(sure[1:], np.nan) == sure)
    return same, precision, (seen >= min_samples) & ~tied
