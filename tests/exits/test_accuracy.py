"""Balanced accuracy against the mean of recalls, counted class by class."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits.accuracy import absent_classes, accuracy_of, largest_deviation, recalls, sample_weights


def mean_recall(right, truth):
    """In fractions, class by class."""
    classes = sorted(set(truth.tolist()))
    found = [Fraction(int(right[truth == c].sum()), int((truth == c).sum())) for c in classes]
    return sum(found) / len(found)


@st.composite
def answers(draw, most=60, classes=6):
    truth = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=most)))
    right = np.array(draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth))))
    return right, truth


@given(answers())
@settings(max_examples=200, deadline=None)
def test_balanced_accuracy_is_the_mean_of_the_recalls(problem):
    right, truth = problem
    exact = mean_recall(right, truth)
    assert accuracy_of(right, truth, "balanced") == float(exact)
    assert accuracy_of(right, truth, "plain") == right.mean()
    shares = recalls(right, truth, 8)
    assert np.nanmean(shares) == pytest.approx(float(exact))
    assert absent_classes(truth, 8) == np.flatnonzero(np.isnan(shares)).tolist()


@given(answers())
@settings(max_examples=100, deadline=None)
def test_every_class_weighs_the_same(problem):
    _, truth = problem
    weights = sample_weights(truth, "balanced")
    totals = {int(weights[truth == c].sum()) for c in set(truth.tolist())}
    assert len(totals) == 1
    assert sample_weights(truth, "plain") is None


@given(st.integers(1, 50), st.integers(1, 9))
def test_in_a_balanced_set_every_sample_counts_one(size, classes):
    assert (sample_weights(np.repeat(np.arange(classes), size), "balanced") == 1).all()


def test_where_no_common_multiple_is_small_enough_weights_are_nearly_right():
    """A thousand classes of sizes 1 to 1000: their least common multiple has hundreds of digits."""
    truth = np.repeat(np.arange(1000), np.arange(1, 1001))
    weights = sample_weights(truth, "balanced")
    # All sums are whole numbers in float64.
    assert weights.min() > 0 and int(weights.sum()) < 2**53
    right = np.random.default_rng(0).random(len(truth)) < np.where(truth < 500, 0.9, 0.3)
    assert accuracy_of(right, truth, "balanced") == pytest.approx(float(mean_recall(right, truth)), abs=1e-9)
    assert accuracy_of(right, truth, "balanced") == int(weights[right].sum()) / int(weights.sum())


def test_what_is_right_about_nothing_has_no_accuracy():
    with pytest.raises(ValueError, match="no samples"):
        accuracy_of(np.zeros(0, bool), np.zeros(0, int), "balanced")


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_of_classes_of_one_size_the_deviation_is_that_of_a_plain_accuracy(accuracy, size, classes):
    expected = math.sqrt(accuracy * (1 - accuracy) / (size * classes))
    # Near 0 and 1 the last digit of a recall is the root of it in the deviation.
    assert largest_deviation(accuracy, [size] * classes) == pytest.approx(expected, rel=1e-6, abs=2e-8)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_no_recalls_of_that_mean_have_a_larger_deviation(counts, seed):
    sizes, generator = np.array(counts), np.random.default_rng(seed)
    for _ in range(20):
        found = generator.beta(*generator.uniform(0.2, 3, 2), len(sizes))
        deviation = math.sqrt((found * (1 - found) / sizes).sum()) / len(sizes)
        assert deviation <= largest_deviation(float(found.mean()), sizes) * (1 + 1e-6) + 1e-9


def test_the_largest_deviation_is_one_that_can_be_had():
    """Two classes: all pairs of recalls with the mean, on a fine grid."""
    for mean in (0.05, 0.4, 0.7, 0.95):
        first = np.linspace(max(0, 2 * mean - 1), min(1, 2 * mean), 20001)
        second = 2 * mean - first
        every = np.sqrt(first * (1 - first) / 1000 + second * (1 - second) / 20) / 2
        assert largest_deviation(mean, [1000, 20]) == pytest.approx(every.max(), rel=1e-4)


def test_classes_without_samples_do_not_count_in_a_deviation():
    assert largest_deviation(0.8, [50, 0, 20, 0]) == largest_deviation(0.8, [50, 20])


def test_the_deviation_bounds_what_draws_of_a_split_show():
    generator, sizes, chances = np.random.default_rng(3), np.array([2000, 2000, 40]), np.array([0.95, 0.9, 0.5])
    drawn = (generator.binomial(sizes, chances, (4000, 3)) / sizes).mean(axis=1)
    bound = largest_deviation(float(chances.mean()), sizes)
    assert 0.8 * bound < drawn.std() <= bound * 1.02
