"""What an experiment says about its backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from aebnas.settings import Settings

LIBRARIES = ("torchvision", "timm")


class BackboneSettings(Settings):
    """Which backbone to build, from which weights, and which of its modules tracing keeps whole.

    Attributes:
        name: A built-in name, torchvision:NAME, timm:NAME, package.module:callable, or folder.
        options: Passed on to what builds it.
        weights: Pretrained weights as torchvision or timm call them, ``default`` for the library's choice; null: none.
        checkpoint: A file of weights; with name folder, the folder of config.json and weights.
        leaves: Paths of modules that are called as one operation instead of being traced into.
    """

    name: str = "resnet"
    options: dict[str, bool | int | float | str | list[Any]] = Field(default_factory=dict)
    weights: str | None = None
    checkpoint: Path | None = None
    leaves: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        """The library that is asked for the model; empty: none."""
        prefix, colon, _ = self.name.partition(":")
        return prefix if colon and prefix in LIBRARIES else ""

    @model_validator(mode="after")
    def _weights_of_a_library(self) -> BackboneSettings:
        if self.weights is not None and not self.library:
            raise ValueError(
                f"weights are those of torchvision:NAME and timm:NAME, not of {self.name}: give a file as checkpoint"
            )
        if self.weights is not None and self.checkpoint is not None:
            raise ValueError("weights and checkpoint exclude each other: leave one of them out")
        if self.name == "folder" and self.checkpoint is None:
            raise ValueError("checkpoint is missing: with name folder, it is the folder of config.json and weights")
        return self
