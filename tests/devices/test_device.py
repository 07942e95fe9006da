from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from aebnas.devices import device as module
from aebnas.devices.device import Device, Job
from aebnas.devices.identity import identity_model
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.store import LatencyStore
from aebnas.devices.yardstick import yardstick_model
from aebnas.errors import MeasurementError, ProfileError

FACTS = {
    "event": "facts",
    "python": "3.12.1",
    "numpy": "2.0",
    "onnxruntime": "1.20",
    "runtime_problem": None,
    "providers": ["CPUExecutionProvider"],
    "machine": "toy",
    "cores": 4,
    "memory_mib": 8000.0,
    "free_disk_mib": 5000.0,
    "governor": None,
    "sensor": None,
}


class FakeClient:
    """Stands in for an agent: gives ``answer`` for every block that is not ``failing``."""

    asked: ClassVar[list[list[str]]] = []
    facts: ClassVar = FACTS
    answer: ClassVar = {"latency_ms": 2.0, "yardstick_ms": 0.1}
    failing: frozenset[str] = frozenset()
    lost_after: int | None = None

    def __init__(self, profile, patience_s) -> None:
        pass

    def ask(self, command, files, take, *, header=None, seconds=0.0):
        if command == "info":
            take(self.facts)
            return {}
        names = [name for name in files if not name.startswith("aebnas:")]
        self.asked.append(names)
        for number, name in enumerate(names):
            if number == self.lost_after:
                raise MeasurementError("lost half-way")
            if name not in self.failing:
                take(measured(name, **self.answer))
        return {name: MeasurementError(f"cannot run {name}") for name in names if name in self.failing}

    def close(self) -> None:
        pass


def measured(name, latency_ms, yardstick_ms, **changes):
    values = {"low_ms": latency_ms, "high_ms": latency_ms, "median_ms": latency_ms, "p95_ms": latency_ms, "runs": 45}
    rest = {"steady": True, "yardstick_spread_pct": 2.0, "peak_memory_mib": 1.0, "energy_mj": None}
    values |= {"latency_ms": latency_ms, "yardstick_ms": yardstick_ms, "energy_source": None}
    return {"event": "measured", "name": name, **values, **rest, **changes}


@pytest.fixture
def agent(monkeypatch):
    """The fake agent of every device of this test; its attributes may be set."""
    fake = type("Agent", (FakeClient,), {"asked": []})
    monkeypatch.setattr(module, "Client", fake)
    return fake


def profile(**changes) -> HardwareProfile:
    return HardwareProfile(**{"name": "here", "description": "", "connection": "local", **changes})


A, B, C = (Job(identity_model((width,))) for width in (2, 3, 4))


def test_a_known_block_is_not_measured_again(agent, tmp_path):
    for jobs in ({"a": A, "b": B}, {"again": A, "b": B, "c": C}):
        with Device(profile(), [LatencyStore(tmp_path)]) as device:
            assert list(device.measure(jobs)) == list(jobs)
    assert agent.asked == [["a", "b"], ["c"]]


def test_a_device_without_stores_remembers_while_it_is_open(agent):
    for _ in range(2):
        with Device(profile()) as device:
            assert device.measure({"a": A})["a"] == device.measure({"b": A})["b"]
    assert agent.asked == [["a"], ["a"]]


def test_equal_blocks_are_measured_once_unless_weights_decide_what_runs(agent):
    Device(profile()).measure({"a": A, "same": A, "early": Job(A.model, "exit 0"), "late": Job(A.model, "exit 1")})
    assert agent.asked == [["a", "early", "late"]]


@pytest.mark.parametrize(
    ("change", "facts"),
    [({"threads": 2}, {}), ({}, {"onnxruntime": "1.21"}), ({}, {"machine": "another"}), ({}, {"sensor": "package-0"})],
)
def test_what_is_known_is_for_this_profile_this_runtime_and_this_machine(agent, tmp_path, change, facts):
    store = LatencyStore(tmp_path)
    Device(profile(), [store]).measure({"a": A})
    agent.facts = FACTS | facts
    Device(profile(**change), [store]).measure({"a": A})
    assert agent.asked == [["a"], ["a"]]


def test_what_another_process_measured_meanwhile_is_not_measured_again(agent, tmp_path, monkeypatch):
    store = LatencyStore(tmp_path)

    def waited(*_):
        theirs = {"theirs": A.model}
        Device(profile(), [store])._measure(theirs, {"theirs": Device(profile())._key(A)}, lambda _: None)
        return module.contextlib.nullcontext()

    monkeypatch.setattr(module, "turn", waited)
    Device(profile(), [store]).measure({"a": A, "b": B})
    assert agent.asked == [["theirs"], ["b"]]


