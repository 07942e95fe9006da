"""Networks that a search begins with: known shapes, and the best of earlier runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aebnas.branches.spec import BranchSpec, NetworkSpec, Option, PartSpec
from aebnas.errors import AebnasError, ExperimentError
from aebnas.experiment import Experiment
from aebnas.run import Run
from aebnas.spaces.definition import NONE, SpaceDefinition
from aebnas.spaces.genome import OFF, ON, Genome, branches_at, starting_points
from aebnas.spaces.network_genes import CASCADE, CONFIDENCE, PRECISION, REGIME, text_of

logger = logging.getLogger(__name__)
# Of one earlier run: more would leave a search little to do of its own.
MOST_EARLIER = 8


def starting_genes(genome: Genome, experiment: Experiment, space: SpaceDefinition) -> list[dict[str, Any]]:
    """Return the genes of the networks to try first, no network twice.

    The best of the runs that ``search.start_from`` names, then the known shapes unless ``search.starts`` is off.

    Raises:
        ExperimentError: ``search.start_from`` names a folder that holds no finished run.
    """
    settings = experiment.search
    every = [genes for path in settings.start_from for genes in earlier_networks(path, genome, space)]
    if settings.starts:
        every += known_shapes(genome, space)
    found: dict[str, dict[str, Any]] = {}
    for genes in every:
        found.setdefault(genome.decode(genes).key, genes)
    return list(found.values())


def known_shapes(genome: Genome, space: SpaceDefinition) -> list[dict[str, str]]:
    """Return the genes of shapes that are often good.

    Bare heads and the branches that the space begins with, spread over all attach points (:func:`starting_points`, in
    every variation of the genes of whole networks); the first of these branches with exits at even cost; AEBNAS's
    typical winner (arXiv 2512.10671, our reading of its public code): exits at even cost, each one strided convolution
    with a kernel of 3 before the pooled linear head; and a single exit in the middle.
    """
    even = _nearest(genome, [(number + 1) / (genome.max_exits + 1) for number in range(genome.max_exits)])
    own = genome.starts[0] if genome.starts else ()
    stage = next((name for name, parts in space.layer_choices().items() if _is_strided(parts)), None)
    typical = () if stage is None else (stage,)
    first = genome.network.variations()[0]
    shapes = [(own, even), (typical, even), (own, _nearest(genome, [0.5]))]
    return [*starting_points(genome), *(branches_at(genome, shape, on) | first for shape, on in shapes)]


def _nearest(genome: Genome, shares: Sequence[float]) -> set[int]:
    """Return the numbers of the attach points nearest to ``shares`` of the MACs up to the last one."""
    macs = np.array([point.macs for point in genome.points], dtype=np.float64)
    return {int(np.abs(macs / macs[-1] - share).argmin()) for share in shares}


def _is_strided(parts: Sequence[PartSpec]) -> bool:
    convolutions = [dict(part.options) for part in parts if part.kind == "conv"]
    return len(convolutions) == 1 and convolutions[0].get("kernel") == 3 and convolutions[0].get("stride") == 2


def earlier_networks(path: Path, genome: Genome, space: SpaceDefinition) -> list[dict[str, str]]:
    """Return the genes of the best networks of the finished run at ``path``, as far as this search can have them.

    Branches keep their attach point where both runs know its name, else they go to the one at the nearest share of the
    backbone's MACs. A branch with layers or a head that the space does not have is left out, and so are settings of
    whole networks that are none of the choices here.

    Raises:
        ExperimentError: there is no finished run at ``path``.
    """
    try:
        run = Run(path)
        networks = _best([row for row in run.rows if not row["static"]])
    except AebnasError as error:
        raise ExperimentError(f"search.start_from: {error}") from error
    places = _places(run, networks, genome)
    found, left_out = list[dict[str, str]](), 0
    for network in networks:
        genes = _genes(network, places, genome, space)
        kept = genome.decode(genes)
        left_out += [_shape(branch) for branch in kept.branches] != [_shape(branch) for branch in network.branches]
        if kept.branches:
            found.append(genes)
    if left_out:
        logger.warning(
            "search.start_from: %d of %d networks of %s have branches that this search cannot have, which are left out",
            left_out,
            len(networks),
            path,
        )
    return found


def _best(rows: Sequence[Mapping[str, Any]]) -> list[NetworkSpec]:
    """Return up to ``MOST_EARLIER`` networks of a front's rows: finalists, then others from all over the front."""
    networks = [NetworkSpec.from_json({"branches": row["exits"], **row}) for row in rows]
    first = [network for network, row in zip(networks, rows, strict=True) if row["finalist"]]
    first = list(dict.fromkeys(first))[:MOST_EARLIER]
    others = [network for network in dict.fromkeys(networks) if network not in first]
    count = min(MOST_EARLIER - len(first), len(others))
    return first + [others[i] for i in np.linspace(0, len(others) - 1, count).round().astype(int)]


