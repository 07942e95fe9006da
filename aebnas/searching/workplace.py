"""All that one process needs to run trials, whether it leads the search or helps."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch

from aebnas.branches.spec import FP32
from aebnas.devices.device import Device
from aebnas.devices.store import user_folder
from aebnas.devices.target.heap import release
from aebnas.exits.accuracy import largest_deviation
from aebnas.experiment import Experiment
from aebnas.files import digest
from aebnas.locks import Quiet
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits, wanted_costs
from aebnas.searching.cost_desk import Inquiry
from aebnas.searching.costing import CostModels, by_precision, check_known, cost_models, kinds_of
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.genes import network_genes
from aebnas.searching.recombine import Recombiner
from aebnas.searching.rungs import Ledger
from aebnas.spaces.genome import Genome, build_genome


def quiet_here() -> Quiet:
    """Return what lets all searches of this machine pause while one of them measures."""
    # A home folder may be shared by many machines, none of which disturbs what another one measures.
    return Quiet(user_folder() / f"quiet-{digest(platform.node())}")


@dataclass(frozen=True)
class Workplace:
    """Data, backbone, genes, cost models and evaluator of one search.

    Args:
        limits: Of profile and experiment.
        target: The device that is measured on; None: it cannot be measured, or another process measures.
        ledger: Says which trainings to stop; None: none.
        quiet: Lets this process pause while another one measures.
    """

    experiment: Experiment
    folder: RunFolder
    prepared: Prepared
    genome: Genome
    costs: CostModels
    evaluator: Evaluator
    limits: CostLimits
    target: Device | None
    progress: Progress
    ledger: Ledger | None = None
    quiet: Quiet = field(default_factory=quiet_here)

    @cached_property
    def recombiner(self) -> Recombiner:
        """Puts branches that are trained already together in new networks."""
        settings = self.experiment.search
        return Recombiner(self.genome, settings.cost_objectives[0], settings.recombine, self.experiment.seed)

    @classmethod
    def open(
        cls,
        experiment: Experiment,
        folder: RunFolder,
        *,
        limits: CostLimits,
        accelerator: torch.device,
        target: Device | None,
        progress: Progress,
        quiet: Quiet,
        inquiry: Inquiry | None = None,
    ) -> Workplace:
        """Prepare data and backbone, measure what is not measured yet, and return the place.

        Args:
            inquiry: Asks the process that leads the search what networks cost; that has prepared the backbone as well.

        Raises:
            AebnasError: data, backbone, space or device will not do; the message says what to change.
        """
        progress = Paused(progress, quiet)
        with quiet.working():
            place = cls._open(experiment, folder, limits, accelerator, target, progress, quiet, inquiry)
        # What was exported, measured and computed is on disk; what that took is for the trials.
        release()
        return place

    @classmethod
    def _open(
        cls,
        experiment: Experiment,
        folder: RunFolder,
        limits: CostLimits,
        accelerator: torch.device,
        target: Device | None,
        progress: Progress,
        quiet: Quiet,
        inquiry: Inquiry | None,
    ) -> Workplace:
        profile, helping = folder.profile(), inquiry is not None
        prepared = prepare(experiment, folder, device=accelerator, progress=progress, as_kept=helping)
        genome = build_genome(
            folder.space(),
            prepared.backbone.attach_points,
            prepared.data.num_classes,
            network_genes(experiment, profile.precisions),
        )
        costs: CostModels
        if inquiry is not None and profile.measurable:
            costs = inquiry.models(kinds_of(genome), prepared.backbone)
        else:
            costs = cost_models(experiment, prepared, folder, genome, target, progress, quiet.resting)
        check_known(experiment, limits, by_precision(costs, experiment.confidence)[FP32], profile)
        evaluator = Evaluator(
            experiment,
            prepared,
            costs,
            folder,
            limited=tuple(limits.limits),
            device=accelerator,
            progress=progress,
            verify=not helping,
        )
        ledger = None
        if experiment.search.rungs:
            ledger = Ledger(
                wanted_costs(experiment, limits),
                evaluator.backbone,
                len(evaluator.truth),
                deviation=_deviation(experiment, prepared),
            )
        return cls(experiment, folder, prepared, genome, costs, evaluator, limits, target, progress, ledger, quiet)


def _deviation(experiment: Experiment, prepared: Prepared) -> Callable[[float], float] | None:
    """Return how much an accuracy on validation may be off, from its value; None: as a plain one."""
    if experiment.accuracy == "plain":
        return None
    return partial(largest_deviation, counts=torch.bincount(prepared.data.validation.labels).numpy())


class Paused(Progress):
    """Progress of work that pauses while another process of this machine measures; shown as ``inner``."""

    def __init__(self, inner: Progress, quiet: Quiet) -> None:
        self._inner, self._quiet = inner, quiet

    @contextlib.contextmanager
    def stage(self, label: str, total: int, done: int = 0) -> Iterator[Stage]:
        with self._inner.stage(label, total, done) as stage:
            yield Pausing(self._quiet, stage)

    def say(self, text: str) -> None:
        self._inner.say(text)


class Pausing(Stage):
    """A stage that pauses between two steps while another process measures; shown as ``inner``."""

    def __init__(self, quiet: Quiet, inner: Stage | None = None) -> None:
        self._quiet, self._inner = quiet, inner or Stage()

    def advance(self, steps: int = 1) -> None:
        self._quiet.let_pass()
        self._inner.advance(steps)

    def note(self, text: str) -> None:
        self._inner.note(text)

    def within(self, seconds: float) -> None:
        self._inner.within(seconds)

    def doing(self, who: str, text: str | None) -> None:
        self._inner.doing(who, text)
