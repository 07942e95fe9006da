from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from aebnas.devices.results import Finding, Measurement, NodeProfile, NodeTime
from aebnas.report.device import MeasuredModel, findings_table, measurements_table, operators_table


def printed(table) -> str:
    text = io.StringIO()
    Console(width=200, file=text).print(table)
    return text.getvalue()


def model(times_us: dict[str, float], **changes) -> MeasuredModel:
    values = {"latency_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, "median_ms": 2.2, "p95_ms": 4.0, "runs": 45}
    measurement = Measurement(**{**values, "steady": True, "yardstick_ms": 0.1, **changes})
    nodes = tuple(NodeTime(op, op, us, "CPUExecutionProvider", (), ()) for op, us in times_us.items())
    return MeasuredModel(1.5, measurement, NodeProfile(nodes, wall_us=1000.0, peak_memory_mib=None))


def test_times_by_operator_add_up_to_the_latency():
    found = model({"Conv": 30.0, "Relu": 10.0})
    assert found.ms_by_operator == pytest.approx({"Conv": 1.5, "Relu": 0.5})
    values = json.loads(json.dumps(found.to_json()))
    assert values["ms_by_operator"] == pytest.approx({"Conv": 1.5, "Relu": 0.5})
    assert (values["latency_ms"], values["size_mib"]) == (2.0, 1.5)
    assert values["profiled_over_wall"] == pytest.approx(0.04)


def test_a_line_per_model_with_what_is_known():
    text = printed(measurements_table({"[a].onnx": model({}, peak_memory_mib=0.25), "b.onnx": model({}, steady=False)}))
    line = next(line for line in text.splitlines() if "[a].onnx" in line)
    for figure in ("2.0000", "1.9000 to 2.1000", "2.2000", "4.0000", "45", "0.25", "1.50"):
        assert figure in line
    assert "1.9000 to 2.1000 *" in text
    assert "energy" not in text


def test_energy_is_shown_when_it_is_known_and_says_where_from():
    assert "3.000 (profile)" in printed(
        measurements_table({"a": model({}, energy_mj=3.0, energy_source="profile"), "b": model({})})
    )


def test_the_operators_of_all_models_stand_side_by_side_the_largest_first():
    text = printed(operators_table({"a": model({"Relu": 10.0, "Conv": 30.0}), "b": model({"Gemm": 1.0})}))
    lines = [line for line in text.splitlines() if any(op in line for op in ("Conv", "Relu", "Gemm"))]
    assert [line.split()[0] for line in lines] == ["Gemm", "Conv", "Relu"]
    assert "1.5000 (75 %)" in lines[1] and "2.0000 (100 %)" in lines[0]


def test_many_operators_are_summed_up():
    text = printed(operators_table({"a": model({f"Op{number}": 1.0 for number in range(20)})}))
    assert "8 others" in text and "0.8000 (40 %)" in text


def test_findings_are_marked():
    text = printed(
        findings_table([Finding("python", True, "3.12"), Finding("numpy", False, "missing", "do [this]")], "t")
    )
    ok, no = (next(line for line in text.splitlines() if what in line) for what in ("python", "numpy"))
    assert "ok" in ok and "no" in no and "do [this]" in no
