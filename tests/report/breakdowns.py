"""A made-up network with one exit, taken apart."""

from __future__ import annotations

from collections.abc import Mapping

from aebnas.devices.results import Measurement, NodeProfile, NodeTime
from aebnas.export.breakdown import Breakdown, TimedFile, TimedPart, TimedPath

COSTS = {"latency_ms_mean": 7.5, "latency_ms_measured": 7.75}


def measured(ms: float, **changes) -> Measurement:
    values = {"low_ms": 0.9 * ms, "high_ms": 1.1 * ms, "median_ms": 2 * ms, "p95_ms": 3 * ms, "runs": 45}
    return Measurement(**{"latency_ms": ms, **values, "steady": True, "yardstick_ms": 0.1, **changes})


def profile(us_by_operator: Mapping[str, float]) -> NodeProfile:
    nodes = tuple(NodeTime(op, op, us, "CPUExecutionProvider", (), ()) for op, us in us_by_operator.items())
    return NodeProfile(nodes, wall_us=sum(us_by_operator.values()) / 2, peak_memory_mib=None)


def part(kind: str, exit_: int, beyond_ms: float, gate_ms: float) -> TimedPart:
    file = f"staged/{kind}_{exit_}.onnx"
    return TimedPart(kind, exit_, file, 0.2, measured(1 + beyond_ms), profile({"Conv": 3.0}), beyond_ms, gate_ms)


def breakdown(costs: Mapping[str, float | None] = COSTS) -> Breakdown:
    """A start of 1 ms; 7.25 ms to exit 0, of which 0.25 are no part's; 15 to the final exit, 1 of them no part's."""
    last = measured(15.0)
    return Breakdown(
        start=measured(1.0),
        parts=(part("segment", 0, 4.0, 0.0), part("branch", 0, 2.0, 0.5), part("segment", 1, 7.0, 0.5)),
        paths=(
            TimedPath(0, "stem", 0.75, measured(7.25, peak_memory_mib=0.5)),
            TimedPath(1, "final", 0.25, last),
        ),
        deepest=TimedFile("model.onnx", 0.7, 5.0, last, profile({"Conv": 6.0, "Gemm": 2.0, "If": 8.0})),
        backbone=TimedFile("backbone.onnx", 0.6, 4.0, measured(11.0), profile({"Conv": 10.0})),
        costs=costs,
    )
