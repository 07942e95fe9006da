from __future__ import annotations

import pytest

from aebnas.devices.target.energy import find_sensor


class Machine:
    """A tree of sensor files under ``root`` and a clock; a run takes ``run_s`` and moves the counters."""

    def __init__(self, root) -> None:
        self.root, self.now, self.runs, self.run_s = root, 0.0, 0, 0.004
        self.after_run = lambda: None

    def write(self, **files) -> None:
        """Write files of one folder, given as FOLDER with its files as the mapping's items."""
        for name, value in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")

    def run(self) -> None:
        self.now += self.run_s
        self.runs += 1
        self.after_run()

    def energy_mj(self, at_least_s=0.1):
        return find_sensor(self.root).energy_of(self.run, at_least_s, lambda: self.now)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


RAPL = "sys/class/powercap"


def package(machine, number, energy_uj, limit_uj=1_000_000):
    folder = f"{RAPL}/intel-rapl:{number}"
    machine.write(**{
        f"{folder}/name": f"package-{number}",
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": limit_uj,
    })  # fmt: skip
    return machine.root / folder / "energy_uj"


def test_a_machine_without_sensors_has_none(machine):
    assert find_sensor(machine.root) is None


def test_packages_are_added_up_and_their_parts_are_not(machine):
    counters = [package(machine, 0, 0), package(machine, 1, 500)]
    machine.write(**{f"{RAPL}/intel-rapl:0:0/name": "core", f"{RAPL}/intel-rapl:0:0/energy_uj": 10**6})
    machine.write(**{f"{RAPL}/intel-rapl:2/name": "psys", f"{RAPL}/intel-rapl:2/energy_uj": 10**6})

    def move():
        counters[0].write_text(f"{3000 * machine.runs}")
        counters[1].write_text(f"{500 + 1000 * machine.runs}")

    machine.after_run = move
    assert find_sensor(machine.root).name == "RAPL package-0 + package-1"
    assert machine.energy_mj() == pytest.approx(4.0)
    assert machine.runs * machine.run_s >= 0.1


def test_a_counter_that_starts_again_is_followed(machine):
    counter = package(machine, 0, 990_000, limit_uj=999_999)
    machine.after_run = lambda: counter.write_text(str((990_000 + 2000 * machine.runs) % 1_000_000))
    assert machine.energy_mj() == pytest.approx(2.0)


def test_a_counter_that_moves_late_is_waited_for(machine):
    counter = package(machine, 0, 0)
    machine.after_run = lambda: counter.write_text(str(1000 * (machine.runs // 30) * 30))
    assert machine.energy_mj() > 0
    assert machine.runs >= 30


def test_a_counter_that_stands_still_gives_none_after_a_while(machine):
    package(machine, 0, 5)
    assert machine.energy_mj() is None
    assert 0.5 <= machine.now < 0.7


def test_a_counter_that_may_not_be_read_is_no_sensor(machine, monkeypatch):
    path = package(machine, 0, 0)
    path.unlink()
    path.mkdir()  # raises an OSError for root too
    assert find_sensor(machine.root) is None


def test_a_sensor_that_goes_away_gives_none(machine):
    counter = package(machine, 0, 0)
    machine.after_run = lambda: counter.unlink(missing_ok=True)
    assert machine.energy_mj() is None


def test_a_meter_of_power_is_read_while_the_block_runs(machine):
    monitor = "sys/class/hwmon/hwmon1"
    machine.write(**{"sys/class/hwmon/hwmon0/name": "amdgpu", "sys/class/hwmon/hwmon0/power1_input": 10**9})
    machine.write(**{f"{monitor}/name": "ina226", f"{monitor}/power1_input": 100_000})
    machine.after_run = lambda: (machine.root / f"{monitor}/power1_input").write_text("2500000")
    assert find_sensor(machine.root).name == "ina226"
    assert machine.energy_mj() == pytest.approx(2500 * machine.run_s)


def ina3221(machine, folder, rails):
    machine.write(**{f"{folder}/name": "ina3221"})
    for number, (label, voltage_mv, current_ma) in enumerate(rails, start=1):
        machine.write(**{
            f"{folder}/in{number}_label": label,
            f"{folder}/in{number}_input": voltage_mv,
            f"{folder}/curr{number}_input": current_ma,
        })  # fmt: skip
    machine.write(**{f"{folder}/in4_input": 9, f"{folder}/curr4_input": 9999})  # shunt voltage, sum of currents


@pytest.mark.parametrize(
    "folder", ["sys/class/hwmon/hwmon3", "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"], ids=["class", "driver"]
)
def test_the_rail_that_feeds_the_board_is_taken_alone(machine, folder):
    ina3221(machine, folder, [("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 300), ("VDD_SOC", 5000, 200)])
    assert find_sensor(machine.root).name == "VDD_IN"
    assert machine.energy_mj() == pytest.approx(6000 * machine.run_s)


def test_rails_that_are_no_parts_of_each_other_are_added_up(machine):
    ina3221(machine, "sys/class/hwmon/hwmon3", [("CPU", 5000, 100), ("GPU", 5000, 200)])
    assert find_sensor(machine.root).name == "CPU + GPU"
    assert machine.energy_mj() == pytest.approx(1500 * machine.run_s)


def test_a_run_that_is_longer_than_asked_for_is_run_all_the_same(machine):
    machine.run_s = 3.0
    ina3221(machine, "sys/class/hwmon/hwmon3", [("CPU", 5000, 100)])
    assert machine.energy_mj() == pytest.approx(500 * 3.0)


def test_a_rail_that_cannot_be_read_is_left_out(machine):
    ina3221(machine, "sys/class/hwmon/hwmon3", [("CPU", "", 100), ("GPU", 5000, 200)])
    assert find_sensor(machine.root).name == "GPU"
