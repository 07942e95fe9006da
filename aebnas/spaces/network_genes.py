"""What of a network, beside its branches, a search may choose: how it trains, how it decides, how it is deployed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aebnas.branches.spec import FP32, NO_CASCADE, BranchSpec, NetworkSpec, Option

PRECISION = "precision"
REGIME, CONFIDENCE, CASCADE = "regime.name", "confidence", "cascade"


Options = Mapping[str, Option]


def _all(regime: str, options: Options) -> Options:
    return options


@dataclass(frozen=True)
class NetworkGenes:
    """Settings of whole networks.

    Args:
        regime: Where no gene chooses another; as for ``confidence`` and ``cascade``.
        precisions: Those that a network may have; several of them are a gene.
        choices: Dotted key of the experiment -> the values that the search may choose.
        effective: A regime and what is chosen beside it -> what of that has an effect; the rest is dropped.
    """

    regime: str
    confidence: str
    cascade: str = NO_CASCADE
    precisions: tuple[str, ...] = (FP32,)
    choices: Mapping[str, Sequence[Option]] = field(default_factory=dict)
    effective: Callable[[str, Options], Options] = _all

    @property
    def genes(self) -> dict[str, tuple[str, ...]]:
        """Name -> choices, as text."""
        found = {key: tuple(map(text_of, values)) for key, values in self.choices.items()}
        return found | ({PRECISION: self.precisions} if len(self.precisions) > 1 else {})

    @property
    def confidences(self) -> tuple[str, ...]:
        """The confidence measures that networks may have, the default first."""
        return tuple(dict.fromkeys([self.confidence, *map(str, self.choices.get(CONFIDENCE, ()))]))

    @property
    def regimes(self) -> tuple[str, ...]:
        """The regimes that networks may be trained under, the default first."""
        return tuple(dict.fromkeys([self.regime, *map(str, self.choices.get(REGIME, ()))]))

    def network(self, branches: Sequence[BranchSpec], values: Mapping[str, str]) -> NetworkSpec:
        """Return the network of ``branches`` with the settings that ``values`` say; what has no effect is dropped."""
        chosen = {key: self._value(key, values[key]) for key in self.choices}
        regime = str(chosen.pop(REGIME, self.regime))
        confidence = str(chosen.pop(CONFIDENCE, self.confidence))
        cascade = str(chosen.pop(CASCADE, self.cascade))
        if len(branches) < 2:
            # Nobody stands before the first branch.
            cascade = NO_CASCADE
        precision = values.get(PRECISION, self.precisions[0])
        if cascade != NO_CASCADE and FP32 in self.precisions:
            precision = FP32  # a cascade runs in no other
        options = tuple(self.effective(regime, chosen).items())
        return NetworkSpec(tuple(branches), regime, confidence, precision, cascade, options)

    def variations(self) -> list[dict[str, str]]:
        """Return settings to begin with: the first of every gene, then every other value of each, one at a time."""
        first = {key: values[0] for key, values in self.genes.items()}
        return [first] + [{**first, key: value} for key, values in self.genes.items() for value in values[1:]]

    def _value(self, key: str, text: str) -> Any:
        return next(value for value in self.choices[key] if text_of(value) == text)


def text_of(value: Option) -> str:
    """Return a value as the text that stands for it among the choices of a gene."""
    return value if isinstance(value, str) else json.dumps(value)
