"""Rows of the front against dominance by its definition, and the static networks beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.finalists import choose_finalists, truncated_rows
from aebnas.searching.loop import Archive
from aebnas.searching.rows import front_rows, lossless, static_row

COORDINATES = st.tuples(st.integers(70, 100).map(lambda a: a / 100), st.integers(1, 9), st.integers(1, 9))
BACKBONE = StaticPoint(0.9, {"macs": 100.0, "latency_ms": 1.0})


@pytest.mark.parametrize("costs", [("macs",), ("latency_ms",), ("macs", "latency_ms")])
@given(curves=st.lists(st.lists(COORDINATES, min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_front_is_what_nothing_dominates(evaluation, dominated, costs, curves):
    made = Archive(BACKBONE, costs[0], CostLimits({}))
    for number, curve in enumerate(curves):
        made.add(evaluation(curve, attach=f"point{number}"))
    position = {"macs": 1, "latency_ms": 2}
    points = sorted({(p[0], *(float(p[position[name]]) for name in costs)) for curve in curves for p in curve})
    expected = [point for point, beaten in zip(points, dominated(points), strict=True) if not beaten]
    rows = front_rows(made, made.limits, costs)
    found = [(row["accuracy_val"], *(row[f"{name}_mean"] for name in costs)) for row in rows]
    assert sorted(found) == expected
    assert [row[f"{costs[0]}_mean"] for row in rows] == sorted(row[f"{costs[0]}_mean"] for row in rows)


def test_points_beyond_the_limits_and_static_ones_are_left_out(evaluation, archive):
    shares = [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (0.9, 0.1)]
    made = archive(
        evaluation([(0.8, 20, 0.2), (0.95, 10, 0.1), (0.85, 15, 0.1), (0.89, 60, 0.6)], shares=shares),
        limits={"macs": 50.0},
    )
    assert [row["macs_mean"] for row in front_rows(made, made.limits, ["macs"])] == [20]
    assert front_rows(archive(), CostLimits({}), ["macs"]) == []


def test_a_row_says_what_is_needed_to_build_its_network(evaluation, archive):
    made = evaluation([(0.8, 20, 0.2), (0.85, 30, 0.3)])
    first, second = front_rows(archive(made), CostLimits({}), ["macs"])
    assert [first["id"], second["id"]] == [f"{made.id}-0", f"{made.id}-1"]
    assert second["exits"] == [{"attach": "a", "layers": [], "head": "pooled-linear"}]
    assert (second["thresholds"], second["exit_shares"], second["weights"]) == ([0.51], [0.5, 0.5], dict(made.weights))
    assert (second["accuracy_test"], second["latency_ms_measured"], second["static"]) == (None, None, False)


def test_a_network_without_latencies_has_none_in_its_row(evaluation, archive):
    made = evaluation([(0.8, 20, 0.2)])
    only_macs = Evaluation.from_json({**made.to_json(), "cost_names": ["macs"]})
    (row,) = front_rows(archive(only_macs), CostLimits({}), ["macs"])
    assert (row["macs_mean"], row["latency_ms_mean"]) == (20, None)


def test_the_cheapest_row_that_loses_nothing():
    rows = [{"accuracy_val": a, "macs_mean": c} for a, c in ((0.9, 30), (0.95, 40), (0.9, 20), (0.8, 5), (0.99, None))]
    assert lossless(rows, 0.9, "macs_mean") == 2
    assert lossless(rows, 0.92, "macs_mean") == 1
    assert lossless(rows, 0.97, "macs_mean") is None


def test_truncated_networks_are_those_that_no_other_beats(evaluation, archive):
    def static(accuracy, macs):
        return StaticPoint(accuracy, {"macs": float(macs), "latency_ms": 1.0})

    good, worse, cheap = static(0.88, 40), static(0.87, 50), static(0.85, 10)
    made = archive(
        evaluation([], attach="a", truncated=[good], weights={"branches": ["aaaaaaaa"]}),
        evaluation([], attach="b", truncated=[worse], weights={"branches": ["bbbbbbbb"]}),
        evaluation([], attach="c", truncated=[cheap], weights={"network": "cccccccc"}),
    )
    rows = truncated_rows(made)
    assert {(row["accuracy_val"], row["macs_mean"]) for row in rows} == {(0.88, 40), (0.85, 10)}
    assert all(row["static"] and row["cut"] == 0 and row["thresholds"] == [] for row in rows)
    assert {str(row["weights"]) for row in rows} == {"{'branches': ['aaaaaaaa']}", "{'network': 'cccccccc'}"}
    assert truncated_rows(archive()) == []


def test_the_backbone_is_a_row_of_its_own():
    row = static_row("backbone", BACKBONE)
    assert (row["static"], row["exits"], row["exit_shares"], row["cut"]) == (True, [], [1.0], None)
    assert (row["accuracy_val"], row["macs_mean"], row["latency_ms_mean"]) == (0.9, 100.0, 1.0)


def test_finalists_begin_with_the_cheapest_that_loses_nothing(evaluation, archive, toy_experiment):
    made = archive(evaluation([(0.85, 20, 0.1), (0.9, 60, 0.3), (0.95, 90, 0.6)]))
    rows = front_rows(made, made.limits, ["macs"])
    assert choose_finalists(rows, made, toy_experiment(search__finalists=1)) == [1]
    assert choose_finalists(rows, made, toy_experiment(search__finalists=2)) == [1, 0]
    assert choose_finalists(rows, made, toy_experiment(search__finalists=1, search__accuracy_drop=0.05)) == [0]
    # Where nothing reaches the reference rectangle there is still one finalist.
    poor = archive(evaluation([(0.5, 20, 0.1)]))
    assert choose_finalists(front_rows(poor, poor.limits, ["macs"]), poor, toy_experiment()) == [0]


def test_an_evaluation_comes_back_from_json(evaluation):
    made = evaluation([(0.8, 20, 0.2), (0.85, 30, 0.3)], truncated=[BACKBONE], budget="final", failure=None)
    assert Evaluation.from_json(made.to_json()) == made
    assert made.id == made.spec.key[:6] + "f"
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
