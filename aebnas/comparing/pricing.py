"""What leaving at every exit costs, for every on/off mask: worked out once, handed to every process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.costs.network import NetworkCosts
from aebnas.exits.costs import Mask, Reduction

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prices:
    """One cost of one network.

    Args:
        exits: Mask over the branches -> cost of leaving at each exit, the final one last; nan where it is off.
        backbone: Cost of the static backbone.
        truncated: Cost of the static network that always ends in each branch.
        reduction: How exit costs become the cost of a point.
    """

    exits: Mapping[Mask, tuple[float, ...]]
    backbone: float
    truncated: tuple[float, ...]
    reduction: Reduction

    @classmethod
    def of(cls, costs: NetworkCosts, plain: NetworkCosts, backbone: Floats, name: str) -> Prices:
        """Take the cost called ``name`` out of those of a network and of its static backbone.

        Args:
            plain: Of the network without a cascade; another one has branches that are on only when all before them are.
        """
        row, branches = costs.names.index(name), len(costs.points)
        masks = [
            mask for mask in product((False, True), repeat=branches) if costs is plain or sorted(mask)[::-1] == [*mask]
        ]
        return cls(
            {mask: tuple(costs.exit_costs(mask)[row].tolist()) for mask in masks},
            float(backbone[row]),
            tuple(float(plain.truncated(branch)[row]) for branch in range(branches)),
            costs.reduction.of_rows([row]),
        )

    def cost_of(self, mask: Sequence[bool]) -> Floats:
        """Return the exit costs (1, K+1) of ``mask``, as tuning takes them."""
        return np.array([self.exits[tuple(mask)]])

    @property
    def first(self) -> float:
        """The cost of leaving at the first exit."""
        branches = len(self.truncated)
        return self.exits[(True,) + (False,) * (branches - 1)][0]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an exit that is off costs null."""
        return {
            "backbone": self.backbone,
            "truncated": list(self.truncated),
            "exits": {_word(mask): [None if math.isnan(x) else x for x in row] for mask, row in self.exits.items()},
            "tails": list(self.reduction.tails),
            "switching": [list(pair) for pair in self.reduction.switching],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Prices:
        """Read what :meth:`to_json` wrote."""
        rows = values["exits"].items()
        return cls(
            {_mask(word): tuple(math.nan if x is None else x for x in row) for word, row in rows},
            values["backbone"],
            tuple(values["truncated"]),
            Reduction(tuple(values["tails"]), tuple((row, extra) for row, extra in values["switching"])),
        )


def _word(mask: Mask) -> str:
    return "".join("1" if on else "0" for on in mask)


def _mask(word: str) -> Mask:
    return tuple(letter == "1" for letter in word)
