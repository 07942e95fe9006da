"""What a branch and a network of branches are made of: frozen, hashable, JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aebnas.errors import BranchError
from aebnas.files import canonical_json, digest

Option = int | float | str | bool
FP32 = "fp32"
NO_CASCADE = "none"


@dataclass(frozen=True)
class PartSpec:
    """One layer or head by registered name, with its options sorted by key."""

    kind: str
    options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        # 2 and 2.0 are equal, so they must give one key.
        options = sorted((name, _whole(value)) for name, value in self.options)
        object.__setattr__(self, "options", tuple(options))

    @classmethod
    def of(cls, kind: str, **options: Option) -> PartSpec:
        """Build a part from keyword options."""
        return cls(kind, tuple(options.items()))

    @classmethod
    def parse(cls, value: Any, key: str) -> PartSpec:
        """Read ``name`` or ``{kind: name, option: value}``; ``key`` says in errors where it stood."""
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
            raise BranchError(f"{key} must be a name, or a mapping with 'kind' and options (got {value!r})")
        options = {str(name): option for name, option in value.items() if name != "kind"}
        for name, option in options.items():
            if not isinstance(option, (int, float, str, bool)):
                raise BranchError(f"{key}.{name} must be a number, a text or true/false (got {option!r})")
            if isinstance(option, float) and not math.isfinite(option):
                raise BranchError(f"{key}.{name} must be a finite number (got {option})")
        return cls.of(value["kind"], **options)

    def to_json(self) -> Any:
        """Return the form that :meth:`parse` reads."""
        return {"kind": self.kind, **dict(self.options)} if self.options else self.kind

    def __str__(self) -> str:
        inside = " ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.kind}({inside})" if inside else self.kind


@dataclass(frozen=True)
class BranchSpec:
    """One exit branch: the name of its attach point, its layers in order, and its head."""

    attach: str
    layers: tuple[PartSpec, ...] = ()
    head: PartSpec = field(default_factory=lambda: PartSpec("pooled-linear"))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {
            "attach": self.attach,
            "layers": [layer.to_json() for layer in self.layers],
            "head": self.head.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BranchSpec:
        """Read what :meth:`to_json` wrote."""
        if not isinstance(value, Mapping) or "attach" not in value:
            raise BranchError(f"a branch must be a mapping with 'attach', 'layers' and 'head' (got {value!r})")
        layers = tuple(PartSpec.parse(layer, f"layers.{i}") for i, layer in enumerate(value.get("layers", ())))
        return cls(str(value["attach"]), layers, PartSpec.parse(value.get("head", "pooled-linear"), "head"))

    @property
    def key(self) -> str:
        """A hash that is equal for equal branches, across processes."""
        return digest(canonical_json(self.to_json()))


@dataclass(frozen=True)
class NetworkSpec:
    """The branches of one network in the order of their attach points, how they are trained, and how they decide.

    Args:
        precision: That of the deployed network, backbone included; training is in fp32 whatever it is.
        cascade: What a branch hears of the exit before it: none, inputs, ensemble or both.
        options: Settings of this network alone, dotted key of the experiment -> value, where the search chooses them.
    """

    branches: tuple[BranchSpec, ...]
    regime: str = "disjoint"
    confidence: str = "max-probability"
    precision: str = FP32
    cascade: str = NO_CASCADE
    options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted((name, _whole(value)) for name, value in self.options)))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {
            "branches": [branch.to_json() for branch in self.branches],
            "regime": self.regime,
            "confidence": self.confidence,
            "precision": self.precision,
            "cascade": self.cascade,
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkSpec:
        """Read what :meth:`to_json` wrote."""
        return cls(
            tuple(BranchSpec.from_json(branch) for branch in value["branches"]),
            str(value["regime"]),
            str(value["confidence"]),
            str(value.get("precision", FP32)),
            str(value.get("cascade", NO_CASCADE)),
            tuple(dict(value.get("options", {})).items()),
        )

    @property
    def key(self) -> str:
        """A hash that is equal for equal networks, across processes."""
        # Defaults are left out: keys of networks are older than these fields.
        defaults = [("precision", FP32), ("cascade", NO_CASCADE), ("options", {})]
        values = {name: value for name, value in self.to_json().items() if (name, value) not in defaults}
        return digest(canonical_json(values))


def _whole(value: Option) -> Option:
    return int(value) if isinstance(value, float) and value.is_integer() else value
