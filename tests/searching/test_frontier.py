"""Hypervolume against counting cells of a grid; greedy choice against trying every subset."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.searching.frontier import Reference

STEPS = 20
# On the lines of a grid, cells are dominated as a whole or not at all, so that counting them is exact.
POINT = st.tuples(st.integers(-4, STEPS + 4), st.integers(0, STEPS + 4))
REFERENCE = Reference(accuracy=0.9, cost=200.0, depth=0.1)


def scaled(point):
    accuracy, cost = point
    return 0.8 + 0.1 * accuracy / STEPS, 200.0 * cost / STEPS


def counted(points):
    """Share of cells, of the accuracies above the floor and the costs below the backbone's, that are dominated."""
    cells = np.zeros((STEPS + 4, STEPS), dtype=bool)
    for accuracy, cost in points:
        cells[: max(accuracy, 0), cost:] = True
    return cells.sum() / STEPS**2


@given(st.lists(POINT, max_size=8))
def test_hypervolume_is_the_share_of_dominated_cells(points):
    assert REFERENCE.hypervolume(list(map(scaled, points))) == pytest.approx(counted(points), abs=1e-9)


@given(st.lists(POINT, max_size=6), POINT)
def test_another_point_never_takes_volume_away(points, another):
    before = REFERENCE.hypervolume(list(map(scaled, points)))
    assert REFERENCE.hypervolume(list(map(scaled, [*points, another]))) >= before - 1e-12


def test_hypervolume_of_known_points():
    assert REFERENCE.hypervolume([]) == 0
    assert REFERENCE.hypervolume([(0.9, 200.0)]) == 0  # the backbone itself
    assert REFERENCE.hypervolume([(0.8, 0.0)]) == 0
    assert REFERENCE.hypervolume([(0.9, 0.0)]) == pytest.approx(1.0)
    assert REFERENCE.hypervolume([(0.9, 100.0)]) == pytest.approx(0.5)
    assert REFERENCE.hypervolume([(0.9, 100.0), (0.85, 50.0)]) == pytest.approx(0.5 + 0.125)


@given(st.lists(POINT, min_size=1, max_size=7), st.integers(1, 4))
def test_greedy_choice_is_near_the_best_subset(points, count):
    points = list(map(scaled, points))
    chosen = REFERENCE.spread(points, count)
    best = max(
        REFERENCE.hypervolume(list(subset)) for subset in itertools.combinations(points, min(count, len(points)))
    )
    got = REFERENCE.hypervolume([points[i] for i in chosen])
    assert got >= (1 - 1 / math.e) * best - 1e-9
    assert len(set(chosen)) == len(chosen) <= count
    if count == 1 or count >= len(points):
        assert got == pytest.approx(best)


def test_what_is_taken_first_stays_and_nothing_useless_joins():
    points = [(0.9, 150.0), (0.9, 100.0), (0.85, 50.0), (0.84, 60.0)]
    assert REFERENCE.spread(points, 3, first=[0]) == [0, 1, 2]
    assert REFERENCE.spread(points, 1, first=[0]) == [0]
    assert REFERENCE.spread(points, 4) == [1, 2]
    assert REFERENCE.spread([(0.5, 10.0)], 2) == []


def test_of_a_group_one_point_is_taken():
    points = [(0.9, 150.0), (0.9, 100.0), (0.85, 50.0), (0.84, 60.0)]
    assert REFERENCE.spread(points, 4, groups=["x", "x", "x", "y"]) == [1, 3]
    assert REFERENCE.spread(points, 4, first=[0], groups=["x", "x", "x", "y"]) == [0, 3]


def test_what_other_points_dominate_anyway_does_not_count():
    points = [(0.9, 100.0), (0.85, 50.0)]
    assert REFERENCE.spread(points, 2, beside=[(0.85, 40.0)]) == [0]
    assert REFERENCE.spread(points, 2, beside=[(0.95, 40.0)]) == []
    assert REFERENCE.spread(points, 2, beside=[(0.5, 1.0)]) == [0, 1]
