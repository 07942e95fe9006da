"""The machine this runs on, as a device that blocks are measured on."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from aebnas.devices.canonical import canonical_graph
from aebnas.devices.measure import BlockError, measure_blocks
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.results import Measurement
from aebnas.devices.store import LatencyStore, Memory
from aebnas.errors import MeasurementError, ProfileError
from aebnas.files import digest


class LocalDevice:
    """Measures blocks here, with the provider and the threads of ``profile``, and remembers them in ``store``, if any.

    Raises:
        ProfileError: the profile's device is not this machine, or this onnxruntime lacks its provider.
    """

    def __init__(self, profile: HardwareProfile, store: LatencyStore | None) -> None:
        if profile.connection != "local":
            raise ProfileError(
                f"hardware profile {profile.name!r} has connection: none, so its latency cannot be measured from here: "
                "choose objectives in MACs, or --device local"
            )
        if profile.provider not in onnxruntime.get_available_providers():
            offered = ", ".join(onnxruntime.get_available_providers())
            raise ProfileError(
                f"hardware profile {profile.name!r}: this onnxruntime has no provider {profile.provider!r}, "
                f"choose one of {offered}"
            )
        self.profile = profile
        self._store = store

    def measure(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        """Return the batch-1 latency of every serialised ONNX model, measuring those that are not known yet.

        Raises:
            MeasurementError: onnxruntime cannot run a block.
        """
        memory = Memory([self._store] if self._store else [])
        keys = {
            name: digest(canonical_graph(model), self.profile.fingerprint, onnxruntime.__version__)
            for name, model in models.items()
        }
        unknown = {key: name for name, key in keys.items() if key not in memory}
        for name, value in self._measure({name: models[name] for name in unknown.values()}).items():
            memory[keys[name]] = value
        return {name: memory[key] for name, key in keys.items()}

    def _measure(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        try:
            old = measure_blocks(models, threads=self.profile.threads, provider=self.profile.provider)
        except BlockError as error:
            raise MeasurementError(f"{error}; measured with hardware profile {self.profile.name!r}") from error
        return {
            name: Measurement(v.latency_ms, v.latency_ms, v.latency_ms, v.median_ms, v.p95_ms, v.runs, True, 1.0)
            for name, v in old.items()
        }