def _places(run: Run, networks: Sequence[NetworkSpec], genome: Genome) -> Mapping[str, int]:
    """Return the number of the attach point here for every name that ``networks`` use."""
    here = {point.name: number for number, point in enumerate(genome.points)}
    used = {branch.attach for network in networks for branch in network.branches}
    if used <= here.keys():
        return here
    try:
        points = run.prepared().backbone.attach_points
    except AebnasError as error:
        # Its data may be on another machine, or were given from Python.
        logger.warning("search.start_from: %s: attach points are matched by name only (%s)", run.folder.path, error)
        return here
    whole = points[-1].macs
    return {point.name: next(iter(_nearest(genome, [point.macs / whole]))) for point in points}


def _genes(network: NetworkSpec, places: Mapping[str, int], genome: Genome, space: SpaceDefinition) -> dict[str, str]:
    """Return the genes of ``network``; branches that cannot be had are off."""
    genes = branches_at(genome, (), ())
    chosen = {REGIME: network.regime, CONFIDENCE: network.confidence, CASCADE: network.cascade}
    wanted = {PRECISION: network.precision, **chosen, **dict(network.options)}
    first = genome.network.variations()[0]
    genes |= {name: text_of(wanted[name]) if _offered(genome, name, wanted) else first[name] for name in first}
    for branch in network.branches:
        number = places.get(branch.attach)
        if number is not None and genes[f"exit{number}"] == OFF:
            genes |= _branch_genes(branch, number, genome, space)
    return genes


def _offered(genome: Genome, name: str, wanted: Mapping[str, Option]) -> bool:
    return name in wanted and text_of(wanted[name]) in genome.genes[name]


def _branch_genes(branch: BranchSpec, number: int, genome: Genome, space: SpaceDefinition) -> dict[str, str]:
    """Return the genes that give ``branch`` at attach point ``number``, or none where it cannot be had there."""
    exit_ = f"exit{number}"
    heads = [name for name, head in space.head_choices().items() if head == branch.head]
    names = next(_spelled(branch.layers, space.layer_choices(), genome.slots), None)
    if not heads or names is None:
        return {}
    slots = {f"{exit_}_layer{slot}": names[slot] if slot < len(names) else NONE for slot in range(genome.slots)}
    genes = {exit_: ON, **slots, f"{exit_}_head": heads[0]}
    if any(value not in genome.genes[name] for name, value in genes.items()):
        return {}
    # What does not fit the maps here would be dropped, and another branch be left.
    (made,) = genome.decode(branches_at(genome, (), ()) | genome.network.variations()[0] | genes).branches
    return genes if _shape(made) == _shape(branch) else {}


def _spelled(
    layers: tuple[PartSpec, ...], choices: Mapping[str, tuple[PartSpec, ...]], slots: int
) -> Iterator[tuple[str, ...]]:
    """Yield the ways to put ``layers`` together from up to ``slots`` choices."""
    if not layers:
        yield ()
        return
    for name, parts in choices.items() if slots else ():
        if parts and layers[: len(parts)] == parts:
            yield from ((name, *rest) for rest in _spelled(layers[len(parts) :], choices, slots - 1))


def _shape(branch: BranchSpec) -> tuple[tuple[PartSpec, ...], PartSpec]:
    return branch.layers, branch.head
