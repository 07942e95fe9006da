"""Rows of the front against dominance by its definition, and the static networks beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.finalists import choose_finalists, eligible_rows, finalist_rows
from aebnas.searching.loop import Archive
from aebnas.searching.rows import front_rows, static_row
from aebnas.searching.statics import MOST_TRUNCATED, truncated_rows

COORDINATES = st.tuples(st.integers(70, 100).map(lambda a: a / 100), st.integers(1, 9), st.integers(1, 9))
BACKBONE = StaticPoint(0.9, {"macs": 100.0, "latency_ms": 1.0})


@pytest.mark.parametrize("costs", [("macs",), ("latency_ms",), ("macs", "latency_ms")])
@given(
    curves=st.lists(st.lists(COORDINATES, min_size=1, max_size=6), min_size=1, max_size=4),
    truncated=st.lists(COORDINATES, max_size=4),
    backbone=COORDINATES,
)
def test_the_front_is_what_neither_points_nor_static_networks_dominate(
    evaluation, dominated, costs, curves, truncated, backbone
):
    static, *cut = (StaticPoint(a, {"macs": float(m), "latency_ms": float(ms)}) for a, m, ms in (backbone, *truncated))
    made = Archive(static, costs[0], CostLimits({}))
    for number, curve in enumerate(curves):
        made.add(evaluation(curve, attach=f"point{number}", truncated=cut if number == 0 else ()))
    position = {"macs": 1, "latency_ms": 2}

    def kept(coordinates):
        return {(p[0], *(float(p[position[name]]) for name in costs)) for p in coordinates}

    points = sorted(kept(point for curve in curves for point in curve))
    beaten = dominated([*points, *kept([backbone, *truncated])])
    expected = [point for point, is_beaten in zip(points, beaten, strict=False) if not is_beaten]
    rows = front_rows(made, made.limits, costs)
    found = [(row["accuracy_val"], *(row[f"{name}_mean"] for name in costs)) for row in rows]
    assert sorted(found) == expected
    assert [row[f"{costs[0]}_mean"] for row in rows] == sorted(row[f"{costs[0]}_mean"] for row in rows)


def static(accuracy, macs, latency_ms=1.0):
    return StaticPoint(accuracy, {"macs": float(macs), "latency_ms": latency_ms})


def front_macs(made, costs=("macs",)):
    return [row["macs_mean"] for row in front_rows(made, made.limits, costs)]


def test_points_beyond_the_limits_are_left_out(evaluation, archive):
    made = archive(evaluation([(0.8, 20, 0.2), (0.89, 60, 0.6)]), limits={"macs": 50.0})
    assert front_macs(made) == [20]
    assert front_rows(archive(), CostLimits({}), ["macs"]) == []
    assert front_rows(archive(limits={"macs": 50.0}), CostLimits({"macs": 50.0}), ["macs"]) == []


def test_points_at_which_nobody_leaves_early_are_left_out_and_still_beat_others(evaluation, archive):
    shares = [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.9, 0.1)]
    points = [(0.8, 20, 0.2), (0.7, 10, 0.1), (0.85, 30, 0.3), (0.89, 60, 0.6)]
    assert front_macs(archive(evaluation(points, shares=shares))) == [20, 60]
    better = [(0.8, 20, 0.2), (0.8, 10, 0.1), (0.85, 30, 0.3), (0.89, 60, 0.6)]
    assert front_macs(archive(evaluation(better, shares=shares))) == [60]


def test_a_truncated_network_of_any_evaluation_removes_what_it_dominates(evaluation, archive):
    early = evaluation([(0.8, 20, 0.2), (0.85, 30, 0.3), (0.89, 60, 0.6)], attach="a")
    assert front_macs(archive(early)) == [20, 30, 60]
    other = evaluation([], attach="b", truncated=[static(0.86, 25)])
    assert front_macs(archive(early, other)) == [20, 60]
    # In the other cost it is slower, so that over both nothing is dominated.
    assert front_macs(archive(early, other), ("macs", "latency_ms")) == [20, 30, 60]


def test_the_backbone_removes_what_it_dominates(evaluation, archive):
    assert front_macs(archive(evaluation([(0.89, 100, 0.1), (0.9, 99, 0.1), (0.91, 110, 0.1)]))) == [99, 110]


def test_what_equals_a_static_network_stays(evaluation, archive):
    assert front_macs(archive(evaluation([(0.9, 100, 0.5)]))) == [100]


def test_a_static_network_beyond_the_limits_beats_nothing(evaluation, archive):
    """It is no alternative: the limit is on a cost that is no objective."""
    early = evaluation([(0.85, 60, 0.4), (0.89, 110, 0.5)], truncated=[static(0.87, 50, latency_ms=0.6)])
    assert front_macs(archive(early)) == []
    assert front_macs(archive(early, limits={"latency_ms": 0.5})) == [60, 110]
    assert front_macs(archive(early, limits={"latency_ms": 0.6})) == [110]


def test_statics_are_the_backbone_and_every_truncated_network(evaluation, archive):
    one, two, three = static(0.8, 10), static(0.85, 20), static(0.7, 5)
    made = archive(evaluation([], attach="a", truncated=[one, two]), evaluation([], attach="b", truncated=[three]))
    assert made.statics() == [BACKBONE, one, two, three]
    assert archive().statics() == [BACKBONE]
    made.replace(evaluation([], attach="a", truncated=[three], budget="final"))
    assert made.statics() == [BACKBONE, three, three]


def test_a_row_says_what_is_needed_to_build_its_network(evaluation, archive):
    made = evaluation([(0.8, 20, 0.2), (0.85, 30, 0.3)])
    first, second = front_rows(archive(made), CostLimits({}), ["macs"])
    assert [first["id"], second["id"]] == [f"{made.id}-0", f"{made.id}-1"]
    assert second["exits"] == [{"attach": "a", "layers": [], "head": "pooled-linear"}]
    assert (second["thresholds"], second["exit_shares"], second["weights"]) == (
        [0.5 + 1 / 128],
        [0.5, 0.5],
        dict(made.weights),
    )
    assert (second["accuracy_test"], second["latency_ms_measured"], second["static"]) == (None, None, False)


def test_a_network_without_latencies_has_none_in_its_row(evaluation, archive):
    made = evaluation([(0.8, 20, 0.2)])
    (point,) = made.to_json()["curve"]
    only_macs = Evaluation.from_json({**made.to_json(), "cost_names": ["macs"], "curve": [{**point, "costs": [20.0]}]})
    (row,) = front_rows(archive(only_macs), CostLimits({}), ["macs"])
    assert (row["macs_mean"], row["latency_ms_mean"]) == (20, None)


def test_truncated_networks_are_those_trained_in_full_that_no_other_beats(evaluation, archive):
    good, worse, cheap, best = static(0.88, 40), static(0.87, 50), static(0.85, 10), static(0.95, 5)
    first, second, third, searched = (
        evaluation([], attach=name, truncated=[point], weights=weights, budget=budget)
        for name, point, weights, budget in (
            ("a", good, {"branches": ["aaaaaaaa"]}, "final"),
            ("b", worse, {"branches": ["bbbbbbbb"]}, "final"),
            ("c", cheap, {"network": "cccccccc"}, "final"),
            ("d", best, {"branches": ["dddddddd"]}, "search"),  # not comparable with a finalist beside it
        )
    )
    made = archive(first, second, third, searched)
    rows = truncated_rows(made)
    assert {(row["accuracy_val"], row["macs_mean"]) for row in rows} == {(0.88, 40), (0.85, 10)}
    assert all(row["static"] and row["cut"] == 0 and row["thresholds"] == [] for row in rows)
    assert {row["id"]: row["weights"] for row in rows} == {
        "cut-aaaaaaaa": {"branches": ["aaaaaaaa"]},
        f"cut-{third.id}-0": {"network": "cccccccc"},
    }
    assert truncated_rows(archive()) == truncated_rows(archive(searched)) == []


def test_only_a_few_truncated_networks_are_shown(evaluation, archive):
    many = [
        evaluation([], attach=f"p{n}", truncated=[static(0.81 + n / 100, 10 * n)], budget="final") for n in range(1, 9)
    ]
    assert len(truncated_rows(archive(*many))) == MOST_TRUNCATED


def test_the_backbone_is_a_row_of_its_own():
    row = static_row("backbone", BACKBONE)
    assert (row["static"], row["exits"], row["exit_shares"], row["cut"]) == (True, [], [1.0], None)
    assert (row["accuracy_val"], row["macs_mean"], row["latency_ms_mean"]) == (0.9, 100.0, 1.0)


def test_finalists_begin_with_the_cheapest_that_loses_nothing(evaluation, archive, toy_experiment):
    points = [(0.85, 20, 0.1), (0.9, 60, 0.3), (0.95, 90, 0.6)]
    made = archive(*(evaluation([point], attach=f"p{number}") for number, point in enumerate(points)))
    rows = front_rows(made, made.limits, ["macs"])
    assert choose_finalists(rows, made, toy_experiment(search__finalists=1)) == [1]
    assert choose_finalists(rows, made, toy_experiment(search__finalists=2)) == [1, 0]
    assert choose_finalists(rows, made, toy_experiment(search__finalists=1, search__accuracy_drop=0.05)) == [0]
    # A truncated network that is nearly as good leaves little to gain at the cheap end.
    beside = archive(*made.evaluations.values(), evaluation([], attach="b", truncated=[static(0.849, 15)]))
    rows = front_rows(beside, beside.limits, ["macs"])
    assert [row["macs_mean"] for row in rows] == [20, 60, 90]
    assert choose_finalists(rows, beside, toy_experiment(search__finalists=2)) == [1, 2]
    # Finalists are of different networks.
    same = archive(evaluation(points))
    assert choose_finalists(front_rows(same, same.limits, ["macs"]), same, toy_experiment(search__finalists=3)) == [1]
    # Where nothing reaches the reference rectangle there is still one finalist.
    poor = archive(evaluation([(0.5, 20, 0.1)]))
    assert choose_finalists(front_rows(poor, poor.limits, ["macs"]), poor, toy_experiment()) == [0]


def test_an_evaluation_comes_back_from_json(evaluation):
    made = evaluation([(0.8, 20, 0.2), (0.85, 30, 0.3)], truncated=[BACKBONE], budget="final", failure=None)
    assert Evaluation.from_json(made.to_json()) == made
    assert made.id == made.spec.key[:8] + "f"
    failed = evaluation([], failure="the loss is nan")
    assert Evaluation.from_json(failed.to_json()) == failed
    assert made.cost(made.curve.points[1], "latency_ms") == 0.3


def test_an_archive_counts_a_network_once_and_only_what_is_allowed(evaluation, archive):
    made = archive(limits={"macs": 60.0})
    good = evaluation([(0.9, 50, 0.5), (0.99, 70, 0.7)])
    made.add(good)
    made.add(good)
    assert made.hypervolume() == pytest.approx(0.5)
    assert made.best_note() == "2.00x cheaper at the backbone's accuracy"
    assert archive().best_note() == "no point at the backbone's accuracy yet"


def target_of(toy_experiment, value, rule="at-most", cost="macs", **options):
    target = {"cost": cost, "value": value, "rule": rule, "min_accuracy": options.pop("min_accuracy", None)}
    return toy_experiment(search__target=target, search__finalists=1, **options)


def first_finalist(made, experiment):
    rows = eligible_rows(made, experiment)
    (index,) = choose_finalists(rows, made, experiment)
    return rows[index]["macs_mean"], rows[index]["latency_ms_mean"]


@pytest.mark.parametrize(("value", "expected"), [(95, 90), (90, 90), (89, 60), (59, 20)])
def test_the_first_finalist_meets_an_at_most_target_best(evaluation, archive, toy_experiment, value, expected):
    made = archive(evaluation([(0.85, 20, 0.1), (0.9, 60, 0.3), (0.95, 90, 0.6)]))
    assert first_finalist(made, target_of(toy_experiment, value))[0] == expected


def test_the_floor_of_a_target_is_kept(evaluation, archive, toy_experiment):
    # acc% - 10 * |M - T| / T at T = 20: 85, 70, 60
    made = archive(evaluation([(0.85, 20, 0.1), (0.9, 60, 0.3), (0.95, 90, 0.6)]))
    assert first_finalist(made, target_of(toy_experiment, 20, "two-sided"))[0] == 20
    assert first_finalist(made, target_of(toy_experiment, 20, "two-sided", min_accuracy=0.88))[0] == 60


def test_a_two_sided_target_may_prefer_a_point_that_is_dominated(evaluation, archive, toy_experiment):
    made = archive(evaluation([(0.9, 30, 0.1), (0.899, 60, 0.3)]), evaluation([(0.8, 20, 0.1)], attach="b"))
    # acc% - 10 * |M - T| / T at T = 60: 85, 89.9, 73.3
    experiment = target_of(toy_experiment, 60, "two-sided")
    assert front_macs(made) == [20, 30]
    assert first_finalist(made, experiment)[0] == 60
    assert first_finalist(made, target_of(toy_experiment, 60))[0] == 30
    # And not one at which nobody leaves early.
    static_only = archive(evaluation([(0.9, 30, 0.1), (0.899, 60, 0.3)], shares=[(0.5, 0.5), (0.0, 1.0)]))
    assert first_finalist(static_only, experiment)[0] == 30


def test_a_target_on_a_cost_that_is_no_objective_is_met(evaluation, archive, toy_experiment):
    made = archive(evaluation([(0.85, 20, 0.9), (0.84, 30, 0.4), (0.9, 60, 0.8)]))
    assert front_macs(made) == [20, 60]
    assert first_finalist(made, target_of(toy_experiment, 0.5, cost="latency_ms")) == (30, 0.4)
    assert first_finalist(made, target_of(toy_experiment, 0.85, cost="latency_ms")) == (60, 0.8)


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("at-most", 55, {60, 20}),  # of equal accuracy the cheaper one
        ("at-most", 10, {60}),  # none meets it
        ("two-sided", 70, {60, 70}),  # acc% - 10 * |M - T| / T: 77.9, 82.1, 88.6, 89.9
    ],
)
def test_retrained_networks_offer_what_the_target_wants(evaluation, archive, toy_experiment, rule, value, expected):
    """Beside the cheapest point at the backbone's accuracy; the chosen point had an accuracy of 0.9 before."""
    searched = evaluation([(0.9, 40, 0.1)])
    final = evaluation([(0.85, 20, 0.1), (0.85, 50, 0.1), (0.9, 60, 0.3), (0.899, 70, 0.3)], budget="final")
    made = archive(searched)
    rows = front_rows(made, made.limits, ["macs"])
    made.replace(final)
    found = finalist_rows(rows, [final], made, target_of(toy_experiment, value, rule))
    assert all(row["finalist"] for row in found)
    assert {row["macs_mean"] for row in found} == expected


def test_retrained_networks_stay_within_the_limits(evaluation, archive, toy_experiment):
    searched = evaluation([(0.9, 40, 0.1)])
    final = evaluation([(0.85, 20, 0.1), (0.9, 60, 0.3)], budget="final")
    made = archive(searched, limits={"macs": 50.0})
    rows = front_rows(made, made.limits, ["macs"])
    found = finalist_rows(rows, [final], made, toy_experiment())
    assert [row["macs_mean"] for row in found] == [20]  # the most accurate that is left
