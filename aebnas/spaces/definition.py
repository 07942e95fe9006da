"""A search space as it stands in YAML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator

from aebnas.branches.build import make_head, make_layer
from aebnas.branches.layers import LayoutError, Shape
from aebnas.branches.spec import PartSpec
from aebnas.errors import BranchError, SpaceError
from aebnas.registry import unknown_name
from aebnas.resources import resource_folder, resource_names
from aebnas.settings import Settings, parse_settings, read_yaml

NONE = "none"
# A map and tokens on which every layer and head of sensible options fits: sizes are multiples of 1 to 16.
_ROOMY: tuple[Shape, ...] = ((64, 720720, 720720), (720720, 720720))


class SpaceDefinition(Settings):
    """What a branch may be made of.

    A *choice* is a named list of layers that one layer slot may hold; ``none`` (no layers) is always among them.
    """

    description: str = Field(default="", description="for people")
    slots: int = Field(default=2, ge=0, le=8, description="layer slots per branch, filled in order")
    max_exits: int = Field(default=4, ge=1, le=8, description="most branches that one network may have")
    layers: dict[str, list[Any]] = Field(default_factory=dict, description="choices of a slot: name -> layers")
    heads: dict[str, Any] = Field(description="choices of the head: name -> head", min_length=1)

    starts: list[list[str]] = Field(
        default_factory=list, description="branches to begin the search with, each as choices for the slots in order"
    )

    @field_validator("layers")
    @classmethod
    def _known_layers(cls, choices: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, parts in choices.items():
            if name == NONE and parts:
                raise ValueError("'none' stands for no layers: leave it out or give it an empty list")
            _check_parts(parts, f"layers.{name}", make_layer)
        return choices

    @field_validator("heads")
    @classmethod
    def _known_heads(cls, choices: dict[str, Any]) -> dict[str, Any]:
        for name, part in choices.items():
            _check_parts([part], f"heads.{name}", lambda parsed, shape: make_head(parsed, shape, 2))
        return choices

    @model_validator(mode="after")
    def _known_starts(self) -> SpaceDefinition:
        for number, start in enumerate(self.starts):
            if len(start) > self.slots:
                raise ValueError(f"starts.{number} has {len(start)} layers, but a branch has {self.slots} slots")
            for name in start:
                if name not in (NONE, *self.layers):
                    raise ValueError(f"starts.{number}: {unknown_name('choice', name, [NONE, *self.layers])}")
        return self

    def layer_choices(self) -> dict[str, tuple[PartSpec, ...]]:
        """Return every choice of a layer slot, ``none`` first."""
        parsed = {
            name: tuple(PartSpec.parse(part, f"layers.{name}") for part in parts) for name, parts in self.layers.items()
        }
        return {NONE: (), **parsed}

    def head_choices(self) -> dict[str, PartSpec]:
        """Return every choice of the head."""
        return {name: PartSpec.parse(part, f"heads.{name}") for name, part in self.heads.items()}


def load_space(name: str) -> SpaceDefinition:
    """Load a packaged space by name, or a YAML file by path.

    Raises:
        SpaceError: there is no such space, or the file is wrong; the message names the key.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in space_names():
            raise SpaceError(unknown_name("search space", name, space_names()) + ", or give the path of a .yaml file")
        path = resource_folder("search_spaces") / f"{name}.yaml"
    return parse_settings(SpaceDefinition, read_yaml(path, error=SpaceError), source=str(path), error=SpaceError)


def space_names() -> list[str]:
    """Return the names of the packaged spaces."""
    return resource_names("search_spaces")


def _check_parts(parts: Sequence[Any], key: str, make: Callable[[PartSpec, Shape], object]) -> None:
    """Refuse parts that can never be built in a row, on a map or on tokens.

    They would fit no attach point, and silently never be offered.
    """
    usable = set(_ROOMY)
    for part in parts:
        try:
            usable &= _layouts(PartSpec.parse(part, key), make)
        except BranchError as error:
            message = str(error)
            raise ValueError(message if message.startswith(key) else f"{key}: {message}") from None
    if not usable:
        raise ValueError(f"{key} has layers of maps and layers of tokens, which never meet: make it two choices")


def _layouts(part: PartSpec, make: Callable[[PartSpec, Shape], object]) -> set[Shape]:
    """Return where ``part`` can be built; its own BranchError where that is nowhere."""
    fitting: set[Shape] = set()
    for shape in _ROOMY:
        try:
            with torch.device("meta"):
                make(part, shape)
        except LayoutError:
            continue
        fitting.add(shape)
    return fitting
