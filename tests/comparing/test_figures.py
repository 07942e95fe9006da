"""Figures at fixed points, by hand."""

from __future__ import annotations

import pytest
from made_up_results import PRICES, comparison, point, result

from aebnas.comparing.figures import (
    STEPS,
    Scale,
    area,
    equal_accuracy_costs,
    figures,
    mean_forgetting,
    reaching,
    within,
)
from aebnas.comparing.summary import summarise

POINTS = [
    point(0.70, 40, test=0.71, test_cost=40),
    point(0.85, 60, test=0.84, test_cost=62),
    point(0.89, 80, test=0.88, test_cost=81),
    point(0.89, 90, test=0.99, test_cost=91),
    point(0.92, 105, test=0.95, test_cost=105),
]
SCALE = Scale(100.0, (0.4, 0.7, 1.0))


def test_policies_are_chosen_on_validation_and_told_on_test():
    assert within(POINTS, 39) is None
    assert within(POINTS, 100) is POINTS[2]  # as accurate as the next on validation, and cheaper
    assert reaching(POINTS, 0.86) is POINTS[2]
    assert reaching(POINTS, 0.93) is None
    found = figures(result("a", 0, POINTS), SCALE, 0.86)
    assert found["accuracy_25"] is None
    assert (found["accuracy_75"], found["cost_75"]) == (0.84, 0.62)
    assert (found["accuracy_100"], found["cost_100"]) == (0.88, 0.81)
    assert (found["cost_same"], found["accuracy_same"]) == (0.81, 0.88)
    assert found["cost_minus1"] == 0.62
    assert (found["exit1"], found["final"]) == (0.79, 0.89)


def test_a_budget_is_met_by_what_costs_exactly_as_much():
    assert within([point(0.9, 30.000000000000004)], 30) is not None


def test_the_area_is_the_mean_test_accuracy_over_budgets():
    assert area(result("a", 0, POINTS), SCALE) == pytest.approx((0.71 + 0.84 + 0.88) / 3)
    assert area(result("a", 0, POINTS), SCALE, 0.5, 0.9) == pytest.approx(0.84)
    assert area(result("a", 0, POINTS[1:]), SCALE) is None


def test_the_scale_begins_at_the_first_exit(tmp_path):
    scale = Scale.of(comparison({"a": {0: result("a", 0, POINTS)}}, tmp_path))
    assert (len(scale.budgets), scale.budgets[0], scale.budgets[-1]) == (STEPS, 0.4, 1.0)
    assert PRICES.first == 40.0


def test_costs_at_the_accuracy_that_both_reach():
    cheap = {0: result("a", 0, [point(0.80, 40), point(0.90, 50)])}
    dear = {0: result("b", 0, [point(0.80, 60), point(0.94, 70)])}
    mine, theirs = equal_accuracy_costs(cheap, dear, SCALE)
    assert (mine, theirs) == ({0: 0.5}, {0: 0.7})


def test_forgetting_is_what_exits_lose_after_their_own_step():
    one = result("a", 0, POINTS, forgetting=((0.9, 0.7), (0.8, 0.8), (0.95, 0.95)))
    assert mean_forgetting(one) == pytest.approx(0.1)
    assert mean_forgetting(result("a", 0, POINTS)) is None


def test_the_summary_pairs_by_seed_and_takes_the_first_variant_as_reference(tmp_path):
    first = {seed: result("a", seed, [point(0.80 + seed / 100, 50)]) for seed in (0, 1)}
    second = {seed: result("b", seed, [point(0.82 + seed / 100, 50)]) for seed in (0, 1)}
    summary = summarise(comparison({"a": first, "b": second}, tmp_path, {"c": "it broke"}))
    one, other = summary.variants
    assert one.differences == {}
    assert other.differences["accuracy_100"].mean == pytest.approx(0.02)
    assert one.mean("accuracy_100").mean == pytest.approx(0.805)
    assert one.epochs == (6, 6)
    assert [(static.name, static.cost) for static in summary.statics] == [
        ("static backbone", 1.0),
        ("truncated at exit 1", 0.4),
    ]
    assert summary.to_json()["failures"] == {"c": "it broke"}
