from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.results import Measurement, NodeProfile, NodeTime
from aebnas.errors import RunError
from aebnas.exits.policy import Policy
from aebnas.export.breakdown import Piece, take_apart
from aebnas.export.manifest import MANIFEST
from aebnas.files import write_json

# Milliseconds of what a toy with one exit is made of; the start of any graph is 1.
TIMES_MS = {
    "start": 1.0,
    "staged/segment_0.onnx": 5.0,
    "staged/branch_0.onnx": 3.0,
    "gate of staged/branch_0.onnx": 1.5,
    "staged/segment_1.onnx": 8.0,
    "gate of staged/segment_1.onnx": 1.5,
    "model.onnx forced to exit 0": 7.25,
    "model.onnx forced to exit 1": 13.5,
    "backbone.onnx": 11.0,
}


class FakeDevice:
    """Tells hand-made times; half the interval of each is a tenth of its time."""

    def __init__(self, **changes: float) -> None:
        self.times_ms, self.jobs, self.profiled, self.resided = {**TIMES_MS, **changes}, {}, {}, {}

    def measure(self, jobs):
        self.jobs = dict(jobs)
        return {name: measured(self.times_ms[name]) for name in jobs}

    def nodes(self, models):
        self.profiled = dict(models)
        node = NodeTime("conv", "Conv", 2.0, "CPUExecutionProvider", (), ())
        return {name: NodeProfile((node,), wall_us=1.0, peak_memory_mib=None) for name in models}

    def resident(self, models):
        self.resided = dict(models)
        return {name: 3.0 + place for place, name in enumerate(models)}


def measured(ms: float, **changes) -> Measurement:
    values = {"low_ms": 0.9 * ms, "high_ms": 1.1 * ms, "median_ms": 2 * ms, "p95_ms": 3 * ms, "runs": 45}
    return Measurement(**{"latency_ms": ms, **values, "steady": True, "yardstick_ms": 0.1, **changes})


def with_manifest(source, folder, **changes):
    shutil.copytree(source, folder)
    values = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**values, **changes})
    return folder


def test_a_path_is_the_start_its_parts_and_the_rest(exported):
    found = take_apart(exported[1], FakeDevice())
    assert found.pieces(found.paths[0]) == [
        Piece("start", 0, 1.0),
        Piece("segment", 0, 4.0),
        Piece("branch", 0, 1.5),
        Piece("gate", 0, 0.5),
        Piece("rest", 0, 0.25),
    ]
    # Behind the exit that is passed: the last segment, which is gated as well. Together it runs faster than alone.
    assert found.pieces(found.paths[1])[4:] == [
        Piece("segment", 1, 6.5),
        Piece("gate", 1, 0.5),
        Piece("rest", 1, -0.5),
    ]
    for path in found.paths:
        assert sum(piece.ms for piece in found.pieces(path)) == pytest.approx(path.measurement.latency_ms)
    assert [found.parts_ms(path) for path in found.paths] == [7.0, 14.0]


def test_the_rest_is_as_uncertain_as_all_that_it_is_made_of(exported):
    found = take_apart(exported[1], FakeDevice())
    wanted = 0.1 * (1.0**2 + 5.0**2 + 3.0**2 + 7.25**2) ** 0.5
    assert found.rest_half_ms(found.paths[0]) == pytest.approx(wanted)


def test_what_is_below_the_start_of_a_graph_takes_nothing(exported):
    times_ms = {"staged/segment_0.onnx": 0.9, "staged/branch_0.onnx": 1.2, "gate of staged/segment_1.onnx": 0.8}
    segment, branch, last = take_apart(exported[1], FakeDevice(**times_ms)).parts
    assert (segment.beyond_ms, segment.layers_ms) == (0.0, 0.0)
    # No gate takes more than the block that it is in.
    assert branch.gate_ms == branch.beyond_ms == pytest.approx(0.2)
    assert (last.gate_ms, last.layers_ms) == (0.0, 7.0)


def test_means_are_weighted_by_the_exit_shares(exported, tmp_path):
    folder = with_manifest(exported[1], tmp_path / "onnx", extra={"exit_shares": [0.75, 0.25]})
    found = take_apart(folder, FakeDevice())
    assert found.mean(found.parts_ms) == pytest.approx(0.75 * 7.0 + 0.25 * 14.0)
    assert found.mean(lambda path: path.measurement.median_ms) == pytest.approx(2 * (0.75 * 7.25 + 0.25 * 13.5))


