from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.errors import InputError
from aebnas.exits.policy import (
    NEVER,
    Policy,
    behind_a_gap,
    check_classes,
    leave_at,
    lets_all_leave,
    mask_of_thresholds,
    thresholds_from_json,
)
from aebnas.exits.tuning import Target


def test_leaves_at_the_first_exit_that_is_sure_enough():
    confidences = np.array([[0.9, 0.1, 0.5, np.nan], [0.9, 0.9, 0.9, 0.2]], dtype=np.float32)
    assert leave_at(confidences, (0.5, 0.9)).tolist() == [0, 1, 0, 2]
    assert leave_at(confidences, (None, 0.9)).tolist() == [1, 1, 1, 2]
    assert Policy("margin", (None, None)).leave_at(confidences).tolist() == [2, 2, 2, 2]


def test_thresholds_are_compared_in_float32():
    # 0.1 in float64 lies below float32(0.1); a float32 confidence of "0.1" leaves all the same, and vice versa for 0.3.
    for value in (0.1, 0.3, 0.7):
        confidences = np.array([[value]], dtype=np.float32)
        assert leave_at(confidences, (value,)).tolist() == [0]
        assert Policy("margin", (value,)).thresholds == (float(np.float32(value)),)


def test_no_branches():
    assert leave_at(np.empty((0, 3)), ()).tolist() == [0, 0, 0]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 3.5e38, -3.5e38, 10**400])
def test_thresholds_must_be_finite(threshold):
    with pytest.raises(InputError, match="finite"):
        Policy("margin", (threshold,))


def test_one_row_per_threshold():
    with pytest.raises(ValueError, match="2 branches"):
        leave_at(np.zeros((3, 4)), (0.1, 0.2))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"cost": 0.0}, "above 0"),
        ({"cost": float("nan")}, "above 0"),
        ({"cost": 1.0, "rule": "below"}, "at-most"),
        ({"cost": 1.0, "cost_index": -1}, "cost_index"),
        ({"cost": 1.0, "min_accuracy": 90.0}, "min_accuracy"),
    ],
)
def test_targets_out_of_range_are_refused(values, word):
    with pytest.raises(InputError, match=word):
        Target(**values)


def test_a_target_needs_its_cost():
    with pytest.raises(ValueError, match="only 1 costs"):
        Target(1.0, cost_index=1).scores(np.array([0.5]), np.array([[1.0]]))


def test_the_two_sided_score_is_the_papers():
    # 90 % at half the wished cost: 90 - 0.1 * 100 * 0.5.
    assert Target(10.0, rule="two-sided").scores(np.array([0.9]), np.array([[5.0]])).tolist() == [85.0]


def test_a_limit_that_a_cost_just_equals_is_met():
    assert Target(0.1 + 0.2).choose(np.array([0.5]), np.array([[0.3]])) == 0
    assert Target(0.3).choose(np.array([0.5]), np.array([[0.1 + 0.2]])) == 0


def test_of_equals_the_cheaper_is_chosen():
    assert Target(9.0).choose(np.array([0.5, 0.5, 0.4]), np.array([[3.0, 2.0, 1.0]])) == 1


def leave_by_hand(confidences, labels, thresholds):
    exits = []
    for sample in range(confidences.shape[1]):
        leave = len(thresholds)
        for branch, threshold in enumerate(thresholds):
            if isinstance(threshold, tuple):
                threshold = threshold[labels[branch, sample]]
            if threshold is not None and confidences[branch, sample] >= threshold:
                leave = branch
                break
        exits.append(leave)
    return exits


