"""The cost models of a search, one per precision and confidence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aebnas.branches.spec import FP32, NO_CASCADE, BranchSpec
from aebnas.costs.blocks import Block
from aebnas.costs.kinds import COSTS, ENERGY, MEMORY
from aebnas.costs.model import CostModel
from aebnas.costs.overhead import Overhead
from aebnas.devices.device import Device
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import ExperimentError, RunError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.experiment import Experiment
from aebnas.export.blocks import block_bytes
from aebnas.files import read_json, write_json
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.rebuild import deployed_backbone
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits, wanted_costs
from aebnas.searching.timed import timed_exporter
from aebnas.searching.timer import DeviceTimer, exporter
from aebnas.spaces.genome import Genome, starting_points

# Real images that the networks run on which the overhead is fitted on.
TIMED_IMAGES = 96


class Kind(NamedTuple):
    """What decides the costs of a network beside its branches."""

    precision: str
    confidence: str


CostModels = Mapping[Kind, CostModel]


def by_precision(models: CostModels, confidence: str) -> dict[str, CostModel]:
    """Return the cost models of one confidence, the fp32 one first."""
    return {kind.precision: model for kind, model in models.items() if kind.confidence == confidence}


def check_cascade(experiment: Experiment, profile: HardwareProfile) -> None:
    """Raise ExperimentError where branches are cascaded and the device's precisions leave them no fp32 to run in."""
    cascades = {experiment.cascade, *experiment.search.genes.get("cascade", ())}
    if cascades != {NO_CASCADE} and FP32 not in profile.precisions:
        raise ExperimentError(
            f"cascaded branches run in fp32 only, and device {profile.name!r} has precision "
            f"{', '.join(profile.precisions)}: add fp32 there, or set cascade to none"
        )


def limits_of(experiment: Experiment, profile: HardwareProfile) -> CostLimits:
    """Return the limits of profile and experiment.

    Raises:
        ExperimentError: what is wanted cannot be known, because the device cannot be measured.
    """
    limits = CostLimits.of(profile.limits, experiment.search.limits)
    for name in wanted_costs(experiment, limits):
        if COSTS[name].device and not profile.measurable:
            raise ExperimentError(
                f"device {profile.name!r} cannot be measured from here, so {name} can be no objective, target or "
                "limit: set search.objectives to [accuracy, macs], or use --device local"
            )
    return limits