@pytest.mark.parametrize("extra", [{}, None, {"exit_shares": [1.0]}, {"exit_shares": [0.5, "half"], "branches": [3]}])
def test_a_manifest_that_does_not_say_costs_only_the_means(exported, tmp_path, extra):
    found = take_apart(with_manifest(exported[1], tmp_path / "onnx", extra=extra, costs=None), FakeDevice())
    assert found.mean(found.parts_ms) is None
    assert [path.name for path in found.paths] == ["", "final"]
    assert found.costs == {}


@pytest.mark.parametrize(("attach", "names"), [(["stem"], ["stem", "final"]), (["stem", "deep"], ["stem", "deep"])])
def test_exits_are_called_by_where_they_hang(exported, tmp_path, attach, names):
    extra = {"branches": [{"attach": name} for name in attach]}
    found = take_apart(with_manifest(exported[1], tmp_path / "onnx", extra=extra), FakeDevice())
    assert [path.name for path in found.paths] == names


def test_all_is_measured_in_one_go_and_whole_files_are_those_of_the_last_exit(exported):
    device = FakeDevice()
    found = take_apart(exported[1], device)
    assert set(device.jobs) == set(TIMES_MS)
    paths = [device.jobs[f"model.onnx forced to exit {number}"] for number in range(2)]
    assert paths[0].variant != paths[1].variant and paths[0].model != paths[1].model
    assert device.resided["model.onnx"] == device.profiled["model.onnx"] == paths[1].model
    assert (found.deepest.resident_mib, found.backbone.resident_mib) == (3.0, 4.0)
    assert (found.deepest.measurement.latency_ms, found.backbone.measurement.latency_ms) == (13.5, 11.0)
    assert found.deepest.size_mib == (exported[1] / "model.onnx").stat().st_size / 2**20


def test_blocks_that_are_not_steady_are_named(exported):
    class Restless(FakeDevice):
        def measure(self, jobs):
            names = ("start", "staged/branch_0.onnx", "model.onnx forced to exit 1", "backbone.onnx")
            return {name: measured(self.times_ms[name], steady=name not in names) for name in jobs}

    assert take_apart(exported[1], FakeDevice()).unsteady == []
    found = take_apart(exported[1], Restless())
    assert found.unsteady == ["start of a graph", "backbone", "branch 0", "path to exit 1"]


@pytest.mark.parametrize("name", ["staged/branch_1.onnx", "staged/segment_2.onnx", "backbone.onnx", "model.onnx"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_file_that_is_missing_or_damaged_is_named(exported, tmp_path, name, damage):
    folder = with_manifest(exported[2], tmp_path / "onnx")
    if damage == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(RunError, match=name):
        take_apart(folder, FakeDevice())


@pytest.mark.parametrize("branches", [0, 2])
def test_a_real_export_is_taken_apart_here(exported, branches):
    protocol = {"precision_pct": 20, "time_limit_s": 2}
    profile = HardwareProfile(name="here", description="", connection="local", protocol=protocol)
    with Device(profile) as device:
        found = take_apart(exported[branches], device)
    assert [part.kind for part in found.parts] == [*["segment", "branch"] * branches, "segment"]
    assert len(found.paths) == branches + 1
    for path in found.paths:
        assert sum(piece.ms for piece in found.pieces(path)) == pytest.approx(path.measurement.latency_ms)
    # The file was profiled on its way to the last exit: through every decision.
    assert sum(node.op == "If" for node in found.deepest.profile.nodes) == branches
    assert found.deepest.resident_mib >= 0 and found.backbone.measurement.latency_ms > 0


def test_exits_that_hear_each_other_are_taken_apart_too(toys, tmp_path):
    toy = replace(toys[2], policy=Policy("ensemble", (0.9, (0.9, None, 0.5))))
    protocol = {"precision_pct": 20, "time_limit_s": 2}
    with Device(HardwareProfile(name="here", description="", connection="local", protocol=protocol)) as device:
        found = take_apart(toy.export(tmp_path), device)
    assert [part.kind for part in found.parts] == ["segment", "branch", "segment", "branch", "segment"]
    assert [part.gate_ms > 0 for part in found.parts if part.kind == "segment"] == [False, False, True]
    # The file was profiled on its way to the last exit, past thresholds of both kinds.
    assert sum(node.op == "If" for node in found.deepest.profile.nodes) == 2
