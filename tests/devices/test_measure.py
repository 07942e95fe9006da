from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from aebnas.devices import measure
from aebnas.devices.identity import identity_model
from aebnas.devices.measure import BlockError, Measurement, measure_blocks, open_session


class Clock:
    """Advances by the given steps, over and over."""

    def __init__(self, *steps_s: float) -> None:
        self._steps, self._calls, self._now = steps_s, 0, 0.0

    def __call__(self) -> float:
        self._now += self._steps[self._calls % len(self._steps)]
        self._calls += 1
        return self._now


class FakeSession:
    """Stands in for an onnxruntime session: its run takes ``cost_s`` on a shared clock."""

    def __init__(self, model: bytes, ran: list[str], now: list[float]) -> None:
        self._name, self._ran, self._now = model.decode(), ran, now

    def get_inputs(self):
        return []

    def get_outputs(self):
        return []

    def run(self, outputs, feeds):
        self._ran.append(self._name)
        # Every tenth run is disturbed.
        self._now[0] += float(self._name) * (50 if self._ran.count(self._name) % 10 == 0 else 1)


@pytest.fixture
def fake(monkeypatch):
    ran: list[str] = []
    now = [0.0]
    monkeypatch.setattr(measure, "open_session", lambda model, **_: FakeSession(model, ran, now))
    return ran, lambda: now[0]


def test_blocks_are_visited_in_interleaved_rounds(fake):
    ran, clock = fake
    models = {"a": b"0.001", "b": b"0.002", "c": b"0.003"}
    result = measure_blocks(models, rounds=10, warm_up=4, budget_s=1e9, clock=clock)
    assert ran[:12] == ["0.001"] * 4 + ["0.002"] * 4 + ["0.003"] * 4
    rounds = [ran[start : start + 9] for start in range(12, len(ran), 9)]
    assert len(rounds) == 10
    assert all(sorted(one) == ["0.001"] * 3 + ["0.002"] * 3 + ["0.003"] * 3 for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert {name: value.runs for name, value in result.items()} == {"a": 30, "b": 30, "c": 30}


def test_a_disturbed_run_does_not_move_the_latency(fake):
    _, clock = fake
    result = measure_blocks({"a": b"0.001", "b": b"0.002"}, rounds=20, warm_up=1, budget_s=1e9, clock=clock)
    assert result["a"].latency_ms == pytest.approx(1) and result["b"].latency_ms == pytest.approx(2)
    assert result["a"].p95_ms == pytest.approx(50)


def test_quantiles_are_those_of_numpy(fake):
    _, clock = fake
    result = measure_blocks({"a": b"0.001"}, rounds=5, warm_up=1, budget_s=1e9, clock=clock)["a"]
    times_ms = [1.0] * 8 + [50.0] + [1.0] * 6
    assert result == Measurement(
        latency_ms=pytest.approx(np.quantile(times_ms, 0.2)),
        median_ms=pytest.approx(np.quantile(times_ms, 0.5)),
        p95_ms=pytest.approx(np.quantile(times_ms, 0.95)),
        runs=15,
    )


def test_no_round_starts_after_the_budget(fake):
    ran, clock = fake
    measure_blocks({"a": b"1"}, rounds=1000, warm_up=1, budget_s=40, clock=clock)
    counted_s = sum(50 if run % 10 == 0 else 1 for run in range(2, len(ran) + 1))
    assert 40 < counted_s <= 40 + 3 * 50
    assert len(ran) - 1 >= 15


def test_a_tiny_budget_still_gives_a_few_rounds(fake):
    _, clock = fake
    assert measure_blocks({"a": b"1"}, rounds=1000, warm_up=1, budget_s=0, clock=clock)["a"].runs == 15


def test_a_real_block_is_measured():
    result = measure_blocks({"copy": identity_model((3, 4, 4))}, rounds=2, warm_up=1, clock=Clock(0.0, 0.001))
    assert result["copy"].runs == 6


def test_no_blocks_give_no_measurements():
    assert measure_blocks({}) == {}


def test_a_free_batch_is_fixed_and_every_dtype_is_fed():
    kinds = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL, TensorProto.DOUBLE]
    names = [f"value_{kind}" for kind in kinds]
    inputs = [helper.make_tensor_value_info(name, kind, ["batch", 2]) for name, kind in zip(names, kinds, strict=True)]
    outputs = [helper.make_tensor_value_info(f"out_{n.name}", n.type.tensor_type.elem_type, [None, 2]) for n in inputs]
    nodes = [helper.make_node("Identity", [name], [f"out_{name}"]) for name in names]
    graph = helper.make_graph(nodes, "all", inputs, outputs)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    assert [node.shape for node in open_session(model, threads=1, batch=1).get_inputs()] == [[1, 2]] * 5
    assert measure_blocks({"all": model}, rounds=1, warm_up=1)["all"].runs == 3


def test_a_session_runs_as_it_is_told():
    options = open_session(identity_model((2,)), threads=2).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert not options.enable_profiling


def test_a_block_that_cannot_be_loaded_is_named():
    with pytest.raises(BlockError, match="cannot load block 'bad'"):
        measure_blocks({"good": identity_model((2,)), "bad": b"not a model"})


def test_a_block_that_cannot_run_is_named():
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Gather", ["input", "far"], ["output"], axis=1)]
    nodes.insert(0, helper.make_node("Shape", ["input"], ["far"]))
    graph = helper.make_graph(
        nodes, "trap", [value("input", TensorProto.FLOAT, ["n", "m"])], [value("output", TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    with pytest.raises(BlockError, match="cannot run block 'trap'"):
        measure_blocks({"trap": model})