def test_times_are_told_at_the_speed_of_the_first_day(agent, tmp_path):
    first = Device(profile(), [LatencyStore(tmp_path)]).measure({"a": A})["a"]
    agent.answer = {"latency_ms": 4.0, "yardstick_ms": 0.2}
    second = Device(profile(), [LatencyStore(tmp_path)]).measure({"a": A, "b": B})
    assert (first.latency_ms, first.yardstick_ms) == (2.0, 0.1)
    assert second["a"] == first
    # On a day that is half as fast it took twice as long.
    assert second["b"].latency_ms == pytest.approx(2.0) and second["b"].yardstick_ms == pytest.approx(0.1)


def test_the_machines_noise_is_within_rounds_or_between_them(agent):
    device = Device(profile())
    assert device.noise_pct is None
    device.measure({"a": A})
    assert device.noise_pct == pytest.approx(2.0)
    agent.answer = {"latency_ms": 2.0, "yardstick_ms": 0.11}
    device.measure({"b": B})
    assert device.noise_pct == pytest.approx(10.0)


def test_a_block_that_fails_is_named_after_the_others_were_measured(agent, tmp_path):
    agent.failing = frozenset({"bad", "worse"})
    jobs = {"a": A, "worse": C, "bad": B}
    with pytest.raises(MeasurementError, match="cannot run worse"):
        Device(profile(), [LatencyStore(tmp_path)]).measure(jobs)
    agent.failing = frozenset()
    Device(profile(), [LatencyStore(tmp_path)]).measure(jobs)
    assert agent.asked == [["a", "worse", "bad"], ["worse", "bad"]]


def test_what_arrived_before_a_connection_was_lost_is_kept(agent, tmp_path):
    agent.lost_after = 2
    jobs = {"a": A, "b": B, "c": C}
    with pytest.raises(MeasurementError, match="lost half-way"):
        Device(profile(), [LatencyStore(tmp_path)]).measure(jobs)
    agent.lost_after = None
    Device(profile(), [LatencyStore(tmp_path)]).measure(jobs)
    assert agent.asked == [["a", "b", "c"], ["c"]]


@pytest.mark.parametrize(
    ("power", "sensor", "energy_mj", "source"),
    [
        (None, {}, None, None),
        ({"active_w": 5}, {}, 10.0, "profile"),
        ({"active_w": 5}, {"energy_mj": 7.0, "energy_source": "ina3221"}, 7.0, "ina3221"),
    ],
)
def test_energy_is_read_from_a_sensor_else_reckoned_from_power_else_unknown(agent, power, sensor, energy_mj, source):
    agent.answer = FakeClient.answer | sensor
    one = Device(profile(power=power)).measure({"a": A})["a"]
    assert (one.energy_mj, one.energy_source) == (energy_mj, source)


def test_reckoned_energy_is_not_remembered(agent, tmp_path):
    Device(profile(power={"active_w": 5}), [LatencyStore(tmp_path)]).measure({"a": A})
    assert Device(profile(), [LatencyStore(tmp_path)]).measure({"a": A})["a"].energy_mj is None


def test_a_device_elsewhere_says_what_to_do():
    with pytest.raises(ProfileError, match=r"cannot be measured from here: choose objectives in MACs.*--device local"):
        Device(profile(connection="none"))


@pytest.mark.parametrize(
    ("facts", "error", "message"),
    [
        ({"providers": []}, ProfileError, "has no provider 'CPU'"),
        ({"onnxruntime": None, "runtime_problem": "no onnxruntime"}, MeasurementError, "no onnxruntime.*pip install"),
    ],
)
def test_what_measuring_needs_is_asked_for_first(agent, facts, error, message):
    agent.facts = FACTS | facts
    for use in (Device.require, lambda device: device.measure({"a": A}), lambda device: device.nodes({"a": A.model})):
        with pytest.raises(error, match=message):
            use(Device(profile()))
    assert agent.asked == []


def test_no_jobs_need_no_measuring(agent):
    assert Device(profile()).measure({}) == {}
    assert agent.asked == []


QUICK = {"precision_pct": 20, "time_limit_s": 2}


@pytest.fixture
def here():
    """This machine, with a real agent."""
    with Device(profile(protocol=QUICK)) as device:
        yield device


def test_this_machine_measures(here):
    measured = here.measure({"copy": A, "net": Job(yardstick_model())})
    assert 0 < measured["copy"].latency_ms < measured["net"].latency_ms
    assert measured["net"].low_ms <= measured["net"].latency_ms <= measured["net"].high_ms


