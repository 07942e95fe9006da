"""Tuning by balanced accuracy: against brute force in fractions, and against plain tuning where classes are equal."""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits import histogram
from aebnas.exits.accuracy import sample_weights
from aebnas.exits.answers import Answers
from aebnas.exits.curve import Target
from aebnas.exits.grids import quantile_grid
from aebnas.exits.policy import NEVER, leave_at
from aebnas.exits.tuning import evaluate_answers, evaluate_thresholds, solve, solve_answers, tune, tune_answers

LEVELS = np.float32([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, np.nan])


def costs_per_mask(seed, branches):
    """Whole-number exit costs drawn per mask; nan where a branch is off."""
    generator, table = np.random.default_rng(seed), {}
    for mask in itertools.product((False, True), repeat=branches):
        costs = generator.integers(1, 30, (1, branches + 1)).astype(float)
        costs[:, [not on for on in mask] + [False]] = np.nan
        table[mask] = costs
    return table.__getitem__


def by_hand(confidences, labels, truth, costs, thresholds):
    """Balanced accuracy in fractions and the cost sum, sample by sample."""
    hits, sizes, spent = {}, {}, 0
    for sample, true in enumerate(truth.tolist()):
        leave = len(thresholds)
        for branch, bar in enumerate(thresholds):
            if isinstance(bar, tuple):
                bar = bar[int(labels[branch, sample])]
                if bar is None:
                    continue
            if bar is not None and confidences[branch, sample] >= bar:
                leave = branch
                break
        sizes[true] = sizes.get(true, 0) + 1
        hits[true] = hits.get(true, 0) + int(labels[leave, sample] == true)
        spent += int(costs[0, leave])
    return sum(Fraction(hits[c], sizes[c]) for c in sizes) / len(sizes), spent


def front_by_hand(points):
    best = {}
    for accuracy, cost in points:
        best[cost] = max(best.get(cost, Fraction(0)), accuracy)
    found, reached = set(), Fraction(-1)
    for cost in sorted(best):
        if best[cost] > reached:
            reached = best[cost]
            found.add((reached, cost))
    return found


def as_fractions(curve, samples):
    """Sizes of these problems are small: a float tells its fraction."""
    return {
        (Fraction(point.accuracy).limit_denominator(100_000), round(point.costs[0] * samples)) for point in curve.points
    }


@st.composite
def problems(draw, branches=(0, 3), samples=(1, 8), classes=3):
    count, number = draw(st.integers(*samples)), draw(st.integers(*branches))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    confidences = generator.choice(LEVELS, (number, count))
    truth = generator.choice(classes, count, p=[0.7, 0.2, 0.1])
    labels = np.where(generator.random((number + 1, count)) < 0.6, truth, generator.integers(0, classes, count))
    return confidences, labels, truth, costs_per_mask(draw(st.integers(0, 10_000)), number)


