"""Which point of a curve stands for its network, worked out by hand."""

from __future__ import annotations

import pytest

from aebnas.devices.profile import Limits
from aebnas.experiment_search import SearchSettings
from aebnas.searching.choice import CostLimits, allowed_points, choose_point, objective_values
from aebnas.searching.evaluation import StaticPoint

BACKBONE = StaticPoint(0.90, {"macs": 100.0, "latency_ms": 1.0})
POINTS = [(0.80, 20, 0.9), (0.86, 40, 0.5), (0.89, 70, 0.7), (0.91, 95, 0.8)]
NO_LIMITS = CostLimits({})


@pytest.fixture
def chosen(evaluation):
    """Return the MACs of the point that is chosen of POINTS."""

    def choose(limits=NO_LIMITS, trade_off=0.5, points=POINTS, **settings):
        made = SearchSettings(**{"objectives": ("accuracy", "macs"), **settings})
        return choose_point(evaluation(points), BACKBONE, made, limits, trade_off).costs[0]

    return choose


@pytest.mark.parametrize(
    ("target", "macs"),
    [
        ({"cost": "macs", "value": 75}, 70),
        ({"cost": "macs", "value": 70}, 70),
        ({"cost": "macs", "value": 69}, 40),
        ({"cost": "latency_ms", "value": 0.6}, 40),
        ({"cost": "latency_ms", "value": 0.75}, 70),
        ({"cost": "macs", "value": 10}, 20),  # none meets it: the nearest
        ({"cost": "macs", "value": 75, "min_accuracy": 0.95}, 70),  # none is that accurate: the nearest cost
        # acc% - 10 * |M - T| / T at T = 50: 74.0, 84.0, 85.0, 82.0
        ({"cost": "macs", "value": 50, "rule": "two-sided"}, 70),
        # at T = 30: 76.67, 82.67, 75.67, 69.33
        ({"cost": "macs", "value": 30, "rule": "two-sided"}, 40),
        ({"cost": "macs", "value": 30, "rule": "two-sided", "min_accuracy": 0.88}, 70),
    ],
)
def test_with_a_target_the_point_that_meets_it_best(chosen, target, macs):
    assert chosen(target=target) == macs


@pytest.mark.parametrize(
    ("limits", "macs"),
    [
        ({"macs": 94.0}, 70),
        ({"latency_ms": 0.6}, 40),
        ({"macs": 95.0, "latency_ms": 0.75}, 70),
        ({"macs": 30.0, "latency_ms": 0.6}, 40),  # none meets both: 1.5, 0.33, 1.33 and 2.17 beyond the worse one
    ],
)
def test_with_limits_the_most_accurate_allowed_or_the_nearest(chosen, limits, macs):
    assert chosen(limits=CostLimits(limits)) == macs


def test_a_target_is_met_within_the_limits(chosen):
    """The most accurate point of at most 95 MACs takes 0.8 ms, which the limits do not allow."""
    target = {"cost": "macs", "value": 95}
    assert chosen(target=target) == 95
    assert chosen(limits=CostLimits({"latency_ms": 0.75}), target=target) == 70


@pytest.mark.parametrize(
    ("trade_off", "macs"),
    [
        (0.0, 95),  # accuracy alone
        (1.0, 20),  # cost alone
        # w * M / 100 + (1 - w) * (0.90 - A) / 0.05 at w = 0.5: 1.1, 0.6, 0.45, 0.375
        (0.5, 95),
        # at w = 0.7: 0.74, 0.52, 0.55, 0.605
        (0.7, 40),
        # at w = 0.6: 0.92, 0.56, 0.5, 0.49
        (0.6, 95),
        # at w = 0.65: 0.83, 0.54, 0.525, 0.5475
        (0.65, 70),
    ],
)
def test_without_a_wish_the_gene_weighs_cost_against_accuracy(chosen, trade_off, macs):
    assert chosen(trade_off=trade_off) == macs


def test_the_weighted_cost_is_the_first_objective(chosen):
    assert chosen(trade_off=1.0, objectives=("accuracy", "latency_ms", "macs")) == 40


def test_objectives_are_given_in_their_order(evaluation):
    made = evaluation(POINTS)
    point = made.curve.points[1]
    for names, values in ((("macs", "accuracy"), [40, 0.86]), (("accuracy", "latency_ms", "macs"), [0.86, 0.5, 40])):
        assert objective_values(made, point, SearchSettings(objectives=names)) == values


def test_violations_are_relative_to_the_limit(evaluation):
    made, limits = evaluation(POINTS), CostLimits({"macs": 50.0, "latency_ms": 0.5})
    assert limits.violations(made, made.curve.points[1]) == pytest.approx([-0.2, 0.0])
    assert limits.violations(made, made.curve.points[2]) == pytest.approx([0.4, 0.4])
    assert [point.costs[0] for point in allowed_points(made, limits).points] == [40]
    # As the keys of a profile, MACs in millions.
    assert str(limits) == "macs_m <= 5e-05, latency_ms <= 0.5"
    assert str(CostLimits({"macs": 1.5e6})) == "macs_m <= 1.5"


@pytest.mark.parametrize(("macs", "latency_ms", "allowed"), [(50, 0.5, True), (51, 0.5, False), (50, 0.51, False)])
def test_a_static_network_has_to_meet_every_limit(macs, latency_ms, allowed):
    static = StaticPoint(0.9, {"macs": float(macs), "latency_ms": latency_ms})
    assert CostLimits({"macs": 50.0, "latency_ms": 0.5}).allow_static(static) == allowed
    assert NO_LIMITS.allow_static(static)


def test_limits_of_a_profile_are_in_the_units_of_the_costs():
    assert CostLimits.of(Limits()).limits == {}
    limits = CostLimits.of(Limits(macs_m=1.5, latency_ms=2, model_mib=3)).limits
    assert limits == {"latency_ms": 2.0, "macs": 1.5e6, "model_mib": 3.0}


def test_limits_of_an_experiment_count_before_those_of_the_profile():
    limits = CostLimits.of(Limits(latency_ms=2, energy_mj=1), Limits(latency_ms=3, latency_p95_ms=4)).limits
    assert limits == {"latency_ms": 3.0, "latency_p95_ms": 4.0, "energy_mj": 1.0}
