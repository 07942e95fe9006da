import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.exits.oracle import oracle_curve, oracle_gap


def test_by_hand():
    """Sample 0 is right at exit 0, 1 at exit 1 and later, 2 only at the last exit, 3 nowhere."""
    correct = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]], bool)
    curve = oracle_curve(correct, np.array([1.0, 2.0, 5.0]))
    assert curve.accuracies == (0.25, 0.5, 0.75)
    assert curve.costs == (1.0, 1.25, 2.25)
    assert curve.accuracy_at(1.75) == pytest.approx(0.625)
    assert curve.accuracy_at(9.0) == 0.75 and curve.cost_at(0.1) == 1.0
    gap = oracle_gap(curve, accuracy=0.5, cost=2.25)
    assert gap.accuracy_missed == pytest.approx(0.25) and gap.cost_excess == pytest.approx(1.0)
    assert (gap.accuracy, gap.cost) == (0.75, 2.25)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5))
def test_no_way_to_leave_is_better(samples):
    correct, costs = np.array(samples).T, np.array([1.0, 1.5, 4.0])
    curve, count = oracle_curve(correct, costs), len(samples)
    best = {}
    for exits in itertools.product(range(3), repeat=count):
        cost = round(float(costs[list(exits)].sum()), 9)
        best[cost] = max(best.get(cost, 0), int(correct[list(exits), range(count)].sum()))
    for cost, right in best.items():
        assert right / count <= curve.accuracy_at(cost / count) + 1e-9
    for cost, accuracy in zip(curve.costs, curve.accuracies, strict=True):
        assert best[round(cost * count, 9)] == round(accuracy * count)


def test_one_exit_is_its_own_oracle():
    curve = oracle_curve(np.array([[True, False]]), np.array([3.0]))
    assert (curve.costs, curve.accuracies) == ((3.0,), (0.5,))
    assert oracle_gap(curve, 0.5, 3.0).cost_excess == 0.0


@pytest.mark.parametrize("correct, costs", [(np.zeros((2, 0), bool), [1, 2]), (np.ones((2, 3), bool), [2, 1])])
def test_what_has_no_oracle_is_refused(correct, costs):
    with pytest.raises(ValueError, match="needs samples and costs"):
        oracle_curve(correct, np.array(costs))


@given(
    st.lists(
        st.tuples(st.lists(st.booleans(), min_size=3, max_size=3), st.sampled_from([1, 4])), min_size=1, max_size=5
    )
)
def test_no_way_to_leave_is_better_where_samples_count_differently(samples):
    correct, weights = np.array([right for right, _ in samples]).T, np.array([weight for _, weight in samples])
    costs, count = np.array([1.0, 1.5, 4.0]), len(samples)
    curve = oracle_curve(correct, costs, weights)
    for exits in itertools.product(range(3), repeat=count):
        cost = float(costs[list(exits)].mean())
        accuracy = weights[correct[list(exits), range(count)]].sum() / weights.sum()
        assert accuracy <= curve.accuracy_at(cost) + 1e-9
    # Every corner is a way to leave, and the last one all that can be had.
    assert curve.accuracies[-1] == weights[correct.any(axis=0)].sum() / weights.sum()
    assert list(curve.costs) == sorted(curve.costs) and list(curve.accuracies) == sorted(curve.accuracies)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9))
def test_equal_weights_change_no_oracle(samples):
    correct, costs = np.array(samples).T, np.array([1.0, 1.5, 4.0])
    plain = oracle_curve(correct, costs)
    weighted = oracle_curve(correct, costs, np.full(len(samples), 3))
    for cost in np.linspace(1, 4, 13):
        assert weighted.accuracy_at(cost) == pytest.approx(plain.accuracy_at(cost))
