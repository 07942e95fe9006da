from __future__ import annotations

import pytest
import yaml

from aebnas.devices.profile import (
    HardwareProfile,
    Limits,
    Power,
    Protocol,
    SshConnection,
    list_profiles,
    load_profile,
)
from aebnas.errors import ProfileError


def test_the_packaged_profiles_are_there():
    assert set(list_profiles()) >= {
        "local",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "jetson-orin-nano",
        "cortex-a-phone",
        "x86-server",
    }


@pytest.mark.parametrize("name", list_profiles())
def test_a_packaged_profile_is_valid_and_called_like_its_file(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description
    # What was never measured comes without invented figures.
    assert profile.limits == Limits() and profile.power is None


def test_a_profile_is_read_from_a_path(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text("name: board\ndescription: mine\nthreads: 3\nlimits: {latency_ms: 2.5}\nconnection: local\n")
    profile = load_profile(path)
    assert profile == load_profile(str(path))
    assert (profile.threads, profile.limits.latency_ms, profile.limits.macs_m) == (3, 2.5, None)
    assert profile.provider == "CPUExecutionProvider"


EVERYTHING = """\
name: board
description: every key
provider: xnnpack
provider_options: {intra_op_num_threads: 2, fast: true, level: high, ratio: 0.5}
threads: 2
affinity: [2, 3]
precision: [fp32, int8]
connection:
  ssh: pi@pi5
  command: [ssh, -p, "2222"]
  python: ~/aebnas/bin/python
  folder: /dev/shm
  connect_timeout_s: 5
limits: {latency_ms: 1, latency_p95_ms: 2, macs_m: 3, model_mib: 4, peak_memory_mib: 5, energy_mj: 6}
power: {active_w: 4.5}
protocol: {precision_pct: 3, time_limit_s: 20}
notes: none
"""


def test_every_key_is_read_and_comes_back_from_what_is_written(tmp_path):
    path = tmp_path / "board.yaml"
    path.write_text(EVERYTHING)
    profile = load_profile(path)
    assert profile.provider == "XnnpackExecutionProvider"
    assert profile.provider_options == {"intra_op_num_threads": 2, "fast": True, "level": "high", "ratio": 0.5}
    assert profile.affinity == (2, 3)
    assert profile.precisions == ("fp32", "int8")
    assert profile.connection == SshConnection(
        ssh="pi@pi5",
        command=("ssh", "-p", "2222"),
        python="~/aebnas/bin/python",
        folder="/dev/shm",
        connect_timeout_s=5,
    )
    assert profile.limits == Limits(
        latency_ms=1, latency_p95_ms=2, macs_m=3, model_mib=4, peak_memory_mib=5, energy_mj=6
    )
    assert profile.power == Power(active_w=4.5)
    assert profile.protocol == Protocol(precision_pct=3, time_limit_s=20)
    assert HardwareProfile.model_validate(yaml.safe_load(yaml.safe_dump(profile.model_dump(mode="json")))) == profile


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("CPU", "CPUExecutionProvider"),
        ("cuda", "CUDAExecutionProvider"),
        ("TensorRT", "TensorrtExecutionProvider"),
        ("tensorrt", "TensorrtExecutionProvider"),
        ("DirectML", "DmlExecutionProvider"),
        ("NnapiExecutionProvider", "NnapiExecutionProvider"),
        ("NewExecutionProvider", "NewExecutionProvider"),
    ],
)
def test_a_provider_has_a_short_and_a_full_name(given, full):
    assert HardwareProfile(name="a", description="", provider=given).provider == full


@pytest.mark.parametrize(
    ("connection", "measurable", "place"),
    [("local", True, "local"), ("none", False, "none"), ({"ssh": "pi@pi5"}, True, "ssh pi@pi5")],
)
def test_a_device_can_be_measured_unless_there_is_no_way_to_it(connection, measurable, place):
    profile = HardwareProfile(name="a", description="", connection=connection)
    assert (profile.measurable, profile.place) == (measurable, place)


def test_an_unknown_name_comes_with_the_nearest_one():
    with pytest.raises(ProfileError, match="no hardware profile 'raspbery-pi-4': did you mean 'raspberry-pi-4'"):
        load_profile("raspbery-pi-4")


def line(text: str) -> str:
    return f"name: a\ndescription: b\n{text}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (line("threads: 0"), "threads: .*greater than or equal to 1"),
        (line("limits: {latency_ms: 0}"), r"limits\.latency_ms: .*greater than 0"),
        (line("limits: {latency: 1}"), r"no key 'limits\.latency'.*limits\.latency_ms"),
        (line("thread: 1"), "did you mean 'threads'"),
        (line("connection: ssh"), r"connection: must be local, none or \{ssh: user@host\} \(got 'ssh'\)"),
        (line("connection: [local]"), "connection: must be local, none or"),
        (line("connection: {python: python3}"), r"connection\.ssh: is missing"),
        (line("connection: {ssh: a@b, pyhton: x}"), r"no key 'connection\.pyhton': did you mean 'connection\.python'"),
        (line("connection: {ssh: -oProxyCommand=x}"), r"connection\.ssh: must be user@host"),
        (line("connection: {ssh: a b}"), r"connection\.ssh: must be user@host"),
        (line("connection: {ssh: a, command: ssh -p 2}"), r"connection\.command: must be a list"),
        (line("provider: cpus"), "provider: there is no provider 'cpus'.*known are CPU, XNNPACK"),
        (line("provider: ExecutionProvider"), "provider: there is no provider"),
        (line("precision: int4"), "precision: must be fp32, fp16, int8 or a list of them"),
        (line("precision: []"), "precision: must be fp32, fp16, int8 or a list of them"),
        (line("precision: [int4]"), r"precision\.0: Input should be 'fp32', 'fp16' or 'int8'"),
        (line("precision: [int8, int8]"), "precision: names one twice"),
        (line("threads: 2\naffinity: [1]"), "affinity: needs a core for each of the 2 threads"),
        (line("affinity: [-1]"), r"affinity\.0: .*greater than or equal to 0"),
        (line("power: {}"), r"power\.active_w: is missing"),
        (line("protocol: {precision_pct: 0}"), r"protocol\.precision_pct: .*greater than 0"),
        ("description: b\n", "name: is missing"),
        ("[]", "must hold keys and values"),
        ("a: [", "not valid YAML at line"),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_the_key(tmp_path, text, message):
    path = tmp_path / "board.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=message) as caught:
        load_profile(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "form:" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"none\.yaml does not exist"):
        load_profile(tmp_path / "none.yaml")


BASE = {"name": "a", "description": "", "connection": {"ssh": "pi@pi5"}, "threads": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b", "notes": "x", "description": "y"},
        {"limits": {"latency_ms": 1}},
        {"power": {"active_w": 5}},
        {"precision": "int8"},
        {"protocol": {"precision_pct": 5}},
        {"connection": {"ssh": "pi@pi5", "command": ["ssh", "-v"], "python": "python3.12", "connect_timeout_s": 3}},
    ],
)
def test_what_latency_does_not_depend_on_is_not_in_the_fingerprint(change):
    assert HardwareProfile(**BASE | change).fingerprint == HardwareProfile(**BASE).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 2},
        {"provider": "CUDA"},
        {"provider_options": {"a": 1}},
        {"affinity": [0]},
        {"connection": "local"},
        {"connection": {"ssh": "pi@pi4"}},
    ],
)
def test_what_latency_depends_on_is_in_the_fingerprint(change):
    assert HardwareProfile(**BASE | change).fingerprint != HardwareProfile(**BASE).fingerprint
