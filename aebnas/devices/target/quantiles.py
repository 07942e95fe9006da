"""Confidence intervals of quantiles that assume nothing about how the observations are distributed."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4096)
def interval(count: int, quantile: float, confidence: float = 0.95) -> tuple[int, int]:
    """Return which two of ``count`` sorted observations, numbered from 0, enclose the quantile of their distribution.

    How many of the observations lie below the quantile is binomial, so that a pair's coverage is a sum of binomial
    probabilities whatever the distribution. Of the pairs that cover it with the probability ``confidence`` it is one
    that is least far apart, and of these one whose two tails are most alike. The outermost observations where there
    are too few for any pair to reach ``confidence`` (below 14 for the 20 % quantile at 95 %).
    """
    below = np.cumsum(_binomial(count, quantile))
    best = (count, math.inf, 0, count - 1)
    for first in range(count):
        # The quantile lies in [x(first), x(last)] if at least first + 1 and at most last observations are below it.
        last = int(np.searchsorted(below, below[first] + confidence))
        if last >= count:
            break
        lopsided = abs(float(below[first] - (1 - below[last])))
        best = min(best, (last - first, lopsided, first, last))
    return best[2], best[3]


def _binomial(count: int, chance: float) -> np.ndarray:
    """Return the probabilities of 0 .. ``count`` hits; by logarithms, as the factors of many visits overflow."""
    hits = range(count + 1)
    total = math.lgamma(count + 1)
    logs = [total - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in hits]
    weights = [k * math.log(chance) + (count - k) * math.log1p(-chance) for k in hits]
    return np.exp(np.add(logs, weights))
