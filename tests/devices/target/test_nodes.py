from __future__ import annotations

import json

import pytest

from aebnas.devices.target.nodes import profile_model
from aebnas.devices.target.session import open_session


def event(name, op, start_us, dur_us, peak=None, shapes=((1, 2),)):
    arguments = {"op_name": op, "provider": "CPUExecutionProvider"}
    arguments["input_type_shape"] = [{"float": list(shape)} for shape in shapes]
    arguments["output_type_shape"] = [{"int64": [1]}]
    if peak is not None:
        arguments["mem_in_use_peak"] = str(peak)
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start_us, "dur": dur_us, "args": arguments}


def run_of(*events):
    return [*events, {"cat": "Session", "name": "model_run", "ts": 0, "dur": 1, "args": {}}]


class Session:
    """Stands in for a session that profiles ``runs``, one after the other."""

    def __init__(self, path, runs) -> None:
        self._path, self._runs, self.ran = path, runs, 0

    def get_inputs(self):
        return []

    def run(self, outputs, feeds):
        self.ran += 1

    def end_profiling(self):
        events = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9}]
        for number in range(self.ran):
            events += self._runs(number)
        self._path.write_text(json.dumps(events))
        return str(self._path)


def profiled(tmp_path, runs, count=20):
    return profile_model(lambda _: Session(tmp_path / "profile.json", runs), str(tmp_path), runs=count)


def test_a_node_takes_the_mean_of_the_middle_half_of_the_runs_after_the_warm_up(tmp_path):
    """Runs 5 .. 12 count, and take 1 .. 8: the middle half of these is 3 .. 6."""
    runs = lambda number: run_of(event("conv", "Conv", 10, 1000 if number < 5 else number - 4))  # noqa: E731
    (node,) = profiled(tmp_path, runs, count=8).nodes
    assert (node.name, node.op, node.us, node.provider) == ("conv", "Conv", 4.5, "CPUExecutionProvider")
    assert (node.input_shapes, node.output_shapes) == ([[1, 2]], [[1]])
    assert list(tmp_path.iterdir()) == []


def test_nodes_inside_an_if_have_its_name_and_their_time_is_not_its_own(tmp_path):
    events = run_of(
        event("first", "Conv", 0, 10),
        event("inner", "Conv", 22, 30),
        event("deepest", "Relu", 61, 5),
        event("deep", "If", 60, 8),
        event("exit", "If", 20, 55),
        event("inner", "Relu", 80, 2),
    )
    nodes = profiled(tmp_path, lambda _: events).nodes
    assert [(node.name, node.us) for node in nodes] == [
        ("first", 10),
        ("exit", 55 - 30 - 8),
        ("exit/inner", 30),
        ("exit/deep", 8 - 5),
        ("exit/deep/deepest", 5),
        ("inner", 2),
    ]
    assert sum(node.us for node in nodes) == 10 + 55 + 2


def test_a_node_that_runs_twice_is_the_sum(tmp_path):
    nodes = profiled(tmp_path, lambda _: run_of(event("a", "Add", 0, 3), event("a", "Add", 5, 4))).nodes
    assert [(node.name, node.us) for node in nodes] == [("a", 7)]


def test_fences_of_older_runtimes_are_no_nodes(tmp_path):
    fence = {"cat": "Node", "name": "a_fence_before", "ts": 0, "dur": 0, "args": {"op_name": "Add"}}
    assert [node.name for node in profiled(tmp_path, lambda _: run_of(fence, event("a", "Add", 0, 3))).nodes] == ["a"]


def test_the_peak_is_the_highest_of_all_nodes(tmp_path):
    runs = lambda number: run_of(event("a", "Add", 0, 1, peak=2**20), event("b", "Add", 2, 1, peak=3 * 2**19))  # noqa: E731
    assert profiled(tmp_path, runs).peak_memory_mib == 1.5


def test_a_runtime_that_tells_no_memory_gives_none(tmp_path):
    assert profiled(tmp_path, lambda _: run_of(event("a", "Add", 0, 1))).peak_memory_mib is None


def test_a_real_model_with_an_if(tmp_path, exiting):
    profile = profile_model(
        lambda prefix: open_session(exiting, threads=1, batch=1, profile_prefix=prefix), str(tmp_path), runs=3
    )
    names = [node.name for node in profile.nodes]
    inside = [node for node in profile.nodes if node.name.startswith("exit/")]
    assert names.index("exit") < names.index(inside[0].name)
    assert "Conv" in {node.op for node in inside}
    assert profile.nodes[0].input_shapes[0] == [1, 3, 8, 8]
    assert profile.peak_memory_mib is None or 0 < profile.peak_memory_mib < 50
    assert list(tmp_path.iterdir()) == []


def test_a_profile_that_could_not_be_written_is_an_error_of_the_disk(tmp_path, exiting):
    with pytest.raises(OSError, match="profile could not be written"):
        profile_model(
            lambda prefix: open_session(exiting, threads=1, batch=1, profile_prefix=prefix), str(tmp_path / "gone")
        )
