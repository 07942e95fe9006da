from __future__ import annotations

import pytest

from aebnas.devices.check import findings
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.results import Facts
from aebnas.errors import MeasurementError


def facts(**changes) -> Facts:
    values = {
        "python": "3.12.1",
        "numpy": "2.0",
        "onnxruntime": "1.20",
        "runtime_problem": None,
        "providers": ("AzureExecutionProvider", "CPUExecutionProvider"),
        "machine": "aarch64 Cortex-A76",
        "cores": 4,
        "memory_mib": 8000.0,
        "free_disk_mib": 5000.0,
        "governor": "performance",
        "sensor": "ina3221",
    }
    return Facts(**{**values, **changes})


def profile(**changes) -> HardwareProfile:
    return HardwareProfile(**{"name": "board", "description": "", "connection": {"ssh": "pi@pi5"}, **changes})


def found(profile_, facts_, trial=lambda: 1.0):
    return {finding.what: finding for finding in findings(profile_, facts_, trial)}


def test_a_device_with_everything_needs_nothing():
    result = found(profile(threads=4), facts())
    assert all(finding.ok and not finding.fix for finding in result.values())
    assert result["provider"].text == "CPU is among CPU"
    assert result["trial"].text == "measured; this machine varies by 1.0 %"


@pytest.mark.parametrize(
    ("wanted", "has", "what", "text", "fix"),
    [
        ({"provider": "CUDA"}, {}, "provider", "CUDA is not among CPU", "onnxruntime-gpu"),
        ({"provider": "XNNPACK"}, {}, "provider", "XNNPACK is not among CPU", "--use_xnnpack"),
        ({"threads": 8}, {}, "threads", "8 on 4 cores", "set threads to 4 or less"),
        ({}, {"free_disk_mib": 3.0}, "disk", "3 MiB free", "connection.folder"),
        (
            {},
            {"onnxruntime": None, "providers": (), "runtime_problem": "libgomp is missing"},
            "onnxruntime",
            "libgomp is missing",
            "`ssh pi@pi5 python3 -m pip install numpy onnxruntime`",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_to_do_and_nothing_is_tried(wanted, has, what, text, fix):
    result = found(profile(**wanted), facts(**has), trial=pytest.fail)
    assert [name for name, finding in result.items() if not finding.ok] == [what]
    assert text in result[what].text and fix in result[what].fix
    assert "trial" not in result


def test_a_trial_that_fails_says_why():
    def trial() -> float:
        raise MeasurementError("the provider does not start")

    result = found(profile(), facts(), trial)
    assert not result["trial"].ok and result["trial"].fix == "the provider does not start"


@pytest.mark.parametrize(
    ("has", "trial_pct", "what", "fix"),
    [
        ({"governor": "ondemand"}, 1.0, "clock", "performance"),
        ({"sensor": None}, 1.0, "energy", "power.active_w"),
        ({}, 30.0, "trial", "stop what else runs there"),
    ],
)
def test_what_could_be_better_is_said_but_is_no_fault(has, trial_pct, what, fix):
    result = found(profile(), facts(**has), lambda: trial_pct)
    assert all(finding.ok for finding in result.values())
    assert fix in result[what].fix


def test_what_a_machine_does_not_tell_is_left_out():
    result = found(
        profile(power={"active_w": 3}), facts(memory_mib=None, free_disk_mib=None, governor=None, sensor=None)
    )
    assert {"memory", "disk", "clock"}.isdisjoint(result)
    assert result["energy"].text == "no readable sensor: from active power"
