"""Tuning on answers against brute force: every mask, every threshold, every sample, in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.errors import InputError
from aebnas.exits import combining
from aebnas.exits.answers import Answers
from aebnas.exits.costs import Reduction
from aebnas.exits.policy import NEVER
from aebnas.exits.tuning import Target, evaluate_answers, solve_answers, tune, tune_answers


def table_costs(seed, branches, kinds):
    """Whole-number exit costs drawn per mask, so that they are not additive; nan where a branch is off."""
    generator = np.random.default_rng(seed)
    table = {}
    for mask in itertools.product((False, True), repeat=branches):
        costs = generator.integers(1, 30, (kinds, branches + 1)).astype(float)
        costs[:, [not on for on in mask] + [False]] = np.nan
        table[mask] = costs
    return table.__getitem__


def patience(labels):
    """(confidence, label) at each exit of one sample: how many in a row agree, of 8."""
    said, run = [], 0
    for place, label in enumerate(labels):
        run = run + 1 if place and label == labels[place - 1] else 1
        said.append((min(run / 8, 1.0), label))
    return said


def ensemble(probabilities):
    """(confidence, label) at each exit of one sample: the geometric mean of what was said so far, normalised."""
    said = []
    for count in range(1, len(probabilities) + 1):
        means = [math.prod(p[c] for p in probabilities[:count]) ** (1 / count) for c in range(len(probabilities[0]))]
        label = means.index(max(means))
        said.append((max(means) / sum(means), label))
    return said


def toy(kind, outputs, mask):
    """(confidences, labels) of the exits that are on, sample by sample; outputs (K+1, N, C) probabilities."""
    exits = [branch for branch, on in enumerate(mask) if on] + [len(mask)]
    rows = []
    for sample in range(outputs.shape[1]):
        own = [outputs[exit_, sample].tolist() for exit_ in exits]
        rows.append(patience([p.index(max(p)) for p in own]) if kind == "patience" else ensemble(own))
    confidences = np.array([[np.float32(row[e][0]) for row in rows] for e in range(len(exits) - 1)], np.float32)
    labels = np.array([[row[e][1] for row in rows] for e in range(len(exits))])
    return confidences.reshape(len(exits) - 1, outputs.shape[1]), labels


def toy_answers(kind, outputs, truth, prefixes=False):
    branches = len(outputs) - 1
    return Answers(truth, branches, lambda mask: toy(kind, outputs, mask), depends=True, prefixes=prefixes)


def drawn(seed, branches, samples, classes=3):
    generator = np.random.default_rng(seed)
    outputs = generator.dirichlet(np.full(classes, 0.7), (branches + 1, samples))
    return outputs, generator.integers(0, classes, samples)


def walk(mask, confidences, labels, thresholds, sample):
    """(exit, label) of one sample."""
    places = [branch for branch, on in enumerate(mask) if on]
    for place, branch in enumerate(places):
        bar, label = thresholds[branch], int(labels[place, sample])
        bar = bar[label] if isinstance(bar, tuple) else bar
        if bar is not None and confidences[place, sample] >= bar:
            return branch, label
    return len(mask), int(labels[-1, sample])


def score_by_hand(answers, cost_of, thresholds):
    """(right predictions, cost sums) of one combination."""
    mask = tuple(threshold is not None for threshold in thresholds)
    (confidences, labels), costs = answers.say(mask), cost_of(mask)
    right, sums = 0, [0] * len(costs)
    for sample in range(len(answers.truth)):
        leave, label = walk(mask, confidences, labels, thresholds, sample)
        right += label == int(answers.truth[sample])
        sums = [total + int(row[leave]) for total, row in zip(sums, costs, strict=True)]
    return right, tuple(sums)


# A threshold that no confidence reaches: the exit runs, and nobody leaves.
ABOVE_ALL = 1.5


def every_score(answers, cost_of, possible):
    """Every threshold that is a confidence of its mask, and one above all, for every mask of ``possible``."""
    for mask in possible:
        confidences, _ = answers.say(mask)
        rows = iter(confidences.tolist())
        values = [[*sorted({c for c in next(rows) if not math.isnan(c)}), ABOVE_ALL] if on else [None] for on in mask]
        for thresholds in itertools.product(*values):
            yield score_by_hand(answers, cost_of, thresholds)


def front_by_hand(scored):
    points = set(scored)

    def beats(one, other):
        return one != other and one[0] >= other[0] and all(a <= b for a, b in zip(one[1], other[1], strict=True))

    return {point for point in points if not any(beats(other, point) for other in points)}


def as_whole_numbers(points, samples):
    return {(round(p.accuracy * samples), tuple(round(c * samples) for c in p.costs)) for p in points}


ALL = {k: list(itertools.product((False, True), repeat=k)) for k in range(4)}
PREFIXES = {k: [tuple(branch < on for branch in range(k)) for on in range(k + 1)] for k in range(4)}


@given(
    st.sampled_from(["patience", "ensemble"]),
    st.booleans(),
    st.integers(0, 10_000),
    st.integers(0, 3),
    st.integers(1, 5),
    st.integers(1, 2),
)
@settings(max_examples=80, deadline=None)
def test_dependent_answers_give_the_front_of_every_mask_and_combination(kind, prefixes, seed, branches, samples, kinds):
    answers = toy_answers(kind, *drawn(seed, branches, samples), prefixes)
    cost_of = table_costs(seed, branches, kinds)
    possible = (PREFIXES if prefixes else ALL)[branches]
    curve = tune_answers(answers, cost_of)
    expected = front_by_hand(every_score(answers, cost_of, possible))
    assert as_whole_numbers(curve.points, samples) == expected
    assert len(curve.points) == len(expected)
    for point in curve.points:
        assert tuple(threshold is not None for threshold in point.thresholds) in possible
        assert evaluate_answers(answers, cost_of, point.thresholds) == point


@given(st.integers(0, 10_000), st.integers(0, 3), st.integers(1, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_independent_answers_give_the_curve_of_their_arrays(seed, branches, samples, prefixes):
    generator = np.random.default_rng(seed)
    confidences = generator.choice(np.float32([0.1, 0.4, 0.7, np.nan]), (branches, samples))
    labels, truth = generator.integers(0, 3, (branches + 1, samples)), generator.integers(0, 3, samples)
    cost_of = table_costs(seed, branches, 2)
    answers = Answers.independent(confidences, labels, truth, prefixes=prefixes)
    curve = tune_answers(answers, cost_of, reduction=Reduction(tails=(1,)))
    if prefixes:
        assert {tuple(t is not None for t in p.thresholds) for p in curve.points} <= set(PREFIXES[branches])
    else:
        assert curve == tune(confidences, labels == truth, cost_of, reduction=Reduction(tails=(1,)))
    for point in curve.points:
        assert evaluate_answers(answers, cost_of, point.thresholds, reduction=Reduction(tails=(1,))) == point


def test_prefix_masks_of_independent_exits_against_brute_force():
    generator = np.random.default_rng(4)
    confidences, truth = generator.choice(np.float32([0.1, 0.4, 0.7, np.nan]), (3, 9)), generator.integers(0, 2, 9)
    labels = generator.integers(0, 2, (4, 9))
    answers = Answers.independent(confidences, labels, truth, prefixes=True)
    cost_of = table_costs(4, 3, 1)
    expected = front_by_hand(every_score(answers, cost_of, PREFIXES[3]))
    assert as_whole_numbers(tune_answers(answers, cost_of).points, 9) == expected


@pytest.mark.parametrize("kind", ["patience", "ensemble"])
@pytest.mark.parametrize("rule", ["at-most", "two-sided"])
def test_solve_finds_the_best_of_every_mask_and_combination(kind, rule):
    for seed in range(12):
        answers, cost_of = toy_answers(kind, *drawn(seed, 2, 6)), table_costs(seed, 2, 1)
        target = Target(9.0, rule=rule)
        scored = list(every_score(answers, cost_of, ALL[2]))
        accuracy, costs = np.array([s[0] for s in scored]) / 6, np.array([s[1] for s in scored]).T / 6
        point, best = solve_answers(answers, cost_of, target), target.scores(accuracy, costs).max()
        if point is None:
            assert best == -np.inf
        else:
            own = target.scores(np.array([point.accuracy]), np.array([point.costs]).T)
            assert own[0] == pytest.approx(best)
            assert evaluate_answers(answers, cost_of, point.thresholds) == point


@pytest.mark.parametrize("prefixes", [False, True])
def test_descents_stay_in_their_masks_and_come_near(prefixes):
    answers, cost_of = toy_answers("ensemble", *drawn(2, 3, 60), prefixes), table_costs(2, 3, 2)
    exact = tune_answers(answers, cost_of, grid=60, max_cells=10**7)
    assert len(exact.points) < 150  # not thinned
    found = tune_answers(answers, cost_of, grid=60, max_cells=1)
    for point in found.points:
        assert evaluate_answers(answers, cost_of, point.thresholds) == point
        assert tuple(t is not None for t in point.thresholds) in answers.masks()

    def area(curve):
        return np.mean([max((p.accuracy for p in curve.points if p.costs[0] <= b), default=0) for b in range(1, 31)])

    assert 0.97 * area(exact) <= area(found) <= area(exact)


def test_many_masks_are_thinned_evenly(monkeypatch):
    asked = []
    answers = toy_answers("patience", *drawn(0, 3, 8))
    spy = Answers(answers.truth, 3, lambda mask: asked.append(mask) or answers.say(mask), depends=True)
    monkeypatch.setattr(combining, "MAX_MASKS", 4)
    curve = tune_answers(spy, table_costs(0, 3, 1))
    masks = answers.masks()
    assert asked[0] == masks[0]
    assert set(asked) == {masks[0], masks[2], masks[5], masks[7]}
    assert len(curve.points) > 0
    monkeypatch.setattr(combining, "MAX_DESCENTS", 2)
    asked.clear()
    tune_answers(spy, table_costs(0, 3, 1), max_cells=1)
    # Looked at once to see that they are too large, and then searched: the smallest and the largest of these.
    assert sorted(mask for mask in set(asked) if asked.count(mask) == 2) == sorted([masks[2], masks[7]])


@pytest.mark.parametrize("max_cells", [1, 100])
def test_a_branch_that_is_never_sure_is_not_taken_for_one_that_is_off(max_cells):
    def say(mask):
        # With the branch on, the final exit is right of all; without, of none.
        said = np.zeros((sum(mask) + 1, 4), np.int64)
        said[-1] = any(mask)
        return np.full((sum(mask), 4), np.nan, np.float32), said

    answers = Answers(np.ones(4, np.int64), 1, say, depends=True)
    curve = tune_answers(answers, additive_costs(1), max_cells=max_cells)
    found = [(point.thresholds, point.accuracy, point.costs) for point in curve.points]
    # What it costs to run it counts.
    assert found == [((None,), 0.0, (20.0,)), ((NEVER,), 1.0, (21.0,))]
    for point in curve.points:
        assert evaluate_answers(answers, additive_costs(1), point.thresholds) == point


def additive_costs(branches):
    """Ten to every next exit, and one for every exit that runs on the way."""

    def cost_of(mask):
        return (10.0 * np.arange(1, branches + 2) + np.cumsum([*mask, False]))[None]

    return cost_of


def learned(seed, branches, samples=400, classes=5):
    """Outputs (K+1, N, C) of exits that are the better the later they are, and the truth (N,)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, samples)
    logits = generator.normal(size=(branches + 1, samples, classes))
    logits[:, np.arange(samples), truth] += np.linspace(1.0, 2.5, branches + 1)[:, None]
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), truth


