"""The genome of a backbone under a search space: fixed length, every gene always sampled.

Conditional parameters would make TPE sample independently and spoil crossover; genes that a network does not
use are dropped when it is decoded, so equal networks have equal specifications whatever their unused genes say.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from aebnas.backbones.cut import AttachPoint
from aebnas.branches.build import make_head, make_layer
from aebnas.branches.layers import Shape, output_shape
from aebnas.branches.spec import BranchSpec, NetworkSpec, PartSpec
from aebnas.errors import BranchError, SpaceError
from aebnas.spaces.definition import NONE, SpaceDefinition
from aebnas.spaces.network_genes import NetworkGenes

logger = logging.getLogger(__name__)
ON, OFF = "on", "off"


@dataclass(frozen=True)
class Genome:
    """Genes and how they decode.

    Args:
        genes: Name -> choices, in the order they are sampled.
        network: What is chosen of whole networks.
    """

    genes: Mapping[str, tuple[str, ...]]
    points: tuple[AttachPoint, ...]
    slots: int
    max_exits: int
    layers: Mapping[str, tuple[PartSpec, ...]]
    heads: Mapping[str, PartSpec]
    starts: tuple[tuple[str, ...], ...]
    num_classes: int
    network: NetworkGenes

    def decode(self, values: Mapping[str, str]) -> NetworkSpec:
        """Turn gene values into a network; genes without effect are dropped.

        A layer that no longer fits the map that the layers before it leave counts as none, and of more branches
        than a network may have the deepest, which save least, are dropped.
        """
        on = [number for number in range(len(self.points)) if values[f"exit{number}"] == ON]
        branches = [self._branch(number, self.points[number], values) for number in on[: self.max_exits]]
        return self.network.network(branches, values)

    def _branch(self, number: int, point: AttachPoint, values: Mapping[str, str]) -> BranchSpec:
        head = self.heads[values[f"exit{number}_head"]]
        layers: tuple[PartSpec, ...] = ()
        shape = point.shape
        for slot in range(self.slots):
            more = self.layers[values[f"exit{number}_layer{slot}"]]
            left = _shape_after(more, shape)
            if left is not None and _head_fits(head, left, self.num_classes):
                layers, shape = layers + more, left
        return BranchSpec(point.name, layers, head)


def build_genome(
    space: SpaceDefinition,
    points: Sequence[AttachPoint],
    num_classes: int,
    network: NetworkGenes,
) -> Genome:
    """Lay out the genes for ``points``; choices that cannot fit an attach point are not among its genes' values.

    Raises:
        SpaceError: no head of the space fits any attach point.
    """
    layers, heads = space.layer_choices(), space.head_choices()
    genes: dict[str, tuple[str, ...]] = {}
    usable: list[AttachPoint] = []
    for point in points:
        fitting_heads = [name for name, head in heads.items() if _fits(point, (), head, num_classes)]
        if not fitting_heads:
            logger.warning("no head of the search space fits attach point %s %s: left out", point.name, point.shape)
            continue
        number = len(usable)
        fitting = tuple(
            name
            for name, parts in layers.items()
            if any(_fits(point, parts, heads[head], num_classes) for head in fitting_heads)
        )
        genes[f"exit{number}"] = (OFF, ON)
        genes |= {f"exit{number}_layer{slot}": fitting for slot in range(space.slots)}
        genes[f"exit{number}_head"] = tuple(fitting_heads)
        usable.append(point)
    if not usable:
        raise SpaceError("no head of the search space fits any attach point: choose another space or attach.modules")
    genes |= network.genes
    return Genome(
        genes,
        tuple(usable),
        space.slots,
        space.max_exits,
        layers,
        heads,
        tuple(map(tuple, space.starts)),
        num_classes,
        network,
    )


def starting_points(genome: Genome) -> list[dict[str, str]]:
    """Return genes to begin with: bare heads, then every start of the space, each at points spread over the backbone.

    Thresholds are tuned for every on/off mask of a network's branches, so a network with as many branches as are
    allowed says what each of them is worth. Each is tried with every value of the genes of whole networks, one gene at
    a time; in another precision or with another confidence it need not be trained again.
    """
    spread = np.linspace(0, len(genome.points) - 1, min(genome.max_exits, len(genome.points))).round()
    shapes = [branches_at(genome, shape, set(spread.astype(int).tolist())) for shape in ((), *genome.starts)]
    distinct = {tuple(values.items()): values for values in shapes}  # starts for maps are bare heads on tokens
    return [values | chosen for values in distinct.values() for chosen in genome.network.variations()]


def branches_at(genome: Genome, shape: Sequence[str], on: Collection[int]) -> dict[str, str]:
    """Return the genes of branches: of ``shape`` (choices for the slots in order) with the first head.

    They are on at the attach points numbered ``on``, and the same at the others, where they are off.
    """
    values = {}
    for number in range(len(genome.points)):
        values[f"exit{number}"] = ON if number in on else OFF
        for slot in range(genome.slots):
            gene = f"exit{number}_layer{slot}"
            wanted = shape[slot] if slot < len(shape) else NONE
            values[gene] = wanted if wanted in genome.genes[gene] else NONE
        values[f"exit{number}_head"] = genome.genes[f"exit{number}_head"][0]
    return values


def _fits(point: AttachPoint, layers: tuple[PartSpec, ...], head: PartSpec, num_classes: int) -> bool:
    shape = _shape_after(layers, point.shape)
    return shape is not None and _head_fits(head, shape, num_classes)


# A sampler decodes hundreds of networks per trial, which meet few shapes.
@lru_cache(maxsize=4096)
def _shape_after(layers: tuple[PartSpec, ...], shape: Shape) -> Shape | None:
    """Return the shape that ``layers`` leave of ``shape``, or None where they do not fit."""
    try:
        with torch.device("meta"):
            for layer in layers:
                shape = output_shape(make_layer(layer, shape), shape)
    except BranchError:
        return None
    return shape


@lru_cache(maxsize=4096)
def _head_fits(head: PartSpec, shape: Shape, num_classes: int) -> bool:
    try:
        with torch.device("meta"):
            make_head(head, shape, num_classes)
    except BranchError:
        return False
    return True
