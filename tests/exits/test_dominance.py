"""The non-dominated filter against comparing all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits.dominance import nondominated, thin


def front_by_pairs(correct, costs):
    points = np.unique(np.vstack([-correct, costs]).T, axis=0)
    return {tuple(p) for p in points if not ((points <= p).all(axis=1) & (points < p).any(axis=1)).any()}


def front(correct, costs):
    rows = nondominated(correct, costs)
    return [tuple(p) for p in np.vstack([-correct, costs])[:, rows].T]


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_few_points_with_many_ties(points, kinds, levels, seed):
    generator = np.random.default_rng(seed)
    correct = generator.integers(0, levels, points)
    costs = generator.integers(0, levels, (kinds, points)).astype(float)
    found = front(correct, costs)
    assert set(found) == front_by_pairs(correct, costs)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("kinds", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [1, 7, 1000])
def test_many_points(kinds, levels):
    # Enough for the raster, and a front longer than one chunk where there are many levels.
    generator = np.random.default_rng(kinds)
    correct = generator.integers(0, levels, 4000)
    trade_off = correct + generator.integers(0, max(levels // 4, 1), (kinds, 4000))
    costs = trade_off.astype(float)
    assert set(front(correct, costs)) == front_by_pairs(correct, costs)


def test_a_cost_that_never_varies_changes_nothing():
    generator = np.random.default_rng(0)
    correct, cost = generator.integers(0, 500, 4000), generator.random((1, 4000))
    with_constant = np.vstack([cost, np.ones((1, 4000))])
    assert nondominated(correct, with_constant).tolist() == nondominated(correct, cost).tolist()
    assert len(nondominated(correct, np.ones((2, 4000)))) == 1


def test_no_points():
    assert len(nondominated(np.empty(0, int), np.empty((2, 0)))) == 0


def test_rows_come_by_rising_first_cost():
    generator = np.random.default_rng(1)
    costs = generator.random((2, 3000))
    rows = nondominated(generator.integers(0, 50, 3000), costs)
    assert (np.diff(costs[0, rows]) >= 0).all()


@pytest.mark.parametrize("points", [3, 10, 11, 500])
def test_thinning_keeps_the_ends(points):
    correct = np.arange(points)
    costs = np.stack([np.arange(points), -np.arange(points)]).astype(float)
    rows = thin(correct, costs, 10)
    assert len(rows) <= 10
    assert {0, points - 1} <= set(rows.tolist())
