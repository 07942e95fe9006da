"""How well probabilities match accuracies: reliability, ECE, and an exponent that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Probabilities = NDArray[np.floating[Any]]

BINS = 15
# A confidence of 0 has no logarithm, one of 1 no use for an exponent; beyond these bounds exponents say nothing more.
_LOWEST, _HIGHEST = 1e-12, 1.0 - 1e-12
_EXPONENTS = (1e-3, 1e3)
_HALVINGS = 60


@dataclass(frozen=True)
class Reliability:
    """Samples in equal-width bins of a probability, (bins,) each; means are nan where a bin is empty."""

    counts: NDArray[np.int64]
    probability: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float | None:
        """The mean distance of probability and accuracy, bins weighted by their samples; None without samples."""
        filled = self.counts > 0
        if not filled.any():
            return None
        gaps = np.abs(self.accuracy[filled] - self.probability[filled])
        return float(gaps @ self.counts[filled] / self.counts.sum())


def reliability(probabilities: Probabilities, correct: Flags, bins: int = BINS) -> Reliability:
    """Return the reliability of ``probabilities`` (N,) in [0, 1] that predictions are ``correct`` (N,).

    Bin b holds probabilities above b / bins and up to (b + 1) / bins; the first one holds 0 too.
    """
    exact = np.nan_to_num(np.asarray(probabilities, dtype=np.float64))
    place = np.clip(np.ceil(exact * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        probability = np.bincount(place, weights=exact, minlength=bins) / counts
        accuracy = np.bincount(place, weights=correct, minlength=bins) / counts
    return Reliability(counts, probability, accuracy)


def expected_calibration_error(probabilities: Probabilities, correct: Flags, bins: int = BINS) -> float | None:
    """Return the ECE over ``bins`` equal-width bins (arXiv 1706.04599); None without samples."""
    return reliability(probabilities, correct, bins).ece


def fit_exponent(confidence: Probabilities, correct: Flags) -> float | None:
    """Return the exponent a for which confidence^a is the likeliest probability of being correct.

    Exponential calibration as in SLOVA (arXiv 2206.13923), fitted by maximum likelihood: our variant. It rises with
    the confidence, so it changes no ranking.

    Args:
        confidence: (N,) in [0, 1].
        correct: (N,).

    Returns:
        A number between 0.001 and 1000; None where all or none are correct, for then no exponent is the likeliest.
    """
    if correct.all() or not correct.any():
        return None
    depth = -np.log(np.clip(np.nan_to_num(np.asarray(confidence, dtype=np.float64)), _LOWEST, _HIGHEST))
    right, wrong = float(depth[correct].sum()), depth[~correct]
    low, high = np.log(_EXPONENTS)
    # The negative log-likelihood is convex in a: halve the range by the sign of its slope.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        with np.errstate(over="ignore"):
            slope = right - float((wrong / np.expm1(np.exp(middle) * wrong)).sum())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp((low + high) / 2))


def calibrated(confidence: Probabilities, exponent: float) -> NDArray[np.float64]:
    """Return ``confidence`` (N,) in [0, 1] to the power of ``exponent``."""
    powered: NDArray[np.float64] = np.asarray(confidence, dtype=np.float64) ** exponent
    return powered
