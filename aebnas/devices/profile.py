"""Hardware profiles: the YAML files that describe target devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from aebnas.devices.providers import full_name
from aebnas.errors import ProfileError
from aebnas.files import canonical_json, digest
from aebnas.registry import unknown_name
from aebnas.resources import resource_folder, resource_names
from aebnas.settings import FORM, Settings, parse_settings, read_yaml

_FOLDER = "hardware_profiles"
Positive = Annotated[float, Field(gt=0)]
Precision = Literal["fp32", "fp16", "int8"]


class Limits(Settings):
    """What a network may cost on the device, per sample at batch 1; None is no limit.

    ``latency_p95_ms`` is over the exit distribution, ``macs_m`` in millions, ``model_mib`` the size of the file.
    """

    latency_ms: Positive | None = None
    latency_p95_ms: Positive | None = None
    macs_m: Positive | None = None
    model_mib: Positive | None = None
    peak_memory_mib: Positive | None = None
    energy_mj: Positive | None = None


class Power(Settings):
    """What the device draws while it computes, in watts; energy is computed from it where no sensor can be read."""

    active_w: Positive


class Protocol(Settings):
    """When measuring is done: every block is known to ``precision_pct`` (half the 95 % interval), or time is up.

    ``time_limit_s`` is for all blocks that are measured in one go.
    """

    precision_pct: Annotated[float, Field(gt=0, le=50)] = 1.5
    time_limit_s: Positive = 60.0


class SshConnection(Settings):
    """A device that is reached by the system's ssh, with the keys and the configuration that are there.

    ``command`` are the words before the host, where ssh's own options fit in (``[ssh, -p, "2222"]``); ``python`` is
    the interpreter there that has numpy and onnxruntime; ``folder`` holds what is copied there while it measures, the
    system's temporary folder when None.
    """

    ssh: str
    command: tuple[str, ...] = Field(default=("ssh",), min_length=1)
    python: str = Field(default="python3", min_length=1)
    folder: str | None = None
    connect_timeout_s: Annotated[float, Field(ge=1, le=600)] = 15.0

    @field_validator("ssh")
    @classmethod
    def _is_a_host(cls, given: str) -> str:
        # What begins with a dash would be an option of ssh.
        if not given or given.startswith("-") or any(map(str.isspace, given)):
            raise ValueError("must be user@host, or a host of ssh's configuration; options go into connection.command")
        return given


def _connection_form(value: Any) -> str | None:
    if isinstance(value, (dict, Settings)):
        return f"{FORM}keys"
    return f"{FORM}word" if value in ("local", "none") else None


def _precision_form(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return f"{FORM}list" if value else None
    return f"{FORM}word" if value in get_args(Precision) else None


# Which form was meant is decided first, so that a mistake is explained for that form.
Connection = Annotated[
    Annotated[Literal["local", "none"], Tag(f"{FORM}word")] | Annotated[SshConnection, Tag(f"{FORM}keys")],
    Discriminator(
        _connection_form, custom_error_type="form", custom_error_message="must be local, none or {ssh: user@host}"
    ),
]
Precisions = Annotated[
    Annotated[Precision, Tag(f"{FORM}word")] | Annotated[tuple[Precision, ...], Tag(f"{FORM}list")],
    Discriminator(
        _precision_form, custom_error_type="form", custom_error_message="must be fp32, fp16, int8 or a list of them"
    ),
]


class HardwareProfile(Settings):
    """One target device.

    ``provider`` (short like ``CPU`` or in full), ``provider_options``, ``threads`` and ``affinity`` (the cores to stay
    on) say how onnxruntime runs there. ``precision`` is that of the exported network; several are searched over.
    ``connection`` is ``local`` for the machine that searches, ``{ssh: user@host}`` for one that ssh reaches, ``none``
    when the device cannot be measured.
    """

    name: str
    description: str
    provider: str = "CPUExecutionProvider"
    provider_options: dict[str, str | int | float | bool] = Field(default={})
    threads: int = Field(default=1, ge=1, le=256)
    affinity: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    precision: Precisions = "fp32"
    connection: Connection = "none"
    limits: Limits = Limits()
    power: Power | None = None
    protocol: Protocol = Protocol()
    notes: str = ""

    @field_validator("provider")
    @classmethod
    def _full_provider(cls, given: str) -> str:
        return full_name(given)

    @model_validator(mode="after")
    def _a_core_per_thread(self) -> HardwareProfile:
        if self.affinity is not None and len(set(self.affinity)) < self.threads:
            raise ValueError(f"affinity: needs a core for each of the {self.threads} threads")
        if len(set(self.precisions)) < len(self.precisions):
            raise ValueError("precision: names one twice")
        return self

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that a network for this device may have; several are a choice of the search."""
        return (self.precision,) if isinstance(self.precision, str) else self.precision

    @property
    def measurable(self) -> bool:
        """Whether latencies can be measured on the device from here."""
        return self.connection != "none"

    @property
    def place(self) -> str:
        """Where the device is: ``local``, ``none``, or ``ssh`` and the host."""
        at = self.connection
        return f"ssh {at.ssh}" if isinstance(at, SshConnection) else at

    @property
    def fingerprint(self) -> str:
        """A digest of all that a latency depends on: name, words, limits, power and ssh's options are not part of it.

        Nor is the precision: it is in the graph that is measured.
        """
        keys = {"provider", "provider_options", "threads", "affinity"}
        return digest(canonical_json({**self.model_dump(mode="json", include=keys), "place": self.place}))


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
