"""Class thresholds against trying every threshold of every class in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.exits.class_precision import ClassRanking, class_precisions, class_thresholds

LEVELS = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, float("nan")]


def leave_by_hand(confidence, predicted, truth, floors, min_samples, alive):
    """Indices that leave: per class, the largest set of its surest samples that keeps the floor."""
    gone = set()
    for class_, floor in enumerate(floors):
        own = [i for i in range(len(confidence)) if predicted[i] == class_ and alive[i]]
        best = []
        for bar in sorted({float(confidence[i]) for i in own if confidence[i] == confidence[i]}):
            leaving = [i for i in own if confidence[i] >= bar]
            right = sum(bool(predicted[i] == truth[i]) for i in leaving)
            if len(leaving) >= min_samples and right / len(leaving) >= floor and len(leaving) > len(best):
                best = leaving
        gone |= set(best)
    return gone


@st.composite
def exits(draw):
    samples, classes = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    confidence = draw(st.lists(st.sampled_from(LEVELS), min_size=samples, max_size=samples))
    labels = st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples)
    floors = draw(st.lists(st.sampled_from([0.0, 0.5, 2 / 3, 0.75, 1.0, 1.2]), min_size=classes, max_size=classes))
    alive = draw(st.lists(st.booleans(), min_size=samples, max_size=samples))
    arrays = np.array(confidence, np.float32), np.array(draw(labels)), np.array(draw(labels))
    return *arrays, np.array(floors), np.array(alive)


@given(exits(), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_class_thresholds_are_those_of_brute_force(problem, min_samples):
    confidence, predicted, truth, floors, alive = problem
    everyone = np.ones(len(alive), bool)
    found = class_thresholds(confidence, predicted, truth, floors, min_samples=min_samples)
    leaving = set(np.flatnonzero(confidence >= found[predicted]).tolist())
    assert leaving == leave_by_hand(confidence, predicted, truth, floors, min_samples, everyone)
    # The same, of the samples that are still there.
    ranking = ClassRanking(confidence, predicted, truth, len(floors))
    found = ranking.thresholds(floors, alive, min_samples=min_samples)
    leaving = set(np.flatnonzero((confidence >= found[predicted]) & alive).tolist())
    assert leaving == leave_by_hand(confidence, predicted, truth, floors, min_samples, alive)


@given(exits(), st.integers(1, 4), st.sampled_from([-0.3, 0.0, 0.1, 0.3, 0.6, 1.0]))
@settings(max_examples=200, deadline=None)
def test_a_sample_leaves_from_its_margin_on(problem, min_samples, margin):
    confidence, predicted, truth, floors, _ = problem
    precisions = np.minimum(floors, 1.0)  # 0 among them: all that can leave do, at every margin
    ranking = ClassRanking(confidence, predicted, truth, len(floors))
    needed = ranking.margins(precisions, min_samples=min_samples)
    # Margins that coincide but for rounding may fall to either side.
    clear = np.abs(needed - margin) > 1e-9
    found = ranking.thresholds((1 - margin) * precisions, min_samples=min_samples)
    assert ((confidence >= found[predicted]) == (needed <= margin))[clear].all()


def test_precisions_by_hand():
    predicted, truth = np.array([0, 0, 0, 1, 3, 3]), np.array([0, 1, 0, 0, 3, 3])
    found = class_precisions(predicted, truth, 5)
    assert found.dtype == np.float64
    assert found.tolist() == [2 / 3, 0.0, 1.0, 1.0, 1.0]
    assert class_precisions(predicted[:0], truth[:0], 2).tolist() == [1.0, 1.0]


def test_a_class_that_just_reaches_its_own_precision_leaves():
    for samples in range(1, 60):
        zeros = np.zeros(samples, np.int64)
        for right in range(samples + 1):
            truth = (np.arange(samples) >= right).astype(np.int64)
            floors = class_precisions(zeros, truth, 2)
            # All are equally sure, so that all leave together.
            found = class_thresholds(np.ones(samples, np.float32), zeros, truth, floors, min_samples=1)
            assert found.tolist() == [0.0, np.inf]


def test_fewer_than_30_samples_let_no_class_leave():
    for samples, leaves in ((29, False), (30, True)):
        zeros = np.zeros(samples, np.int64)
        (found,) = class_thresholds(np.full(samples, 0.9, np.float32), zeros, zeros, np.array([0.5]))
        assert np.isfinite(found) == leaves


def test_equal_confidences_are_not_split():
    # The surest two of class 0 are equal, one right and one wrong: together they miss the bar of 0.9.
    sure, predicted = np.float32([0.9, 0.9, 0.5]), np.array([0, 0, 0])
    assert class_thresholds(sure, predicted, np.array([0, 1, 0]), np.array([0.9]), min_samples=1)[0] == np.inf
    assert class_thresholds(sure, predicted, np.array([0, 0, 1]), np.array([0.9]), min_samples=1)[0] == np.float32(0.7)


def test_thresholds_keep_clear_of_confidences_of_their_class():
    sure, predicted = np.float32([0.8, 0.4, 0.6]), np.array([1, 1, 0])
    found = class_thresholds(sure, predicted, np.array([1, 0, 0]), np.ones(3), min_samples=1)
    # Class 1 leaves between its own neighbours, class 0 wholly, class 2 never: nobody was predicted so.
    assert found.tolist() == [0.0, float(np.float32(0.6)), np.inf]


def test_a_floor_that_is_not_a_number_is_never_reached():
    zeros = np.zeros(4, np.int64)
    assert class_thresholds(np.ones(4, np.float32), zeros, zeros, np.array([np.nan]), min_samples=1).tolist() == [
        np.inf
    ]


def test_neighbouring_floats_are_still_told_apart():
    high = np.nextafter(np.float32(0.5), np.float32(1))
    sure = np.array([high, 0.5], dtype=np.float32)
    found = class_thresholds(sure, np.zeros(2, np.int64), np.array([0, 1]), np.ones(2), min_samples=1)
    assert found[0] == high


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([-1, 0]), np.array([0])])
def test_arrays_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match=r"between 0 and 1|must all be \(N,\)"):
        class_thresholds(np.ones(2, np.float32), labels, np.array([0, 1]), np.ones(2))
