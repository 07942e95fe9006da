from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.devices.target.quantiles import interval


def coverage(count: int, quantile: float, first: int, last: int) -> float:
    """The chance that the quantile lies between two order statistics, by the binomial formula itself."""
    return sum(comb(count, k) * quantile**k * (1 - quantile) ** (count - k) for k in range(first + 1, last + 1))


@given(st.integers(14, 80), st.sampled_from([0.2, 0.5, 0.9]))
def test_the_nearest_pair_that_covers_the_quantile_is_taken(count, quantile):
    pairs = [(a, b) for a in range(count) for b in range(a, count) if coverage(count, quantile, a, b) >= 0.95]
    first, last = interval(count, quantile)
    if pairs:
        assert coverage(count, quantile, first, last) >= 0.95 - 1e-12
        assert last - first == min(b - a for a, b in pairs)
    else:
        assert (first, last) == (0, count - 1)


@pytest.mark.parametrize("count", [1, 2, 13])
def test_too_few_observations_give_their_range(count):
    assert interval(count, 0.2) == (0, count - 1)


def test_fourteen_observations_are_enough():
    assert interval(14, 0.2) == (0, 7)


def test_thousands_of_observations_do_not_overflow():
    first, last = interval(20_000, 0.2)
    assert first < 4000 < last
    assert last - first == pytest.approx(2 * 1.96 * np.sqrt(20_000 * 0.2 * 0.8), rel=0.01)


def test_the_interval_holds_the_quantile_as_often_as_promised():
    rng = np.random.default_rng(0)
    first, last = interval(40, 0.2)
    drawn = np.sort(rng.exponential(size=(4000, 40)), axis=1)
    true = -np.log(0.8)
    assert np.mean((drawn[:, first] <= true) & (true <= drawn[:, last])) > 0.94
