from __future__ import annotations

import numpy as np
import pytest

from aebnas.errors import InputError
from aebnas.exits.policy import Policy, leave_at
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


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
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
