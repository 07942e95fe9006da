"""Hardware profiles: the YAML files that describe target devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aebnas.errors import ProfileError
from aebnas.files import canonical_json, digest
from aebnas.registry import unknown_name
from aebnas.resources import resource_folder, resource_names
from aebnas.settings import Settings, parse_settings, read_yaml

_FOLDER = "hardware_profiles"
Positive = Annotated[float, Field(gt=0)]


class Limits(Settings):
    """What a network may cost on the device: milliseconds per sample, millions of MACs, MiB of model file."""

    latency_ms: Positive | None = None
    macs_m: Positive | None = None
    model_mib: Positive | None = None


class HardwareProfile(Settings):
    """One target device.

    ``provider`` and ``threads`` say how onnxruntime runs there; ``connection`` is ``local`` when latencies are
    measured on the machine that searches, ``none`` when the device cannot be measured from it.
    """

    name: str
    description: str
    provider: str = "CPUExecutionProvider"
    threads: int = Field(default=1, ge=1, le=256)
    connection: Literal["local", "none"] = "none"
    limits: Limits = Limits()
    notes: str = ""

    @property
    def fingerprint(self) -> str:
        """A digest of all that a latency depends on; descriptions, notes and limits are not part of it."""
        return digest(canonical_json(self.model_dump(include={"name", "provider", "threads", "connection"})))


def load_profile(name_or_path: str | Path) -> HardwareProfile:
    """Read a packaged profile by its name, or any profile by the path of its YAML file.

    Raises:
        ProfileError: there is no such profile, or the file is wrong; the message names the key.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in list_profiles():
            raise ProfileError(unknown_name("hardware profile", str(name_or_path), list_profiles()))
        path = resource_folder(_FOLDER) / f"{name_or_path}.yaml"
    return parse_settings(HardwareProfile, read_yaml(path, error=ProfileError), source=str(path), error=ProfileError)


def list_profiles() -> list[str]:
    """Return the names of the packaged profiles, sorted."""
    return resource_names(_FOLDER)
