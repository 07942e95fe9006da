"""Means, paired differences and verdicts, by hand."""

from __future__ import annotations

import pytest

from aebnas.comparing.claims import rank_correlation
from aebnas.comparing.estimates import Difference, all_hold, estimate, paired, verdict


def test_mean_and_spread_of_what_is_known():
    found = estimate([1.0, None, 3.0])
    assert found is not None
    assert (found.mean, found.seeds) == (2.0, 2)
    assert found.spread == pytest.approx(2**0.5)
    assert estimate([None]) is None
    single = estimate([5.0])
    assert single is not None
    assert single.spread is None


def test_differences_are_paired_by_seed_with_the_interval_of_students_t():
    # Differences 1, 2, 3: mean 2, deviation 1; t of 2 degrees of freedom at 97.5 % is 4.30265.
    found = paired({0: 11.0, 1: 22.0, 2: 33.0, 3: 5.0}, {0: 10.0, 1: 20.0, 2: 30.0, 4: 1.0})
    assert found is not None
    half = 4.30265 / 3**0.5
    assert (found.mean, found.seeds) == (2.0, 3)
    assert (found.low, found.high) == (pytest.approx(2 - half, abs=1e-4), pytest.approx(2 + half, abs=1e-4))
    assert found.half == pytest.approx(half, abs=1e-4)


def test_one_pair_has_no_interval_and_none_no_difference():
    found = paired({0: 2.0, 1: None}, {0: 1.0, 1: 1.0})
    assert found == Difference(1.0, None, None, 1)
    assert paired({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize(
    ("low", "high", "lower", "expected"),
    [
        (0.1, 0.5, False, "holds"),
        (-0.1, 0.5, False, "within the spread"),
        (-0.5, -0.1, False, "does not hold"),
        (-0.5, -0.1, True, "holds"),
        (0.1, 0.5, True, "does not hold"),
        (0.0, 0.5, False, "within the spread"),
        (None, None, False, "within the spread"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_on_its_side(low, high, lower, expected):
    assert verdict(Difference(0.0, low, high, 3), lower_is_better=lower) == expected
    assert verdict(None) == "within the spread"


def test_a_claim_of_several_parts_needs_all_of_them():
    assert all_hold(["holds", "holds"]) == "holds"
    assert all_hold(["holds", "within the spread"]) == "within the spread"
    assert all_hold(["within the spread", "does not hold"]) == "does not hold"


def test_rank_correlation_by_hand():
    assert rank_correlation([1.0, 2.0, 3.0], [10.0, 20.0, 15.0]) == pytest.approx(0.5)
    assert rank_correlation([1.0, 1.0, 2.0], [3.0, 3.0, 4.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 1.0], [1.0, 2.0]) is None
