"""Means over seeds, and paired differences with their confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit  # type: ignore[import-untyped]

_CONFIDENCE = 0.95
Verdict = Literal["holds", "does not hold", "within the spread"]


@dataclass(frozen=True)
class Estimate:
    """Mean and standard deviation over seeds; the deviation of one seed is None."""

    mean: float
    spread: float | None
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The mean difference between pairs of one seed each, with the 95 % interval of that mean; None of one pair."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return mean and spread of the values that are not None, or None if there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Estimate(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def paired(values: Mapping[int, float | None], reference: Mapping[int, float | None]) -> Difference | None:
    """Return the mean of ``values`` - ``reference`` over the seeds that both know, or None if there are none.

    The interval is that of Student's t with one degree of freedom less than there are pairs.
    """
    differences = []
    for seed, value in values.items():
        other = reference.get(seed)
        if value is not None and other is not None:
            differences.append(value - other)
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    if count == 1:
        return Difference(mean, None, None, 1)
    quantile = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2))
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, mean - half, mean + half, count)


def verdict(difference: Difference | None, *, lower_is_better: bool = False) -> Verdict:
    """Return what a difference says of the claim that the first of the two is better.

    It holds if the whole 95 % interval lies on the better side of 0, does not hold if it lies on the other, and is
    within the spread where it includes 0 or is not known.
    """
    if difference is None or difference.low is None or difference.high is None:
        return "within the spread"
    better, worse = difference.low > 0, difference.high < 0
    if lower_is_better:
        better, worse = worse, better
    return "holds" if better else "does not hold" if worse else "within the spread"


def all_hold(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a claim that has several parts: it holds only if all of them do."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "within the spread" if not verdicts or "within the spread" in verdicts else "holds"
