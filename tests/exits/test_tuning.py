"""The tuner against brute force: every combination, every sample, in plain Python on whole numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits import histogram
from aebnas.exits.costs import Reduction
from aebnas.exits.grids import quantile_grid
from aebnas.exits.policy import leave_at
from aebnas.exits.tuning import Curve, Target, evaluate_thresholds, solve, tune

LEVELS = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, float("nan")]


def table_costs(seed, branches, kinds):
    """Whole-number exit costs drawn per mask, so that they are not additive; nan where a branch is off."""
    generator = np.random.default_rng(seed)
    table = {}
    for mask in itertools.product((False, True), repeat=branches):
        costs = generator.integers(1, 30, (kinds, branches + 1)).astype(float)
        costs[:, [not on for on in mask] + [False]] = np.nan
        table[mask] = costs
    return table.__getitem__


def additive_costs(branches, kinds=1):
    def cost_of(mask):
        on = np.array([*mask, False])
        first = 10.0 * np.arange(1, branches + 2) + np.cumsum(2.0 * on)
        second = np.arange(1.0, branches + 2) ** 2 + np.cumsum(3.0 * on)
        return np.stack([first, second])[:kinds]

    return cost_of


def score_by_hand(confidences, correct, costs, thresholds):
    """(right predictions, cost sums) of one combination, sample by sample."""
    branches, samples = confidences.shape
    right, sums = 0, [0] * len(costs)
    for sample in range(samples):
        leave = branches
        for branch in range(branches):
            if thresholds[branch] is not None and confidences[branch, sample] >= thresholds[branch]:
                leave = branch
                break
        right += int(correct[leave, sample])
        sums = [total + int(row[leave]) for total, row in zip(sums, costs, strict=True)]
    return right, tuple(sums)


def every_combination(confidences, correct, cost_of, grids):
    for thresholds in itertools.product(*[[*grid.tolist(), None] for grid in grids]):
        mask = tuple(threshold is not None for threshold in thresholds)
        yield thresholds, *score_by_hand(confidences, correct, cost_of(mask), thresholds)


def front_by_hand(scored):
    points = set(scored)

    def beats(one, other):
        return one != other and one[0] >= other[0] and all(a <= b for a, b in zip(one[1], other[1], strict=True))

    return {point for point in points if not any(beats(other, point) for other in points)}


def as_whole_numbers(curve: Curve, samples):
    return {(round(p.accuracy * samples), tuple(round(c * samples) for c in p.costs)) for p in curve.points}


@st.composite
def problems(draw, max_branches=4):
    branches, samples = draw(st.integers(0, max_branches)), draw(st.integers(1, 7))
    levels = st.lists(st.sampled_from(LEVELS), min_size=samples, max_size=samples)
    bits = st.lists(st.booleans(), min_size=samples, max_size=samples)
    confidences = np.array([draw(levels) for _ in range(branches)], dtype=np.float32).reshape(branches, samples)
    correct = np.array([draw(bits) for _ in range(branches + 1)])
    cost_of = table_costs(draw(st.integers(0, 10_000)), branches, draw(st.integers(1, 3)))
    return confidences, correct, cost_of


@given(problems(), st.integers(1, 3))
@settings(max_examples=120, deadline=None)
def test_curve_is_the_front_of_every_combination(problem, grid):
    confidences, correct, cost_of = problem
    grids = [quantile_grid(one, grid) for one in confidences]
    scored = [found[1:] for found in every_combination(confidences, correct, cost_of, grids)]
    curve = tune(confidences, correct, cost_of, grid=grid)
    assert as_whole_numbers(curve, correct.shape[1]) == front_by_hand(scored)
    assert len(curve.points) == len(front_by_hand(scored))


@given(problems(max_branches=2))
@settings(max_examples=60, deadline=None)
def test_a_grid_as_long_as_the_distinct_confidences_misses_nothing(problem):
    confidences, correct, cost_of = problem
    everything = [np.unique(one[~np.isnan(one)]) for one in confidences]
    scored = [found[1:] for found in every_combination(confidences, correct, cost_of, everything)]
    assert as_whole_numbers(tune(confidences, correct, cost_of), correct.shape[1]) == front_by_hand(scored)


@given(problems(max_branches=3), st.sampled_from([1, 4_000_000]))
@settings(max_examples=60, deadline=None)
def test_every_point_is_what_its_thresholds_give(problem, max_cells):
    confidences, correct, whole = problem

    def cost_of(mask):
        return 0.1 * whole(mask)

    for point in tune(confidences, correct, cost_of, max_cells=max_cells).points:
        assert evaluate_thresholds(confidences, correct, cost_of, point.thresholds) == point
        assert sum(point.exit_shares) == pytest.approx(1.0)


@given(
    problems(max_branches=3),
    st.sampled_from(["at-most", "two-sided"]),
    st.integers(8, 240).map(lambda eighths: eighths / 8),
    st.none() | st.floats(0, 1),
    st.integers(0, 2),
)
@settings(max_examples=150, deadline=None)
def test_solve_finds_the_best_of_every_combination_or_better(problem, rule, wish, floor, cost_index):
    confidences, correct, cost_of = problem
    samples = correct.shape[1]
    cost_index %= len(cost_of((False,) * len(confidences)))
    target = Target(wish, rule=rule, cost_index=cost_index, min_accuracy=floor)

    def score(right, sums):
        accuracy, mean = right / samples, sums[cost_index] / samples
        if (floor is not None and accuracy < floor) or (rule == "at-most" and mean > wish):
            return None
        return 100 * accuracy - (10 * abs(mean - wish) / wish if rule == "two-sided" else 0)

    def best(grids):
        scores = [score(*found[1:]) for found in every_combination(confidences, correct, cost_of, grids)]
        return max((one for one in scores if one is not None), default=None)

    def of(point):
        return score(round(point.accuracy * samples), tuple(round(cost * samples) for cost in point.costs))

    coarse = [quantile_grid(one, 2) for one in confidences]
    on_grid = solve(confidences, correct, cost_of, target, grids=coarse)
    assert (None if on_grid is None else of(on_grid)) == pytest.approx(best(coarse), abs=1e-9)
    # Between the values of a grid there may be better ones; the best of all splits is the most there can be.
    every = best([quantile_grid(one, samples) for one in confidences])
    free = solve(confidences, correct, cost_of, target, grid=2)
    if best(coarse) is not None:
        assert best(coarse) - 1e-9 <= of(free) <= every + 1e-9
    else:
        assert free is None or of(free) <= every + 1e-9
    # A grid that holds every split leaves nothing to look for.
    full = solve(confidences, correct, cost_of, target, grid=samples)
    assert (None if full is None else of(full)) == pytest.approx(every, abs=1e-9)


def test_explicit_grids_are_the_only_thresholds_tried():
    generator = np.random.default_rng(0)
    confidences, correct = generator.random((3, 40), dtype=np.float32), generator.random((4, 40)) < 0.7
    grids = [np.array([0.5, 0.2]), np.array([]), np.array([0.9, 0.9])]
    scored = [
        found[1:]
        for found in every_combination(
            confidences, correct, additive_costs(3), [np.float32([0.2, 0.5]), np.float32([]), np.float32([0.9])]
        )
    ]
    curve = tune(confidences, correct, additive_costs(3), grids=grids)
    assert as_whole_numbers(curve, 40) == front_by_hand(scored)
    used = [{point.thresholds[branch] for point in curve.points} for branch in range(3)]
    assert used[0] <= {None, float(np.float32(0.2)), 0.5}
    assert used[1] == {None}


@pytest.mark.parametrize("block", [1, 5, 40])
def test_blocks_do_not_change_the_curve(monkeypatch, block):
    generator = np.random.default_rng(1)
    confidences, correct = generator.random((3, 60), dtype=np.float32), generator.random((4, 60)) < 0.7
    whole = tune(confidences, correct, additive_costs(3, 2), grid=6)
    monkeypatch.setattr(histogram, "_BLOCK_CELLS", block)
    assert tune(confidences, correct, additive_costs(3, 2), grid=6) == whole


def test_no_branches_leave_the_backbone_alone():
    curve = tune(np.empty((0, 4), np.float32), np.array([[True, True, False, True]]), additive_costs(0))
    (point,) = curve.points
    assert (point.thresholds, point.accuracy, point.exit_shares, point.costs) == ((), 0.75, (1.0,), (10.0,))


def test_equal_confidences_split_into_all_or_none():
    correct = np.array([[True, False, False], [True, True, True]])
    curve = tune(np.full((1, 3), 0.5, np.float32), correct, additive_costs(1))
    assert [(p.thresholds, p.costs) for p in curve.points] == [((0.0,), (12.0,)), ((None,), (20.0,))]


def test_an_exit_that_is_off_is_not_paid_for():
    # Nobody should leave at the useless first branch, and then nobody passes it either.
    confidences = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.2, 0.1]], dtype=np.float32)
    correct = np.array([[False] * 4, [True, True, False, False], [True] * 4])
    best = solve(confidences, correct, additive_costs(2), Target(30.0))
    assert best.thresholds[0] is None
    assert best.accuracy == 1.0
    assert best.costs == ((2 * 22 + 2 * 32) / 4,)


def test_long_curves_are_thinned_and_keep_their_ends():
    generator = np.random.default_rng(2)
    confidences = np.sort(generator.random((1, 1000), dtype=np.float32))
    correct = np.stack([np.arange(1000) >= 990, np.ones(1000, bool)])
    curve = tune(confidences, correct, additive_costs(1), grid=1000)
    full = tune(confidences, correct, additive_costs(1), grid=150)
    assert len(curve.points) <= 200
    assert curve.points[0].costs == full.points[0].costs
    assert curve.points[-1].accuracy == full.points[-1].accuracy == 1.0


def test_a_curve_is_sorted_and_answers_its_questions():
    generator = np.random.default_rng(3)
    confidences = generator.random((2, 300), dtype=np.float32)
    correct = generator.random((3, 300)) < np.array([0.3, 0.4, 0.2])[:, None] + 0.6 * np.vstack(
        [confidences, confidences[:1]]
    )
    curve = tune(confidences, correct, additive_costs(2))
    costs = [point.costs[0] for point in curve.points]
    assert len(costs) > 3
    assert costs == sorted(costs)
    for point in curve.points:
        assert curve.best(Target(point.costs[0])) == point
        assert curve.best(Target(point.costs[0], min_accuracy=point.accuracy)) == point
    assert curve.best(Target(costs[0] / 2)) is None
    assert curve.best(Target(costs[-1], min_accuracy=1.0)) is None


@pytest.mark.parametrize(
    ("confidences", "correct"),
    [
        (np.zeros((2, 5)), np.zeros((2, 5), bool)),
        (np.zeros((1, 0)), np.zeros((2, 0), bool)),
        (np.zeros(5), np.zeros((2, 5), bool)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(confidences, correct):
    with pytest.raises(ValueError, match=r"must be \(K, N\)|no samples"):
        tune(confidences, correct, additive_costs(max(len(correct) - 1, 0)))


@pytest.mark.parametrize(
    "cost_of",
    [
        lambda mask: np.ones(2),
        lambda mask: np.ones((1, 3)),
        lambda mask: np.array([[np.nan, 1.0]]),
        lambda mask: np.ones((1 + mask[0], 2)),
    ],
)
def test_costs_that_do_not_fit_are_refused(cost_of):
    with pytest.raises(ValueError, match="cost"):
        tune(np.zeros((1, 3), np.float32), np.ones((2, 3), bool), cost_of)


def test_grids_that_do_not_fit_are_refused():
    arguments = np.zeros((1, 3), np.float32), np.ones((2, 3), bool), additive_costs(1)
    with pytest.raises(ValueError, match="one per branch"):
        tune(*arguments, grids=[])
    with pytest.raises(ValueError, match="not finite"):
        tune(*arguments, grids=[np.array([np.inf])])
    with pytest.raises(ValueError, match="at least 1"):
        tune(*arguments, grid=0)


@given(st.integers(0, 10_000), st.integers(1, 90), st.integers(1, 3), st.sampled_from([1, 4_000_000]))
@settings(max_examples=60, deadline=None)
def test_a_tail_is_the_cost_that_one_sample_in_twenty_may_exceed(seed, samples, branches, max_cells):
    generator = np.random.default_rng(seed)
    confidences = generator.choice(np.float32([0.1, 0.4, 0.6, 0.9]), (branches, samples))
    correct = generator.random((branches + 1, samples)) < 0.7
    cost_of = additive_costs(branches, kinds=2)
    curve = tune(confidences, correct, cost_of, max_cells=max_cells, reduction=Reduction(tails=(1,)))
    for point in curve.points:
        mask = tuple(threshold is not None for threshold in point.thresholds)
        exits = leave_at(confidences, point.thresholds)
        # The smallest cost that at least 95 % of the samples do not exceed.
        tail = np.sort(cost_of(mask)[1, exits])[(19 * samples + 19) // 20 - 1]
        assert point.costs[1] == pytest.approx(tail)
        assert point.costs[0] == pytest.approx(cost_of(mask)[0, exits].mean())
        assert (
            evaluate_thresholds(confidences, correct, cost_of, point.thresholds, reduction=Reduction(tails=(1,)))
            == point
        )


def test_a_curve_over_a_tail_misses_no_point():
    generator = np.random.default_rng(3)
    confidences = generator.choice(np.float32([0.2, 0.5, 0.8]), (2, 50))
    correct = generator.random((3, 50)) < 0.7
    cost_of = additive_costs(2, kinds=2)
    points = []
    for thresholds in itertools.product([*np.float32([0.2, 0.5, 0.8]).tolist(), None], repeat=2):
        point = evaluate_thresholds(confidences, correct, cost_of, thresholds, reduction=Reduction(tails=(0,)))
        points.append((round(point.accuracy * 50), tuple(round(cost * 50) for cost in point.costs)))
    assert as_whole_numbers(tune(confidences, correct, cost_of, reduction=Reduction(tails=(0,))), 50) == front_by_hand(
        points
    )


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 3), st.sampled_from([1, 4_000_000]))
@settings(max_examples=40, deadline=None)
def test_what_the_sample_before_did_not_run_costs_more(seed, samples, branches, max_cells):
    generator, extra = np.random.default_rng(seed), 0.25
    confidences = generator.choice(np.float32([0.1, 0.4, 0.6, 0.9]), (branches, samples))
    correct = generator.random((branches + 1, samples)) < 0.7
    cost_of = additive_costs(branches, kinds=2)
    reduction = Reduction(switching=((1, extra),))
    for point in tune(confidences, correct, cost_of, max_cells=max_cells, reduction=reduction).points:
        mask = tuple(threshold is not None for threshold in point.thresholds)
        exits = leave_at(confidences, point.thresholds)
        on = [*np.flatnonzero(mask), branches]
        costs = cost_of(mask)[1]
        # Every pair of a sample and the one before it, in any order: behind how many exits the second goes alone.
        alone = [sum(before <= exit_ < now for exit_ in on) for before in exits for now in exits]
        assert point.costs[1] == pytest.approx(costs[exits].mean() + extra * np.mean(alone))
        assert point.costs[0] == pytest.approx(cost_of(mask)[0, exits].mean())


def test_a_reduction_follows_the_rows_it_is_for():
    reduction = Reduction(tails=(2,), switching=((1, 0.5), (3, 0.25)))
    assert reduction.of_rows([3, 2]) == Reduction(tails=(1,), switching=((0, 0.25),))
    assert reduction.of_rows([0]) == Reduction()
