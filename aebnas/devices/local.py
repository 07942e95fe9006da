"""The machine this runs on, as a device that blocks are measured on."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from aebnas.devices.measure import BlockError, Measurement, measure_blocks
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.store import LatencyStore, latency_key
from aebnas.errors import MeasurementError, ProfileError


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
        if self._store is None:
            return self._measure(models)
        return self._store.measure_all(models, lambda model: latency_key(model, self.profile), self._measure)

    def _measure(self, models: Mapping[str, bytes]) -> dict[str, Measurement]:
        try:
            return measure_blocks(models, threads=self.profile.threads, provider=self.profile.provider)
        except BlockError as error:
            raise MeasurementError(f"{error}; measured with hardware profile {self.profile.name!r}") from error
