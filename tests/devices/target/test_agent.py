"""The agent end to end: the archive that is copied to a target, run there by a Python that knows nothing of aebnas."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from aebnas.devices.identity import identity_model
from aebnas.devices.target.memory import TINY_MODEL
from aebnas.devices.yardstick import yardstick_model

SETTINGS = {"threads": 1, "affinity": None, "provider": "CPUExecutionProvider", "provider_options": {}}
PROTOCOL = {"precision_pct": 50, "time_limit_s": 5}
DONE = {"event": "done"}


def test_the_agent_imports_nothing_from_around_it(target):
    """Though aebnas is installed for the Python that runs this test."""
    tell = "[print(m.__file__, file=sys.stderr) for n, m in list(sys.modules.items()) if n.startswith('aebnas')]"
    agent = target.start(code=f"import atexit, sys; atexit.register(lambda: {tell})")
    _, complaints = agent.communicate(target.frame("nodes", {"net": TINY_MODEL}), timeout=60)
    loaded = [line for line in complaints.decode().splitlines() if not line.startswith("opening")]
    assert len(loaded) > 10
    assert all(path.startswith(str(target.archive)) for path in loaded)


def test_info(target):
    (facts, done) = target.ask(target.frame("info"))
    assert done == DONE
    assert facts["event"] == "facts"
    assert (facts["numpy"], facts["onnxruntime"]) == (np.__version__, ort.__version__)
    assert facts["providers"] == ort.get_available_providers()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert facts["runtime_problem"] is None and facts["noise_pct"] is None
    assert facts["free_disk_mib"] > 0 and facts["memory_mib"] > 0


def test_blocks_are_measured_and_a_bad_one_does_not_spoil_them(target, exiting):
    files = {"yard": yardstick_model(), "a/b": exiting, "bad": b"not a model", "copy": identity_model((3, 4, 4))}
    events = target.ask(
        target.frame("measure", files, settings=SETTINGS, protocol=PROTOCOL, yardstick="yard"),
        target.frame("measure", {"yard": yardstick_model()}, settings=SETTINGS, yardstick="yard"),
    )
    assert events[3:] == [DONE, DONE]
    error = events.pop(0)
    assert (error["event"], error["kind"], error["name"]) == ("error", "block", "bad")
    assert "'bad'" in error["message"] and "\n" not in error["message"] and "/" not in error["message"]
    assert {event["name"] for event in events[:2]} == {"a/b", "copy"}
    for event in events[:2]:
        assert event["event"] == "measured"
        assert 0 < event["low_ms"] <= event["latency_ms"] <= event["high_ms"]
        assert event["latency_ms"] <= event["median_ms"] <= event["p95_ms"]
        assert event["runs"] >= 45 and event["yardstick_ms"] > 0 and event["yardstick_spread_pct"] >= 0
        assert (event["energy_mj"] is None) == (event["energy_source"] is None)
    assert events[0]["peak_memory_mib"] > 0


def test_energy_is_told_where_there_is_a_sensor(target, tmp_path):
    monitor = tmp_path / "sys/class/hwmon/hwmon0"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("ina226")
    (monitor / "power1_input").write_text("3000000")
    code = (
        f"import sys; sys.path.insert(0, {str(target.archive)!r}); from aebnas.devices.target import energy; "
        f"real = energy.find_sensor; energy.find_sensor = lambda root='/': real({str(tmp_path)!r})"
    )
    files = {"yard": yardstick_model(), "block": yardstick_model()}
    header = {"settings": SETTINGS, "protocol": PROTOCOL, "yardstick": "yard"}
    facts, _, measured, _ = target.ask(target.frame("info"), target.frame("measure", files, **header), code=code)
    assert facts["sensor"] == measured["energy_source"] == "ina226"
    assert measured["energy_mj"] >= 3 * measured["low_ms"] / 2  # 3 W for about as long as the block takes


def test_nodes(target, exiting):
    (profile, error, done) = target.ask(target.frame("nodes", {"net": exiting, "bad": b""}, settings=SETTINGS))
    assert profile["event"] == "nodes" and profile["name"] == "net" and profile["wall_us"] > 0
    names = [node["name"] for node in profile["nodes"]]
    assert "exit" in names and sum(name.startswith("exit/") for name in names) >= 1
    assert {tuple(node) for node in profile["nodes"]} == {
        ("name", "op", "us", "provider", "input_shapes", "output_shapes")
    }
    assert profile["peak_memory_mib"] > 0
    assert (error["kind"], error["name"], done) == ("block", "bad", DONE)


def test_resident(target, exiting):
    (resident, error, done) = target.ask(target.frame("resident", {"net": exiting, "bad": b"x"}, settings=SETTINGS))
    assert resident["event"] == "resident" and resident["name"] == "net" and 0 < resident["resident_mib"] < 500
    assert (error["kind"], error["name"], done) == ("block", "bad", DONE)


def test_networks_run_on_real_inputs(target, exiting):
    images = np.random.default_rng(0).standard_normal((10, 3, 8, 8)).astype(np.float32)
    files = {"net.onnx": exiting, "inputs.npy": target.npy(images), "bad.onnx": b"x", "other.onnx": exiting}
    wanted = {"net.onnx": ["left_early", "output"]}
    events = target.ask(target.frame("run", files, settings=SETTINGS, repeats=2, burst=4, outputs=wanted))
    assert events.pop() == DONE
    answers = {event["name"]: event for event in events}
    assert answers["bad.onnx"]["kind"] == "block"
    session = ort.InferenceSession(exiting)
    expected = [session.run(["left_early", "output"], {"input": image[None]}) for image in images]
    given = answers["net.onnx"]["outputs"]
    assert given["left_early"] == [int(early) for early, _ in expected]
    assert 0 < sum(given["left_early"]) < 10
    assert np.array(given["output"]) == pytest.approx(np.concatenate([output for _, output in expected]), abs=1e-5)
    assert len(answers["net.onnx"]["latency_ms"]) == 10 and min(answers["net.onnx"]["latency_ms"]) > 0
    assert answers["other.onnx"]["outputs"] == {} and len(answers["other.onnx"]["latency_ms"]) == 10


def test_a_network_that_fails_half_way_is_named_and_the_others_are_run(target, exiting):
    images = np.arange(8, dtype=np.float32).reshape(4, 2)
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Cast", ["input"], ["index"], to=onnx.TensorProto.INT64),
        onnx.helper.make_node("Gather", ["input", "index"], ["output"], axis=1),  # the second image reaches too far
    ]
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(nodes, "trap", [value("input", floats, [1, 2])], [value("output", floats, None)])
    trap = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    files = {"trap": trap.SerializeToString(), "copy": identity_model((2,)), "inputs.npy": target.npy(images)}
    error, ran, done = target.ask(target.frame("run", files, settings=SETTINGS))
    assert (error["event"], error["kind"], error["name"]) == ("error", "block", "trap")
    assert (ran["event"], ran["name"], done) == ("ran", "copy", DONE)


REFUSED = {
    "no such command": ("request", "no command 'dance'", {"command": "dance"}),
    "no command": ("request", "command is None", {"command": None}),
    "no threads": ("request", "threads is 0", {"settings": {**SETTINGS, "threads": 0}}),
    "threads in words": ("request", "threads is 'two'", {"settings": {**SETTINGS, "threads": "two"}}),
    "settings in a list": ("request", "settings is", {"settings": [1]}),
    "a core in words": ("request", "affinity is", {"settings": {**SETTINGS, "affinity": ["first"]}}),
    "a core far away": ("request", "affinity is [4095]", {"settings": {**SETTINGS, "affinity": [4095]}}),
    "no core": ("request", "affinity is []", {"settings": {**SETTINGS, "affinity": []}}),
    "no yardstick": ("request", "yardstick is", {"yardstick": "inch"}),
    "a provider": ("provider", "'MoonProvider': it offers", {"settings": {"provider": "MoonProvider"}}),
    "precision in words": ("request", "precision_pct is", {"protocol": {"precision_pct": "high"}}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_is_wrong_is_refused_and_the_next_one_served(target, case):
    kind, message, change = REFUSED[case]
    header = {"settings": SETTINGS, "yardstick": "yard", **change}
    command = header.pop("command", "measure")
    files = {"yard": TINY_MODEL, "block": TINY_MODEL}
    error, *rest = target.ask(target.frame(command, files, **header), target.frame("info"))
    assert (error["event"], error["kind"], error["name"]) == ("error", kind, None)
    assert message in error["message"]
    assert [event["event"] for event in rest] == ["facts", "done"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "there is no file inputs.npy"),
        (b"\x93NUMPY", "damaged"),
        (np.zeros((2, 1)), "float64"),
        (np.zeros((0, 1), np.float32), "(0, 1)"),
    ],
)
def test_inputs_that_are_wrong_are_refused(target, inputs, message):
    content = target.npy(inputs) if isinstance(inputs, np.ndarray) else inputs
    files = {"net": TINY_MODEL} | ({"inputs.npy": content} if content else {})
    (error,) = target.ask(target.frame("run", files, settings=SETTINGS))
    assert (error["kind"], error["name"]) == ("request", None)
    assert message in error["message"]


def test_outputs_that_are_not_there_are_refused_by_name(target):
    files = {"net": TINY_MODEL, "inputs.npy": target.npy(np.zeros((1,), np.float32))}
    error, done = target.ask(target.frame("run", files, settings=SETTINGS, outputs={"net": ["z"]}))
    assert (error["kind"], error["name"], done) == ("request", "net", DONE)
    assert "choose from y" in error["message"]


def test_a_bad_yardstick_ends_the_request(target):
    files = {"yard": b"bent", "block": TINY_MODEL}
    (error,) = target.ask(target.frame("measure", files, settings=SETTINGS, yardstick="yard"))
    assert (error["kind"], error["name"]) == ("block", None) and "'yard'" in error["message"]


def test_threads_are_settled_by_the_first_request(target):
    other = {**SETTINGS, "threads": 2}
    events = target.ask(
        target.frame("nodes", {"net": TINY_MODEL}, settings=SETTINGS),
        target.frame("nodes", {"net": TINY_MODEL}, settings=other),
        target.frame("nodes", {"net": TINY_MODEL}, settings=SETTINGS),
    )
    assert [event["event"] for event in events] == ["nodes", "done", "error", "nodes", "done"]
    assert events[2]["kind"] == "request" and "threads or affinity" in events[2]["message"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_the_process_is_pinned_to_the_cores_asked_for(target):
    core = max(os.sched_getaffinity(0))
    agent = target.start()
    agent.stdin.write(target.frame("nodes", {"net": TINY_MODEL}, settings={**SETTINGS, "affinity": [core]}))
    agent.stdin.flush()
    while json.loads(agent.stdout.readline()) != DONE:
        pass
    assert os.sched_getaffinity(agent.pid) == {core}
    agent.communicate(timeout=60)


def test_a_missing_runtime_is_named_and_info_works_all_the_same(target):
    code = "import sys; sys.modules['onnxruntime'] = None"
    facts, done, error = target.ask(target.frame("info"), target.frame("nodes", {"net": TINY_MODEL}), code=code)
    assert (facts["onnxruntime"], facts["providers"], done) == (None, [], DONE)
    assert facts["runtime_problem"] == "onnxruntime is not installed"
    assert error["kind"] == "runtime" and "pip install onnxruntime" in error["message"]


def test_a_runtime_that_is_too_old_is_named(target):
    code = "import sys, types; old = sys.modules['onnxruntime'] = types.ModuleType('o'); old.__version__ = '1.9.0'"
    (error,) = target.ask(target.frame("nodes", {"net": TINY_MODEL}), code=code)
    assert error["kind"] == "runtime" and "1.9.0 is older than 1.12" in error["message"]


def test_a_folder_that_cannot_be_written_is_named_and_the_next_request_served(target, tmp_path):
    missing = tmp_path / "not there"
    net = {"net": TINY_MODEL * 10_000}
    first, second = target.ask(target.frame("nodes", net), target.frame("nodes", net), folder=missing)
    for error in (first, second):
        assert (error["kind"], error["name"]) == ("disk", None) and str(missing) in error["message"]


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_the_next_request_served(target, tiny_disk):
    big = {"net": bytes(300_000), "more": bytes(10)}
    error, *rest = target.ask(target.frame("nodes", big), target.frame("info"), folder=tiny_disk)
    assert (error["kind"], error["name"]) == ("disk", None) and "No space left" in error["message"]
    assert [event["event"] for event in rest] == ["facts", "done"]
    assert list(tiny_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_a_model_is_profiled_is_told(target, tiny_disk):
    (tiny_disk / "others").write_bytes(bytes(60_000))
    (error,) = target.ask(target.frame("nodes", {"net": TINY_MODEL}, settings=SETTINGS), folder=tiny_disk)
    assert error["kind"] == "disk" and "the profile could not be written" in error["message"]


def test_what_libraries_print_does_not_spoil_the_answers(target):
    code = (
        "import atexit, os, sys, types; "
        "noisy = types.ModuleType('numpy'); "
        "noisy.__getattr__ = lambda name: (print('hello'), os.write(1, b'hello\\n')) and '0'; "
        "sys.modules['numpy'] = noisy"
    )
    events = target.ask(target.frame("info"), code=code)
    assert [event["event"] for event in events] == ["facts", "done"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\n", b"[]\n", b'{"files": [{"name": "x"}]}\n', b"\xff\xfe\n",
                                     b'{"files": [{"name": "x", "size": -1}]}\n'])  # fmt: skip
def test_what_is_no_request_is_refused(target, garbage):
    (error,) = target.ask(garbage, target.frame("info"))
    assert error["kind"] == "request"


def test_an_input_that_ends_in_the_middle_leaves_nothing_behind(target):
    assert target.ask(target.frame("nodes", {"net": TINY_MODEL})[:-5]) == []


def busy(target):
    """An agent in the middle of a measurement that takes minutes."""
    agent = target.start()
    protocol = {"precision_pct": 1e-9, "time_limit_s": 300}
    files = {"yard": yardstick_model(), "block": yardstick_model()}
    agent.stdin.write(target.frame("measure", files, settings=SETTINGS, protocol=protocol, yardstick="yard"))
    agent.stdin.flush()
    assert json.loads(agent.stdout.readline())["event"] == "ready"
    while not list(target.folder.iterdir()):
        assert agent.poll() is None
    assert not select.select([agent.stdout], [], [], 0.5)[0]
    return agent


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_an_agent_that_is_stopped_leaves_nothing_behind(target, name):
    agent = busy(target)
    agent.send_signal(getattr(signal, name))
    _, complaints = agent.communicate(timeout=60)
    assert agent.returncode == 128 + getattr(signal, name)
    assert list(target.folder.iterdir()) == []
    assert complaints.decode().splitlines() == ["opening 'yard'", "opening 'block'"]


def test_a_model_that_crashes_onnxruntime_is_the_last_word(target):
    code = "import os, onnxruntime; onnxruntime.InferenceSession = lambda *_, **__: os.abort()"
    agent = target.start(code=code)
    _, complaints = agent.communicate(target.frame("nodes", {"first": TINY_MODEL, "next": TINY_MODEL}), timeout=60)
    assert agent.returncode == -signal.SIGABRT
    assert complaints.decode().splitlines()[-1] == "opening 'first'"


def test_an_agent_that_nobody_listens_to_stops(target):
    agent = busy(target)
    agent.stdout.close()
    assert agent.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(target.folder.iterdir()) == []
    agent.stdin.close()
    agent.stderr.close()
