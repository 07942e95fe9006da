"""The memory of measurements: one small JSON file per block and device."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from aebnas.devices.results import Measurement
from aebnas.errors import AebnasError
from aebnas.files import canonical_json, digest, read_json, write_json

logger = logging.getLogger(__name__)


def user_folder() -> Path:
    """Return where this user's measurements are kept: in ``AEBNAS_CACHE_DIR``, or the platform's cache folder."""
    given = os.environ.get("AEBNAS_CACHE_DIR")
    return (Path(given) if given else platformdirs.user_cache_path("aebnas")) / "latency"


class LatencyStore:
    """Measurements in ``folder``, which several processes may share: the last to write a key wins, whole.

    A file that is damaged counts as not there; a folder that cannot be written is warned of once and then done without.
    Measurements are kept as they were taken, beside the speed that the machine had (see ``Measurement.at_speed``).

    Example:
        >>> store = LatencyStore(Path("run/latency"))  # doctest: +SKIP
        >>> store.get("0123456789abcdef")  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writable = True

    def get(self, key: str) -> Measurement | None:
        """Return what is known under ``key``, or None."""
        values = self._read(f"{key}.json")
        try:
            return None if values is None else Measurement(**values)
        except TypeError:  # written by a version with other fields
            return None

    def put(self, key: str, measurement: Measurement) -> None:
        """Remember ``measurement`` under ``key``."""
        self._write(f"{key}.json", asdict(measurement))

    def reference_ms(self, device: str) -> float | None:
        """Return what the yardstick took when ``device`` was first measured, in ms, or None."""
        values = self._read(f"reference-{device}.json")
        return None if values is None else float(values["yardstick_ms"])

    def put_reference(self, device: str, yardstick_ms: float) -> None:
        """Remember what the yardstick took on ``device``."""
        self._write(f"reference-{device}.json", {"yardstick_ms": yardstick_ms})

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            record = read_json(path)
            if record["checksum"] == digest(canonical_json(record["values"])):
                return dict(record["values"])
        except (AebnasError, KeyError, TypeError, ValueError):
            pass
        logger.warning("%s is damaged: what it held is measured again", path)
        return None

    def _write(self, name: str, values: dict[str, Any]) -> None:
        if not self._writable:
            return
        try:
            write_json(self.folder / name, {"checksum": digest(canonical_json(values)), "values": values})
        except AebnasError as error:
            self._writable = False
            logger.warning("measurements are not remembered: %s", error)


class Memory:
    """Several stores and this process's own memory as one: looked up in order, written to all.

    What is not steady is written to the first one only: that run keeps to it, and others measure it anew, on a quieter
    day perhaps, or with more time.
    """

    def __init__(self, stores: Sequence[LatencyStore]) -> None:
        self._stores = tuple(stores)
        self._known: dict[str, Measurement] = {}
        self._references: dict[str, float] = {}

    def __contains__(self, key: str) -> bool:
        if key not in self._known:
            found = next((found for store in self._stores if (found := store.get(key)) is not None), None)
            if found is not None:
                # What only one store knows, the others learn.
                self[key] = found
        return key in self._known

    def __getitem__(self, key: str) -> Measurement:
        return self._known[key]

    def __setitem__(self, key: str, measurement: Measurement) -> None:
        self._known[key] = measurement
        for place, store in enumerate(self._stores):
            if (measurement.steady or place == 0) and store.get(key) is None:
                store.put(key, measurement)

    def reference_ms(self, device: str, now_ms: float) -> float:
        """Return what the yardstick took when ``device`` was first measured, in ms; ``now_ms`` if this is that time."""
        if device not in self._references:
            found = (store.reference_ms(device) for store in self._stores)
            self._references[device] = next((value for value in found if value is not None), now_ms)
            for store in self._stores:
                if store.reference_ms(device) is None:
                    store.put_reference(device, self._references[device])
        return self._references[device]
