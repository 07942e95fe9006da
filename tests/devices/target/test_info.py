from __future__ import annotations

import platform

import numpy
import pytest

from aebnas.devices.target.info import facts, installed, machine


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_server_is_named_after_its_processor(tmp_path):
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Xeon 9000\nmodel name\t: other\n")
    assert machine(tmp_path) == f"{platform.machine()} Xeon 9000"


def test_a_board_is_named_too(tmp_path):
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1\n")
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Nano\0")
    assert machine(tmp_path) == f"{platform.machine()} ARMv8 Processor rev 1 NVIDIA Jetson Nano"


def test_a_board_that_its_processor_is_named_after_is_named_once(tmp_path):
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nModel\t\t: Raspberry Pi 5\n")
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5\0")
    assert machine(tmp_path) == f"{platform.machine()} Raspberry Pi 5"


def test_a_machine_that_tells_nothing_has_its_architecture(tmp_path):
    assert machine(tmp_path).startswith(platform.machine())


def test_governor_and_sensor_are_found(tmp_path):
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    write(tmp_path / "sys/class/powercap/intel-rapl:0/name", "package-0\n")
    write(tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj", "1\n")
    known = facts(str(tmp_path), tmp_path)
    assert (known["governor"], known["sensor"]) == ("powersave", "RAPL package-0")
    assert known["python"] == platform.python_version()


def test_what_is_not_there_is_none(tmp_path):
    known = facts(str(tmp_path / "gone"), tmp_path)
    assert (known["governor"], known["sensor"], known["free_disk_mib"]) == (None, None, None)


def test_what_is_installed_is_there():
    assert installed("numpy") == (numpy, None)


def test_a_missing_package_is_named():
    assert installed("surely_not_there") == (None, "surely_not_there is not installed")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import surely_not_there", "surely_not_there is not installed"),
        (
            "raise OSError('libgomp.so.1:\\n not found')",
            "is installed but cannot be imported (libgomp.so.1: not found)",
        ),
    ],
)
def test_a_broken_package_says_what_is_wrong(tmp_path, monkeypatch, text, problem):
    (tmp_path / "broken_package.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    module, told = installed("broken_package")
    assert module is None and problem in told
