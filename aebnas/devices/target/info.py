"""What a target says about itself; works without numpy and onnxruntime."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from aebnas.devices.target.energy import find_sensor

_MIB = 2**20


def facts(folder: str | None = None, root: str | Path = "/") -> dict[str, Any]:
    """Return what the machine has; None stands for what it lacks or does not tell.

    Args:
        folder: Where measuring puts its files; the system's temporary folder when None.
        root: Below it are the files that the kernel describes the machine with.
    """
    root = Path(root)
    numpy, numpy_problem = installed("numpy")
    runtime, runtime_problem = installed("onnxruntime")
    sensor = find_sensor(root)
    return {
        "python": platform.python_version(),
        "numpy": getattr(numpy, "__version__", None),
        "onnxruntime": getattr(runtime, "__version__", None),
        "runtime_problem": numpy_problem or runtime_problem,
        "providers": list(runtime.get_available_providers()) if runtime else [],
        "machine": machine(root),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": _memory_mib(),
        "free_disk_mib": _free_disk_mib(folder),
        "governor": _first_line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "sensor": sensor.name if sensor else None,
        "noise_pct": None,
    }


def machine(root: str | Path = "/") -> str:
    """Name the processor and, where there is a device tree, the board: what latencies depend on."""
    cpuinfo = _text(Path(root) / "proc/cpuinfo") or ""
    keys = ("model name", "Model")
    processor = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith(keys)), "")
    board = (_text(Path(root) / "proc/device-tree/model") or "").strip("\0 \n")
    parts = dict.fromkeys([platform.machine(), processor or platform.processor(), board])
    return " ".join(part for part in parts if part)


def installed(name: str) -> tuple[Any, str | None]:
    """Import ``name``: the module, or None and why it is not there."""
    try:
        return importlib.import_module(name), None
    except ModuleNotFoundError as error:
        return None, f"{error.name or name} is not installed"
    except Exception as error:  # a broken installation raises anything
        return None, f"{name} is installed but cannot be imported ({' '.join(str(error).split())})"


def _memory_mib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _MIB
    except (AttributeError, ValueError, OSError):
        return None


def _free_disk_mib(folder: str | None) -> float | None:
    try:
        return shutil.disk_usage(folder or tempfile.gettempdir()).free / _MIB
    except OSError:
        return None


def _first_line(path: Path) -> str | None:
    lines = (_text(path) or "").splitlines()
    return lines[0] if lines else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