def covered(point, points):
    return any(own.accuracy >= point.accuracy and own.costs[0] <= point.costs[0] for own in points)


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("max_cells", [1, 100_000])
def test_patience_leaves_when_exits_agree(prefixes, max_cells):
    answers, cost_of = toy_answers("patience", *learned(0, 4), prefixes), additive_costs(4)
    curve = tune_answers(answers, cost_of, max_cells=max_cells)
    # Two in a row, three in a row: nobody leaves at the first exit, which is needed all the same.
    for bar in (1.5 / 8, 2.5 / 8):
        assert covered(evaluate_answers(answers, cost_of, (bar,) * 4), curve.points)
    static = [evaluate_answers(answers, cost_of, (None,) * 4)]
    for mask in answers.masks()[1:]:
        last = max(branch for branch, on in enumerate(mask) if on)
        policy = tuple((0.0 if branch == last else ABOVE_ALL) if on else None for branch, on in enumerate(mask))
        static.append(evaluate_answers(answers, cost_of, policy))
    assert all(covered(point, curve.points) for point in static)
    better = [point for point in curve.points if not covered(point, static)]
    assert len(better) >= 4 and all(0 < max(point.exit_shares) < 1 for point in better)


def test_nobody_need_leave_at_an_exit_of_a_cascade_that_is_always_sure():
    # The first branch is sure of everything and mostly wrong; the second, which hears it, is right.
    truth = np.arange(10) % 2
    labels = np.stack([truth * 0, truth, truth * 0])
    answers = Answers.independent(np.ones((2, 10)), labels, truth, prefixes=True)
    best = tune_answers(answers, additive_costs(2)).points[-1]
    assert (best.thresholds, best.accuracy, best.costs) == ((NEVER, 0.0), 1.0, (22.0,))


def test_what_cannot_be_tuned_is_refused():
    answers, cost_of = toy_answers("patience", *drawn(0, 2, 4), prefixes=True), table_costs(0, 2, 1)
    with pytest.raises(InputError, match="use per-exit or per-class"):
        tune_answers(answers, cost_of, rule="per-sample")
    with pytest.raises(InputError, match="behind one that is off"):
        evaluate_answers(answers, cost_of, (None, 0.5))
    with pytest.raises(ValueError, match="3 thresholds for 2 branches"):
        evaluate_answers(answers, cost_of, (None, 0.5, 0.5))
    with pytest.raises(ValueError, match="no samples"):
        tune_answers(Answers.independent(np.empty((1, 0)), np.empty((2, 0)), np.empty(0)), table_costs(0, 1, 1))
    lame = Answers(np.zeros(3, np.int64), 1, lambda mask: (np.zeros((1, 3)), np.zeros((2, 2))), depends=True)
    with pytest.raises(ValueError, match="3 samples have"):
        tune_answers(lame, table_costs(0, 1, 1))
