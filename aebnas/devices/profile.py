"""Hardware profiles: the YAML files that describe target devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from aebnas.devices.providers import SHORT_NAMES, full_name
from aebnas.errors import ProfileError
from aebnas.files import canonical_json, digest
from aebnas.registry import unknown_name
from aebnas.resources import resource_folder, resource_names
from aebnas.settings import FORM, Settings, parse_settings, read_yaml

_FOLDER = "hardware_profiles"
Positive = Annotated[float, Field(gt=0)]
Precision = Literal["fp32", "fp16", "int8"]


class Limits(Settings):
    """What a network may cost on the device, per sample at batch 1; None is no limit."""

    latency_ms: Positive | None = Field(default=None, description="mean latency in ms")
    latency_p95_ms: Positive | None = Field(
        default=None, description="latency in ms that 95 % of the images stay within, over where they leave"
    )
    macs_m: Positive | None = Field(default=None, description="mean multiply-accumulates in millions")
    model_mib: Positive | None = Field(default=None, description="size of the file in MiB")
    peak_memory_mib: Positive | None = Field(default=None, description="memory while it runs in MiB")
    energy_mj: Positive | None = Field(default=None, description="mean energy in mJ")


class Power(Settings):
    """What the device draws while it computes, in watts; energy is computed from it where no sensor can be read."""

    active_w: Positive = Field(description="watts while it computes")


class Protocol(Settings):
    """When measuring is done: every block is known well enough, or time is up."""

    precision_pct: Annotated[float, Field(gt=0, le=50)] = Field(
        default=1.5, description="a block is known when half its 95 % interval is this small, in per cent of it"
    )
    time_limit_s: Positive = Field(default=60.0, description="seconds for all blocks that are measured in one go")


class SshConnection(Settings):
    """A device that is reached by the system's ssh, with the keys and the configuration that are there."""

    ssh: str = Field(description="user@host, or a host of ssh's configuration")
    command: tuple[str, ...] = Field(
        default=("ssh",), min_length=1, description='words before the host, with ssh\'s own options: [ssh, -p, "2222"]'
    )
    python: str = Field(
        default="python3", min_length=1, description="the interpreter there that has numpy and onnxruntime"
    )
    folder: str | None = Field(
        default=None, description="holds what is copied there while it measures; null: the system's temporary folder"
    )
    connect_timeout_s: Annotated[float, Field(ge=1, le=600)] = Field(
        default=15.0, description="seconds after which the device counts as unreachable"
    )

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
    """One target device."""

    name: str = Field(description="what it is called in tables")
    description: str = Field(description="what it is, for people")
    provider: str = Field(
        default="CPUExecutionProvider",
        description=f"what onnxruntime runs on there: {', '.join(SHORT_NAMES)}, or a name in full",
    )
    provider_options: dict[str, str | int | float | bool] = Field(
        default={}, description="the provider's own options, as onnxruntime takes them"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads inside one operator")
    affinity: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, description="the cores to stay on, one for each thread at least; null: no matter"
    )
    precision: Precisions = Field(
        default="fp32", description="of the exported network, backbone included; of several the search takes the best"
    )
    connection: Connection = Field(
        default="none",
        description="local: the machine that searches; {ssh: user@host}: one that ssh reaches; none: not measured",
    )
    limits: Limits = Limits()
    power: Power | None = None
    protocol: Protocol = Protocol()
    notes: str = Field(default="", description="for people")

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
