"""Coordinate descent against the exact answer where that can still be had."""

from __future__ import annotations

import numpy as np
import pytest

from aebnas.exits.grids import quantile_grid
from aebnas.exits.tuning import tune


def network(branches, samples, seed):
    """Later exits are better; the confidence says something about being right."""
    generator = np.random.default_rng(seed)
    ease = generator.random(samples)
    skill = np.linspace(0.5, 0.95, branches + 1)[:, None]
    correct = ease + 0.2 * generator.random((branches + 1, samples)) > 1.0 - skill
    confidences = np.clip(ease + 0.2 * generator.normal(size=(branches, samples)), 0, 1).astype(np.float32)
    return confidences, correct


def interacting_costs(branches, kinds=1):
    """Costs of neighbouring branches that are both on are not the sum of their parts."""

    def cost_of(mask):
        on = np.array([*mask, False], dtype=float)
        passed = np.cumsum(2.0 * on + 1.5 * on * np.roll(on, 1))
        return np.stack([10.0 * np.arange(1, branches + 2) + passed, 5.0 + np.sqrt(np.arange(branches + 1)) + passed])[
            :kinds
        ]

    return cost_of


def area(curve, limit):
    """Mean of the best accuracy within a budget, over budgets up to ``limit``."""
    budgets = np.linspace(0, limit, 2000)
    return np.mean([max((p.accuracy for p in curve.points if p.costs[0] <= b), default=0.0) for b in budgets])


@pytest.mark.parametrize("kinds", [1, 2])
def test_with_one_branch_the_line_search_is_exact(kinds):
    confidences, correct = network(1, 150, seed=0)
    exact = tune(confidences, correct, interacting_costs(1, kinds), grid=300)
    assert tune(confidences, correct, interacting_costs(1, kinds), grid=300, max_cells=1) == exact


@pytest.mark.parametrize("branches", [2, 3, 4])
def test_descent_comes_near_the_exact_curve_on_the_same_grid(branches):
    confidences, correct = network(branches, 300, seed=branches)
    grids = [quantile_grid(one, 8) for one in confidences]
    exact = tune(confidences, correct, interacting_costs(branches), grids=grids)
    found = tune(confidences, correct, interacting_costs(branches), grids=grids, max_cells=1)
    limit = 10.0 * (branches + 1)
    assert 0.995 * area(exact, limit) <= area(found, limit) <= area(exact, limit)


@pytest.mark.parametrize("kinds", [1, 2])
def test_beyond_the_histogram_nothing_simple_is_better(kinds):
    branches = 7
    confidences, correct = network(branches, 200, seed=5)
    cost_of = interacting_costs(branches, kinds)
    curve = tune(confidences, correct, cost_of)

    def covered(point):
        return any(
            own.accuracy >= point.accuracy and all(a <= b for a, b in zip(own.costs, point.costs, strict=True))
            for own in curve.points
        )

    one_branch = []
    for branch in range(branches):
        grids = [np.array([0.0]) if other == branch else np.array([]) for other in range(branches)]
        one_branch += tune(confidences, correct, cost_of, grids=grids).points
    backbone = tune(confidences, correct, cost_of, grids=[np.array([])] * branches).points
    assert len(backbone) == 1
    # The curve is thinned, so only its corners are certain to be there: the cheapest and the most accurate points.
    assert covered(backbone[0])
    assert covered(min(one_branch, key=lambda point: point.costs))


def test_descent_is_repeatable():
    confidences, correct = network(5, 100, seed=6)
    first, second = (tune(confidences, correct, interacting_costs(5), max_cells=1) for _ in range(2))
    assert first == second