def test_this_machine_names_a_block_that_it_cannot_run_and_measures_on(here):
    bad = Job(identity_model((2,)).replace(b"Identity", b"NoSuchOp"))
    with pytest.raises(MeasurementError, match=r"cannot load or run 'bad': .*measured with hardware profile 'here'"):
        here.measure({"bad": bad, "copy": A})
    assert here.measure({"copy": A})["copy"].runs > 0


def test_an_agent_that_died_is_started_again(here):
    assert here.facts().onnxruntime is not None
    here._client._link._process.terminate()
    here._client._link._process.wait()
    assert here.resident({"net": yardstick_model()})["net"] > 0


def test_whole_networks_run_on_real_inputs(here):
    images = np.random.default_rng(0).standard_normal((4, 8, 32, 32))
    ran = here.run({"one": yardstick_model(), "two": yardstick_model()}, images, outputs={"one": ["output"]})
    assert ran["one"].outputs["output"].shape == (4, 10) and ran["two"].outputs == {}
    assert (ran["one"].latency_ms > 0).all() and ran["two"].latency_ms.shape == (4,)


def test_nodes_add_up_to_the_wall_clock(here):
    profile_ = here.nodes({"net": yardstick_model()})["net"]
    assert sum(profile_.us_by_operator().values()) == pytest.approx(profile_.wall_us)
    assert {"Conv", "MatMul"} <= profile_.us_by_operator().keys()
    assert all(node.provider == "CPUExecutionProvider" for node in profile_.nodes)


def test_blocks_are_counted_as_they_come_to_be_known(agent, tmp_path):
    Device(profile(), [LatencyStore(tmp_path)]).measure({"a": A})
    told = []
    with Device(profile(), [LatencyStore(tmp_path)]) as device:
        device.measure({"a": A, "b": B, "same": B, "c": C}, told.append)
    assert told == [2, 0, 1, 1]


@pytest.mark.parametrize(("now_ms", "factor"), [(0.2, 0.5), (0.05, 2.0)])
def test_whole_runs_can_be_told_at_the_speed_that_blocks_are_told_at(agent, now_ms, factor):
    def ask(self, command, files, take, *, header=None, seconds=0.0):
        if command == "run":
            assert header["yardstick"] in files
            for name in files:
                times = [now_ms] * 4 if name == header["yardstick"] else [1.0, 2.0, 3.0, 4.0]
                if name != "inputs.npy":
                    take({"event": "ran", "name": name, "latency_ms": times, "outputs": {}})
            return {}
        return FakeClient.ask(self, command, files, take, header=header, seconds=seconds)

    agent.ask = ask
    with Device(profile()) as device:
        device.measure({"a": A})  # the yardstick takes 0.1 ms now: the reference
        ran = device.run({"net": A.model}, np.zeros((4, 2), np.float32), scaled=True)
    assert list(ran) == ["net"]
    np.testing.assert_allclose(ran["net"].latency_ms, factor * np.array([1.0, 2.0, 3.0, 4.0]))


def test_a_whole_run_beside_the_yardstick_is_measured_for_real():
    with Device(profile()) as device:
        ran = device.run({"net": A.model}, np.zeros((5, 2), np.float32), outputs={"net": ["output"]}, scaled=True)
    assert ran["net"].outputs["output"].shape == (5, 2)
    assert (ran["net"].latency_ms > 0).all()


def test_blocks_are_remembered_for_one_yardstick(agent, tmp_path):
    for yardstick in (B.model, C.model, B.model):
        with Device(profile(), [LatencyStore(tmp_path)]) as device:
            device.use_yardstick(yardstick)
            device.measure({"a": A})
    assert agent.asked == [["a"], ["a"]]


def test_every_stretch_of_a_run_is_told_by_its_own_yardstick(agent):
    slow_ms = np.repeat([0.1, 0.3], 48)

    def ask(self, command, files, take, *, header=None, seconds=0.0):
        if command != "run":
            return FakeClient.ask(self, command, files, take, header=header, seconds=seconds)
        for name in files:
            if name != "inputs.npy":
                take({"event": "ran", "name": name, "latency_ms": (20 * slow_ms).tolist(), "outputs": {}})
                if name == header["yardstick"]:
                    take({"event": "ran", "name": name, "latency_ms": slow_ms.tolist(), "outputs": {}})
        return {}

    agent.ask = ask
    with Device(profile()) as device:
        device.measure({"a": A})
        ran = device.run({"net": A.model}, np.zeros((96, 2), np.float32), scaled=True)
    np.testing.assert_allclose(ran["net"].latency_ms, 2.0)
