"""What an experiment says about its backbone."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from aebnas.settings import Settings


class BackboneSettings(Settings):
    """Which backbone to build, from which weights, and which of its modules tracing keeps whole."""

    name: str = "resnet"  # built-in name, or package.module:callable
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    checkpoint: Path | None = None
    leaves: tuple[str, ...] = ()  # module paths that are called as one operation instead of being traced into