@given(problems(), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_the_curve_is_the_front_of_every_combination(problem, grid):
    confidences, labels, truth, cost_of = problem
    grids = [[*quantile_grid(one, grid).tolist(), None] for one in confidences]
    points = []
    for thresholds in itertools.product(*grids):
        mask = tuple(bar is not None for bar in thresholds)
        points.append(by_hand(confidences, labels, truth, cost_of(mask), thresholds))
    answers = Answers.independent(confidences, labels, truth, classes=3, accuracy="balanced")
    curve = tune_answers(answers, cost_of, grid=grid)
    assert as_fractions(curve, len(truth)) == front_by_hand(points)
    for point in curve.points:
        assert evaluate_answers(answers, cost_of, point.thresholds) == point
        # Shares are those of the samples as they come.
        leaving = np.bincount(leave_at(confidences, point.thresholds), minlength=len(labels))
        assert point.exit_shares == tuple((leaving / len(truth)).tolist())


@given(problems(branches=(1, 3)), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_a_search_mask_by_mask_misses_nothing_either(problem, kind):
    """Exits that say other things beside others, or need those before them: every combination of every mask."""
    confidences, labels, truth, cost_of = problem

    @cache
    def say(mask):
        # What is said depends on how many are on before.
        on = np.flatnonzero(mask)
        shift = np.arange(len(on))[:, None] if kind else 0
        return confidences[on], np.vstack([(labels[on] + shift) % 3, labels[-1:]])

    answers = Answers(
        truth, len(confidences), say, depends=kind > 0, prefixes=kind != 1, classes=3, accuracy="balanced"
    )
    points = []
    for mask in answers.masks():
        sure, said = answers.whole(mask)
        grids = [[*quantile_grid(one, 2).tolist(), NEVER] if on else [None] for one, on in zip(sure, mask, strict=True)]
        costs = cost_of(mask)
        points += [by_hand(sure, said, truth, costs, thresholds) for thresholds in itertools.product(*grids)]
    assert as_fractions(tune_answers(answers, cost_of, grid=2), len(truth)) == front_by_hand(points)


@given(problems(branches=(1, 2), samples=(3, 40)), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_thresholds_per_class_are_told_by_what_they_do(problem, steps):
    confidences, labels, truth, cost_of = problem
    answers = Answers.independent(confidences, labels, truth, classes=3, accuracy="balanced")
    curve = tune_answers(answers, cost_of, rule="per-class", grid=steps)
    assert curve.points
    for point in curve.points:
        mask = tuple(bar is not None for bar in point.thresholds)
        accuracy, cost = by_hand(confidences, labels, truth, cost_of(mask), point.thresholds)
        assert point.accuracy == pytest.approx(float(accuracy), abs=1e-12)
        assert point.costs[0] == pytest.approx(cost / len(truth))


@given(problems(branches=(1, 2)), st.integers(8, 240).map(lambda eighths: eighths / 8))
@settings(max_examples=80, deadline=None)
def test_the_best_for_a_target_is_the_best_of_every_split(problem, wish):
    confidences, labels, truth, cost_of = problem
    samples = len(truth)
    grids = [[*quantile_grid(one, samples).tolist(), None] for one in confidences]
    allowed = []
    for thresholds in itertools.product(*grids):
        mask = tuple(bar is not None for bar in thresholds)
        accuracy, cost = by_hand(confidences, labels, truth, cost_of(mask), thresholds)
        allowed += [accuracy] if cost / samples <= wish else []
    answers = Answers.independent(confidences, labels, truth, classes=3, accuracy="balanced")
    found = solve_answers(answers, cost_of, Target(wish), grid=samples)
    assert (found is None) == (not allowed)
    if found is not None:
        assert found.accuracy == pytest.approx(float(max(allowed)), abs=1e-12)


def balanced_problem(seed, branches, per_class, classes=3):
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.repeat(np.arange(classes), per_class))
    confidences = generator.choice(LEVELS, (branches, len(truth)))
    labels = np.where(
        generator.random((branches + 1, len(truth))) < 0.6, truth, generator.integers(0, classes, len(truth))
    )
    return confidences, labels, truth, costs_per_mask(seed, branches)


@given(
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.integers(1, 15),
    st.sampled_from(["per-exit", "per-class"]),
    st.sampled_from([1, 4_000_000]),
)
@settings(max_examples=120, deadline=None)
def test_where_classes_are_equal_nothing_changes(seed, branches, per_class, rule, max_cells):
    confidences, labels, truth, cost_of = balanced_problem(seed, branches, per_class)
    plain, balanced = (
        Answers.independent(confidences, labels, truth, classes=3, accuracy=kind) for kind in ("plain", "balanced")
    )
    options = {"rule": rule, "grid": 4, "max_cells": max_cells}
    curve = tune_answers(plain, cost_of, **options)
    assert tune_answers(balanced, cost_of, **options) == curve
    target = Target(15.0, rule="two-sided")
    assert solve_answers(balanced, cost_of, target, **options) == solve_answers(plain, cost_of, target, **options)


@given(st.integers(0, 10_000), st.integers(1, 10**12))
@settings(max_examples=50, deadline=None)
def test_only_the_ratio_of_weights_counts(seed, scale):
    """Large weights take another way through the histogram, of 64 bits."""
    generator = np.random.default_rng(seed)
    confidences, correct = generator.random((2, 30), dtype=np.float32), generator.random((3, 30)) < 0.6
    weights = generator.integers(1, 5, 30)
    cost_of = costs_per_mask(seed, 2)
    for max_cells in (1, 4_000_000):
        small = tune(confidences, correct, cost_of, grid=5, max_cells=max_cells, weights=weights)
        large = tune(confidences, correct, cost_of, grid=5, max_cells=max_cells, weights=scale * weights)
        assert large == small
        for point in small.points:
            assert evaluate_thresholds(confidences, correct, cost_of, point.thresholds, weights=weights) == point


def test_with_one_branch_the_descent_is_exact():
    generator = np.random.default_rng(0)
    truth = generator.choice(4, 150, p=[0.7, 0.2, 0.07, 0.03])
    weights = sample_weights(truth, "balanced")
    confidences, correct = generator.random((1, 150), dtype=np.float32), generator.random((2, 150)) < 0.6
    options = {"grid": 300, "weights": weights}
    exact = tune(confidences, correct, costs_per_mask(1, 1), **options)
    assert len(exact.points) > 1
    assert tune(confidences, correct, costs_per_mask(1, 1), **options, max_cells=1) == exact
    target = Target(exact.points[-1].costs[0])
    assert solve(confidences, correct, costs_per_mask(1, 1), target, **options) == exact.points[-1]


def test_blocks_do_not_change_a_weighted_curve(monkeypatch):
    generator = np.random.default_rng(1)
    confidences, correct = generator.random((3, 60), dtype=np.float32), generator.random((4, 60)) < 0.7
    options = {"grid": 6, "weights": sample_weights(generator.choice(3, 60, p=[0.8, 0.15, 0.05]), "balanced")}
    whole = tune(confidences, correct, costs_per_mask(2, 3), **options)
    monkeypatch.setattr(histogram, "_BLOCK_CELLS", 5)
    assert tune(confidences, correct, costs_per_mask(2, 3), **options) == whole


def test_a_rare_class_is_minded():
    """The branch is wrong about the rare class and sure of it: plain tuning hardly notices, balanced tuning does."""
    truth = np.array([0] * 98 + [1] * 2)
    confidences = np.linspace(0.5, 1, 100, dtype=np.float32)[None]
    labels = np.stack([np.zeros(100, int), truth])

    def cost_of(mask):
        return np.array([[1.0, 10.0]])

    curves = {
        kind: tune_answers(Answers.independent(confidences, labels, truth, classes=2, accuracy=kind), cost_of)
        for kind in ("plain", "balanced")
    }
    cheapest = {kind: curve.points[0].accuracy for kind, curve in curves.items()}
    assert cheapest == {"plain": 0.98, "balanced": 0.5}
    # Giving away 3 points: plain tuning lets all leave early, balanced tuning none of the rare class.
    chosen = {
        kind: min((p for p in curve.points if p.accuracy >= 0.97), key=lambda p: p.costs[0])
        for kind, curve in curves.items()
    }
    assert chosen["plain"].exit_shares == (1.0, 0.0)
    assert chosen["balanced"].accuracy == 1.0


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one per sample"):
        tune(np.zeros((1, 3), np.float32), np.ones((2, 3), bool), costs_per_mask(0, 1), weights=np.ones(2, int))
