from __future__ import annotations

import pytest

from aebnas.devices.results import Measurement, NodeProfile, NodeTime


def measurement(**changes) -> Measurement:
    values = {"latency_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, "median_ms": 2.2, "p95_ms": 4.0}
    return Measurement(**{**values, "runs": 45, "steady": True, "yardstick_ms": 0.2, **changes})


def test_a_machine_twice_as_fast_takes_half_the_time_and_energy():
    scaled = measurement(energy_mj=8.0, peak_memory_mib=3.0).at_speed(0.1)
    assert scaled == measurement(
        latency_ms=1.0,
        low_ms=0.95,
        high_ms=1.05,
        median_ms=1.1,
        p95_ms=2.0,
        yardstick_ms=0.1,
        energy_mj=4.0,
        peak_memory_mib=3.0,
    )


def test_the_same_speed_changes_nothing():
    assert measurement().at_speed(0.2) == measurement()


def node(op: str, us: float) -> NodeTime:
    return NodeTime(op, op, us, "CPUExecutionProvider", ((1, 3),), ((1, 3),))


def test_node_times_are_scaled_to_the_wall_clock():
    profile = NodeProfile((node("Relu", 10), node("Conv", 60), node("Relu", 30)), wall_us=50.0, peak_memory_mib=None)
    assert profile.us_by_operator() == pytest.approx({"Conv": 30.0, "Relu": 20.0})
    assert list(profile.us_by_operator()) == ["Conv", "Relu"]
    assert profile.inflation == pytest.approx(2.0)


def test_a_graph_without_nodes_has_no_operators():
    assert NodeProfile((), wall_us=1.0, peak_memory_mib=None).us_by_operator() == {}
