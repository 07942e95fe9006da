"""The memory of measured latencies: one small JSON file per block, device and runtime."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import onnxruntime

from aebnas.devices.canonical import canonical_graph
from aebnas.devices.measure import Measurement
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import RunError
from aebnas.files import digest, read_json, write_json


class LatencyStore:
    """Measurements in ``folder``, which several processes may share: the last to write a key wins, whole.

    Example:
        >>> store = LatencyStore(Path("run/latency"))  # doctest: +SKIP
        >>> store.measure_all({"a": block}, key_of, measure)["a"].latency_ms  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Measurement | None:
        """Return what is known under ``key``, or None.

        Raises:
            RunError: the file is damaged; the message names it.
        """
        path = self._path(key)
        if not path.exists():
            return None
        values = read_json(path)
        try:
            return Measurement(
                latency_ms=float(values["latency_ms"]),
                median_ms=float(values["median_ms"]),
                p95_ms=float(values["p95_ms"]),
                runs=int(values["runs"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} is damaged: delete it and run the same command again") from error

    def put(self, key: str, measurement: Measurement) -> None:
        """Remember ``measurement`` under ``key``."""
        write_json(self._path(key), asdict(measurement))

    def measure_all(
        self,
        models: Mapping[str, bytes],
        key_of: Callable[[bytes], str],
        measure: Callable[[Mapping[str, bytes]], Mapping[str, Measurement]],
    ) -> dict[str, Measurement]:
        """Return a measurement of each of ``models``, calling ``measure`` once for those that are not known.

        Models with the same key are measured once.
        """
        keys = {name: key_of(model) for name, model in models.items()}
        known = {key: found for key in set(keys.values()) if (found := self.get(key)) is not None}
        first_names = {key: name for name, key in reversed(keys.items()) if key not in known}
        unknown = {name: models[name] for name in models if first_names.get(keys[name]) == name}
        for name, measurement in (measure(unknown) if unknown else {}).items():
            self.put(keys[name], measurement)
            known[keys[name]] = measurement
        return {name: known[key] for name, key in keys.items()}

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def latency_key(model: bytes, profile: HardwareProfile) -> str:
    """Return the key of ``model`` measured here as ``profile`` says: graph, profile, runtime and machine."""
    return digest(canonical_graph(model), profile.fingerprint, onnxruntime.__version__, _machine())


def _machine() -> str:
    """Name this machine's processor, so that machines that share a folder do not mix up their latencies."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))), "")
    return f"{platform.machine()} {model or platform.processor()}"
