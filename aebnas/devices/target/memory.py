"""The memory that a model adds to a process, measured from the outside in fresh processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aebnas.devices.target.errors import BLOCK, PROVIDER, Refused, in_one_line
from aebnas.devices.target.session import CPU, RUNTIME_ERRORS, ProviderRefused, open_session, random_feeds

# An ONNX model that copies one number. A session on it, run once, brings in what every process pays once, however many
# models it holds: the libraries, the provider, the threads, the code of a first run.
TINY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201745a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)
_MIB = 2**20
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from aebnas.devices.target.memory import child; child()"
_PATIENCE_S = 300
_RESULT = "result: "
_FAILURES: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, MemoryError, ValueError, TypeError)


def resident_mib(
    model: str,
    *,
    threads: int,
    provider: str = CPU,
    provider_options: Mapping[str, Any] | None = None,
    children: int = 3,
) -> float:
    """Return by how many MiB loading and running the model at a path makes a process grow, at the peak.

    Measured against the same process with onnxruntime loaded and a tiny model run on the same provider, so that the
    growth of several models adds up without counting the runtime again. The median of ``children`` fresh processes.

    Raises:
        Refused: the model cannot be loaded or run there, also because the memory is not enough.
    """
    settings = {"threads": threads, "provider": provider, "provider_options": dict(provider_options or {})}
    return statistics.median(_grown_mib(model, settings) for _ in range(children))


def _grown_mib(model: str, settings: Mapping[str, Any]) -> float:
    root = str(Path(__file__).parents[3])  # the folder, or the archive, that holds the package
    command = [sys.executable, "-c", _CHILD, root, model, json.dumps(settings)]
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(BLOCK, f"loading and running it once took longer than {_PATIENCE_S} s") from error
    lines = ran.stdout.decode("utf-8", "replace").splitlines()
    results = [json.loads(line[len(_RESULT) :]) for line in lines if line.startswith(_RESULT)]
    if not results:
        said = ran.stderr.decode("utf-8", "replace").strip().splitlines() or [""]
        reason = f"was killed by signal {-ran.returncode}" if ran.returncode < 0 else f"ended with {ran.returncode}"
        raise Refused(BLOCK, f"a process that loaded and ran it {reason} {said[-1]}".rstrip())
    if "grown_mib" not in results[-1]:
        raise Refused(results[-1]["kind"], results[-1]["message"])
    return float(results[-1]["grown_mib"])


def child() -> None:
    """Measure one model in this process, which the command line describes, and print the result."""
    model, settings = sys.argv[2], json.loads(sys.argv[3])
    try:
        result: dict[str, Any] = {"grown_mib": _growth(model, settings)}
    except ProviderRefused as error:
        result = {"kind": PROVIDER, "message": in_one_line(error)}
    except _FAILURES as error:
        said = in_one_line(error).replace(model, "the file")
        result = {"kind": BLOCK, "message": f"onnxruntime cannot load or run it: {said}"}
    print(f"\n{_RESULT}{json.dumps(result)}")


def _growth(model: str, settings: Mapping[str, Any]) -> float:
    _run_once(TINY_MODEL, settings)
    before, peak_before = _resident_mib(), _peak_mib()
    peak_before = before if _forget_peak() else peak_before
    session = _run_once(model, settings)
    after, peak = _resident_mib(), _peak_mib()
    del session
    # Where the peak cannot be set back, one below that of loading the libraries does not show; what stays does.
    return max(peak if peak > peak_before else 0.0, after) - before


def _run_once(model: bytes | str, settings: Mapping[str, Any]) -> Any:
    session = open_session(model, batch=1, **settings)
    session.run(None, random_feeds(session))
    return session


def _forget_peak() -> bool:
    """Set Linux's record of the peak back to what is resident now; return whether that was possible."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def _resident_mib() -> float:
    status = _status_mib("VmRSS")
    return _peak_mib() if status is None else status


def _peak_mib() -> float:
    status = _status_mib("VmHWM")
    if status is not None:
        return status
    import resource  # not on every system

    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MIB if sys.platform == "darwin" else 1024)


def _status_mib(key: str) -> float | None:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) / 1024
    return None
