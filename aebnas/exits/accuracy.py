"""Which accuracy is meant: that over samples, or the mean of the classes' own, balanced accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

AccuracyKind = Literal["plain", "balanced"]
"""``plain``: the share of the samples that are right. ``balanced``: the mean over classes of the share of the class's
samples that are right, its recall; classes without samples are left out."""

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Up to here sums are whole numbers in float64 as well, in which numpy counts with weights, and have room to be scaled.
_LARGEST_TOTAL = 1 << 50
_HALVINGS = 60


def accuracy_name(kind: AccuracyKind) -> str:
    """Return what the accuracy is called."""
    return "accuracy" if kind == "plain" else "balanced accuracy"


def sample_weights(truth: NDArray[np.integer[Any]], kind: AccuracyKind) -> Ints | None:
    """Return what each sample counts in the accuracy, whole numbers (N,); None: all count the same.

    For balanced accuracy they are in the ratio of 1 / (samples of the class), scaled by the least common multiple of
    the classes' sizes: whoever adds them up gets the same sum in any order, and equal accuracies are equal. Where that
    multiple is so large that sums would not be exact any more, weights are rounded instead, by less than one part in a
    million while a class's samples times the classes are fewer than 2^30.

    Args:
        truth: Right labels (N,), 0 or more.
    """
    if kind == "plain":
        return None
    counts = np.bincount(truth)
    present = np.flatnonzero(counts)
    sizes: list[int] = counts[present].tolist()
    scale = math.lcm(*sizes)
    if len(sizes) * scale > _LARGEST_TOTAL:
        scale = _LARGEST_TOTAL // len(sizes)
    of_class = np.zeros(len(counts), dtype=np.int64)
    of_class[present] = [(2 * scale + size) // (2 * size) for size in sizes]
    weights: Ints = of_class[truth]
    return weights


def total_weight(samples: int, weights: Ints | None) -> int:
    """Return what all samples count together."""
    return samples if weights is None else int(weights.sum())


def right_weight(right: Flags, weights: Ints | None) -> int:
    """Return what those samples count together that are ``right`` (N,)."""
    return int(right.sum()) if weights is None else int(weights[right].sum())


def accuracy_of(right: Flags, truth: NDArray[np.integer[Any]], kind: AccuracyKind) -> float:
    """Return the accuracy in [0, 1] of answers that are ``right`` (N,) about samples of the classes ``truth`` (N,).

    Raises:
        ValueError: there are no samples.
    """
    if not len(right):
        raise ValueError("there is no accuracy on no samples")
    weights = sample_weights(truth, kind)
    return right_weight(right, weights) / total_weight(len(right), weights)


def recalls(right: Flags, truth: NDArray[np.integer[Any]], classes: int) -> NDArray[np.float64]:
    """Return the share of every class's samples that are ``right``, (C,); nan for a class without samples."""
    counts = np.bincount(truth, minlength=classes)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = np.bincount(truth[right], minlength=classes) / counts
    return shares


def absent_classes(truth: NDArray[np.integer[Any]], classes: int) -> list[int]:
    """Return the classes without samples, which balanced accuracy leaves out."""
    absent: list[int] = np.flatnonzero(np.bincount(truth, minlength=classes) == 0).tolist()
    return absent


def largest_deviation(accuracy: float, counts: Sequence[int] | NDArray[np.integer[Any]]) -> float:
    """Return the largest standard deviation that a balanced accuracy can have, from its value.

    With recalls r_c on n_c independent samples of C classes it is the root of 1 / C^2 * sum_c r_c (1 - r_c) / n_c. The
    recalls are not known, only that their mean is ``accuracy``: the sum is greatest where r_c = (1 - l n_c) / 2, kept
    within [0, 1], for the one l with that mean. For classes of one size that is sqrt(a (1 - a) / samples), the
    deviation of a plain accuracy.

    Args:
        accuracy: Balanced, in [0, 1].
        counts: Samples of every class, (C,); classes without any do not count.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    sizes = sizes[sizes > 0]
    # The mean of the recalls falls with l, from 1 at -1 / min(n) to 0 at 1 / min(n).
    high = 1 / float(sizes.min())
    low = -high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(_recalls(middle, sizes).mean()) > accuracy:
            low = middle
        else:
            high = middle
    found = _recalls((low + high) / 2, sizes)
    return math.sqrt(float((found * (1 - found) / sizes).sum())) / len(sizes)


def _recalls(multiplier: float, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip((1 - multiplier * sizes) / 2, 0.0, 1.0)
