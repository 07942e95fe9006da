"""Energy sensors of Linux machines: counters of the processor (RAPL), and power meters on the board (INA, hwmon)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Rails that feed the whole board: where one is metered, the other rails are parts of it.
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
# A meter of some other chip than a power monitor (a graphics card's, say) is not what an inference here takes.
_MONITORS = ("ina", "ltc", "power_meter")
_CHUNK_S = 0.02
_PATIENCE = 5


@dataclass(frozen=True)
class Sensor:
    """Something that tells the energy this machine takes, all of it: what runs beside the block, and idling, too."""

    name: str
    _energy: Callable[[Callable[[], object], float, Callable[[], float]], float | None]

    def energy_of(
        self, run: Callable[[], object], at_least_s: float, clock: Callable[[], float] = time.perf_counter
    ) -> float | None:
        """Return the mJ that one ``run`` takes, from as many as fill ``at_least_s`` seconds.

        None when the sensor cannot be read, or does not move.
        """
        try:
            return self._energy(run, at_least_s, clock)
        except (OSError, ValueError):
            return None


def find_sensor(root: str | Path = "/") -> Sensor | None:
    """Return the sensor of the machine whose files are below ``root``: RAPL, else a power monitor, else None.

    One that may not be read (RAPL is for root alone on many systems) counts as not there.
    """
    return _rapl(Path(root)) or _power_monitor(Path(root))


@dataclass(frozen=True)
class _Counter:
    """An energy counter of one processor package, in microjoules, that starts again at 0 after ``wraps_at_uj``."""

    path: Path
    wraps_at_uj: int

    def read(self) -> int:
        return _number(self.path)

    def since(self, before_uj: int) -> int:
        gone = self.read() - before_uj
        return gone if gone >= 0 else gone + self.wraps_at_uj + 1


def _rapl(root: Path) -> Sensor | None:
    # intel-rapl:0 is a package, intel-rapl:0:0 a part of it; AMD's processors use the same names.
    domains = sorted(path for path in root.glob("sys/class/powercap/intel-rapl:*") if path.name.count(":") == 1)
    names, counters = [], []
    for domain in domains:
        name = _text(domain / "name")
        counter = _Counter(domain / "energy_uj", _number_or(domain / "max_energy_range_uj", 0))
        if name is not None and name.startswith("package") and _text(counter.path) is not None:
            names.append(name)
            counters.append(counter)
    if not counters:
        return None

    def energy(run: Callable[[], object], at_least_s: float, clock: Callable[[], float]) -> float | None:
        before = [counter.read() for counter in counters]
        start, runs, taken_uj = clock(), 0, 0
        # On some virtual machines the counter is there and stands still.
        while not taken_uj and clock() - start < _PATIENCE * at_least_s:
            runs += _run_for(run, at_least_s, clock)
            taken_uj = sum(counter.since(uj) for counter, uj in zip(counters, before))
        return taken_uj / 1e3 / runs if taken_uj else None

    return Sensor(f"RAPL {' + '.join(names)}", energy)


@dataclass(frozen=True)
class _Rail:
    """What one supply rail takes: a file in microwatts, or two in millivolts and milliamperes."""

    label: str
    factors: tuple[Path, ...]

    def power_mw(self) -> float:
        product = 1
        for path in self.factors:
            product *= _number(path)
        return product / 1e3


def _power_monitor(root: Path) -> Sensor | None:
    folders = sorted(root.glob("sys/class/hwmon/hwmon*")) or sorted(
        root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*")
    )
    monitors = [folder for folder in folders if (_text(folder / "name") or "").startswith(_MONITORS)]
    rails = [rail for folder in monitors for rail in _rails(folder) if _readable(rail)]
    rails = [rail for rail in rails if rail.label in _WHOLE_BOARD] or rails
    if not rails:
        return None

    def energy(run: Callable[[], object], at_least_s: float, clock: Callable[[], float]) -> float | None:
        _run_for(run, _CHUNK_S, clock)  # a meter shows the mean over the milliseconds before it is read
        runs, taken_s, taken_mj = 0, 0.0, 0.0
        while taken_s < at_least_s:
            start = clock()
            runs += _run_for(run, _CHUNK_S, clock)
            chunk_s = clock() - start
            taken_mj += chunk_s * sum(rail.power_mw() for rail in rails)
            taken_s += chunk_s
        return taken_mj / runs if taken_mj > 0 else None

    return Sensor(" + ".join(rail.label for rail in rails), energy)


def _rails(folder: Path) -> list[_Rail]:
    """Return the rails of one monitor, as power where it gives that, else as voltage x current."""
    name = _text(folder / "name") or folder.name
    powers = sorted(folder.glob("power*_input"))
    if powers:
        return [_Rail(_text(_beside(path, "label")) or name, (path,)) for path in powers]
    # An INA3221 has three rails; its further inputs are shunt voltages and sums.
    found = []
    for number in (1, 2, 3):
        voltage, current = folder / f"in{number}_input", folder / f"curr{number}_input"
        if voltage.exists() and current.exists():
            label = _text(folder / f"in{number}_label") or f"{name} rail {number}"
            found.append(_Rail(label, (voltage, current)))
    return found


def _readable(rail: _Rail) -> bool:
    try:
        rail.power_mw()
    except (OSError, ValueError):
        return False
    return True


def _run_for(run: Callable[[], object], seconds: float, clock: Callable[[], float]) -> int:
    start, runs = clock(), 0
    while not runs or clock() - start < seconds:
        run()
        runs += 1
    return runs


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.replace("input", suffix))


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _number_or(path: Path, otherwise: int) -> int:
    try:
        return _number(path)
    except (OSError, ValueError):
        return otherwise


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