def cost_models(
    experiment: Experiment,
    prepared: Prepared,
    folder: RunFolder,
    genome: Genome,
    target: Device | None,
    progress: Progress,
    resting: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> CostModels:
    """Return a cost model for every precision and confidence that a network may have; fp32 is always among them.

    Blocks are measured now. What the overhead was found to be is kept in the run folder, so that all predictions of a
    run are of one kind however often it is interrupted.

    Args:
        resting: Entered while another thread of this process measures.

    Raises:
        MeasurementError: the device could not measure. BackboneError: a block cannot be written or converted.
    """
    images, segments = _some_images(prepared), prepared.backbone.segments
    known_networks = calibration_networks(genome)
    if target is not None:
        whole = Block(tuple(segments), prepared.backbone.input_shape)
        target.use_yardstick(block_bytes(exporter(Decider(build_confidence(experiment.confidence)))(whole)))
    models: dict[Kind, CostModel] = {}
    for kind in kinds_of(genome):
        decider = Decider(build_confidence(kind.confidence))
        export = exporter(decider)
        if kind.precision != FP32:
            export = timed_exporter(deployed_backbone(prepared, kind.precision, folder), list(segments), decider)
        timer = DeviceTimer(
            target,
            prepared.data.input_shape,
            export,
            confidence=decider.measure,
            images=images,
            progress=progress,
        )
        path = folder.latency / f"overhead-{kind.precision}-{kind.confidence}.json"
        known = _read_overhead(path)
        model = CostModel(prepared.backbone, timer, known_networks, known, resting)
        if known is None and target is not None:
            write_json(path, asdict(model.overhead))
        models[kind] = model
    return models


def kinds_of(genome: Genome) -> list[Kind]:
    """Return what networks may be of that decides their costs; fp32 is always among the precisions."""
    precisions = dict.fromkeys([FP32, *genome.network.precisions])
    return [Kind(precision, name) for name in genome.network.confidences for precision in precisions]


def calibration_networks(genome: Genome) -> list[tuple[BranchSpec, ...]]:
    """Return the branches of the networks that the overhead is fitted on.

    They are made of the known shapes that every study begins with, whose blocks are needed anyway: with all their
    exits, with one and with two, so that what an exit takes can be told from what lies between exits.
    """
    found: dict[tuple[str, ...], tuple[BranchSpec, ...]] = {}
    # The same branches come once for every setting that networks may choose.
    shapes = dict.fromkeys(genome.decode(genes).branches for genes in starting_points(genome))
    for number, branches in enumerate(branches for branches in shapes if branches):
        one, other = number % len(branches), (number + 1) % len(branches)
        for chosen in (range(len(branches)), {one}, {one, other}):
            network = tuple(branches[place] for place in sorted(chosen))
            found.setdefault(tuple(branch.key for branch in network), network)
    return list(found.values())


def check_sensor(experiment: Experiment, limits: CostLimits, target: Device | None) -> None:
    """Raise ExperimentError where energy is wanted and nothing tells it."""
    if target is None or ENERGY not in wanted_costs(experiment, limits):
        return
    if target.profile.power is None and target.facts().sensor is None:
        raise ExperimentError(
            f"device {target.profile.name!r} does not tell {ENERGY}: no energy sensor can be read there; "
            "add power: {active_w: WATTS} to the profile"
        )


def check_known(experiment: Experiment, limits: CostLimits, model: CostModel, profile: HardwareProfile) -> None:
    """Raise ExperimentError where the device that was measured does not tell a cost that is wanted."""
    fixes = {ENERGY: "its energy sensor gave nothing", MEMORY: "install a newer onnxruntime there"}
    for name in wanted_costs(experiment, limits):
        if name not in model.names:
            raise ExperimentError(f"device {profile.name!r} does not tell {name}: {fixes[name]}")


def story(models: CostModels, target: Device | None) -> Sequence[str]:
    """Return what a user should know of the latencies before they are used, a sentence each."""
    if target is None:
        return []
    lines = [
        f"predicted latency ({name}) is within {100 * overhead.relative_half:.1f} % for nine of ten networks, "
        f"fitted on {overhead.paths} measured graphs"
        for name, overhead in _overheads(models).items()
        if overhead.paths
    ]
    noise = target.noise_pct
    return lines if noise is None else [f"this machine varies by {noise:.1f} %", *lines]


def latency_summary(models: CostModels, target: Device | None) -> dict[str, Any] | None:
    """Return how latency was measured and predicted, for the summary of the run; None where it was not."""
    if target is None:
        return None
    overheads = {name: asdict(overhead) for name, overhead in _overheads(models).items()}
    return {"noise_pct": target.noise_pct, "overhead": overheads}


def _overheads(models: CostModels) -> dict[str, Overhead]:
    """Return the overheads by precision, and where there are several confidences by both."""
    several = len({kind.confidence for kind in models}) > 1
    return {", ".join(kind) if several else kind.precision: model.overhead for kind, model in models.items()}


def _read_overhead(path: Path) -> Overhead | None:
    if not path.exists():
        return None
    try:
        return Overhead(**read_json(path))
    except TypeError as error:
        raise RunError(f"{path} is damaged: delete it and run the same command again") from error


def _some_images(prepared: Prepared) -> Tensor:
    """Return training images for networks that are run only to be timed."""
    train = prepared.data.train
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:TIMED_IMAGES]
    return torch.cat([batch.images for batch in train.subset(rows).batches(TIMED_IMAGES)])