LEVEL = st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(
    st.integers(1, 4).flatmap(
        lambda classes: st.lists(st.none() | LEVEL | st.tuples(*[st.none() | LEVEL] * classes), max_size=4).map(
            lambda thresholds: (classes, tuple(thresholds))
        )
    ),
    st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_classes_leave_at_their_own_thresholds(drawn, seed):
    (classes, thresholds), generator = drawn, np.random.default_rng(seed)
    shape = (len(thresholds), 12)
    confidences = generator.choice(np.float32([0.0, 0.25, 0.3, 0.5, 1.0, np.nan]), shape)
    labels = generator.integers(0, classes, shape)
    expected = leave_by_hand(confidences, labels, thresholds)
    assert leave_at(confidences, thresholds, labels).tolist() == expected
    policy = Policy("margin", thresholds)
    assert policy.leave_at(confidences, labels).tolist() == expected
    assert thresholds_from_json(json.loads(json.dumps(policy.thresholds))) == policy.thresholds == thresholds


def test_rows_of_exits_that_are_off_are_ignored():
    confidences, labels = np.array([[np.nan, np.nan], [0.9, 0.9]]), np.array([[-1, 99], [0, 1]])
    assert leave_at(confidences, (None, (0.5, None)), labels).tolist() == [1, 2]


def test_class_thresholds_are_rounded_to_float32():
    assert Policy("margin", ((0.1, None),)).thresholds == ((float(np.float32(0.1)), None),)


def test_class_thresholds_need_labels_of_their_classes():
    with pytest.raises(ValueError, match="need the labels"):
        leave_at(np.ones((1, 2)), ((0.5, 0.5),))
    for label in (2, -1):
        with pytest.raises(ValueError, match="there are 2 thresholds"):
            leave_at(np.ones((1, 2)), ((0.5, 0.5),), np.array([[0, label]]))
    with pytest.raises(ValueError, match="labels must be"):
        leave_at(np.ones((1, 2)), (0.5,), np.zeros((2, 2), int))


@pytest.mark.parametrize("thresholds", [((0.5,), (0.5, 0.5)), ((),)])
def test_every_exit_has_one_threshold_per_class(thresholds):
    with pytest.raises(InputError, match="one entry per class"):
        Policy("margin", thresholds)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("0.5", "one entry per exit"),
        (None, "one entry per exit"),
        ({"0": 0.5}, "one entry per exit"),
        (["high"], "must be a number"),
        ([True], "must be a number"),
        ([[0.5, [0.5]]], "must be a number"),
        ([float("nan")], "finite"),
        ([[float("inf")]], "finite"),
        ([10**400], "finite in float32, .* not inf$"),
        ([[None, -(10**5000)]], "finite in float32, .* not -inf$"),
        ([1e39], r"finite in float32, .* not 1e\+39$"),
        ([[0.5], [0.5, 0.5]], "one entry per class"),
    ],
)
def test_thresholds_that_json_must_not_hold_are_refused(value, word):
    with pytest.raises(InputError, match=word):
        thresholds_from_json(value)


def test_at_an_exit_that_is_on_nobody_need_leave():
    confidences, labels = np.float32([[1.0, 0.0], [1.0, 0.0]]), np.array([[0, 1], [1, 0]])
    policy = Policy("margin", (NEVER, (None, None)))
    assert policy.thresholds[0] == NEVER == np.float32(NEVER)
    assert mask_of_thresholds(policy.thresholds) == (True, True)
    assert policy.leave_at(confidences, labels).tolist() == [2, 2]
    assert thresholds_from_json(json.loads(json.dumps(policy.thresholds))) == policy.thresholds
    assert not any(map(lets_all_leave, policy.thresholds))


@pytest.mark.parametrize(
    ("threshold", "all_leave"),
    [(0.0, True), (-1.0, True), (1e-9, False), (None, False), ((0.0, -1.0), True), ((0.0, None), False)],
)
def test_at_a_threshold_of_at_most_0_all_leave(threshold, all_leave):
    assert lets_all_leave(threshold) == all_leave


@given(st.lists(st.booleans(), max_size=6))
def test_a_gap_is_a_branch_that_is_off_before_one_that_is_on(mask):
    by_hand = [branch for branch in range(len(mask)) if mask[branch] and not all(mask[:branch])]
    assert behind_a_gap(mask) == (by_hand[0] if by_hand else None)


def test_thresholds_of_other_classes_are_refused():
    check_classes((0.5, None, (0.5, None)), 2)
    with pytest.raises(InputError, match="thresholds for 2 classes, this network tells 3: give one per class"):
        check_classes((0.5, None, (0.5, None)), 3)


def test_whole_numbers_are_thresholds_too():
    assert thresholds_from_json([1, [0, None], None]) == (1.0, (0.0, None), None)
