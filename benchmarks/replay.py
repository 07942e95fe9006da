"""Searches replayed on trainings that were really done once: how well they search, without training the same again.

A table keeps what every branch became, epoch by epoch, and the processor seconds that took. A replayed search is the
real one, but for its trainings, which it looks up; its clock runs by the processor time of its own work (sampling,
tuning thresholds, storing) and by the recorded seconds of the trainings that it asked for. What is not in the table yet
is trained then. So many searches can be held against each other, and on a busy machine too.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aebnas.branches.spec import FP32
from aebnas.costs.model import CostModel
from aebnas.experiment import Experiment
from aebnas.files import digest
from aebnas.locks import Quiet
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import CostLimits, wanted_costs
from aebnas.searching.costing import Kind
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.genes import network_genes
from aebnas.searching.loop import Archive, run_trials
from aebnas.searching.rungs import Ledger
from aebnas.searching.sampler import make_sampler
from aebnas.searching.starts import starting_genes
from aebnas.searching.study import open_study, queue
from aebnas.searching.workplace import Workplace
from aebnas.sharing.storage import open_storage
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from benchmarks.table import Table, VirtualClock

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Step:
    """A search after a trial.

    Args:
        seconds: By the virtual clock, trainings among them.
        trained_s: Of trainings alone.
        branches: That training was begun of.
        epochs: Of them.
    """

    seconds: float
    trained_s: float
    hypervolume: float
    branches: int
    epochs: int


@dataclass(frozen=True)
class Theatre:
    """Where searches are replayed.

    Args:
        experiment: What is replayed, but for what each search has of its own; costs are MACs.
        prepared: Its data and trained backbone.
        home: Keeps the table and the features.
        scale: Of the clock.
    """

    experiment: Experiment
    prepared: Prepared
    home: Path
    scale: float

    @classmethod
    def open(
        cls, experiment: Experiment, home: Path, *, train: int | None, scale: float, progress: Progress
    ) -> Theatre:
        """Train the backbone on all data, if that was not done yet; keep ``train`` samples for branches."""
        experiment = experiment.override({"search.objectives": ("accuracy", "macs")})
        prepared = prepare(experiment, RunFolder(home), device=CPU, progress=progress)
        data = prepared.data
        if train is not None:
            rows = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:train].sort().values
            fingerprint = digest(data.fingerprint, str(train))
            data = dataclasses.replace(data, train=data.train.subset(rows), fingerprint=fingerprint)
            prepared = dataclasses.replace(prepared, data=data, fingerprint=digest(prepared.fingerprint, str(train)))
        return cls(experiment, prepared, home, scale)

    def replay(self, options: Mapping[str, Any], seed: int) -> list[Step]:
        """Run one search with the keys ``options`` of the experiment; return how it went, trial by trial."""
        chosen = self.experiment.override(options)
        clock = VirtualClock(self.scale)
        table = Table(self.home / "table", self.prepared.fingerprint, clock)
        steps: list[Step] = []

        def done(archive: Archive) -> None:
            steps.append(Step(clock(), clock.trained_s, archive.hypervolume(), table.branches, table.epochs))

        with tempfile.TemporaryDirectory() as temporary:
            place = self._place(chosen, RunFolder(Path(temporary)), table)
            storage = open_storage(f"sqlite:///{place.folder.study_file}", say=_nobody)
            sampler = make_sampler(chosen.search, seed, place.genome)
            study = open_study(storage, "replay", chosen.search, sampler)
            queue(study, starting_genes(place.genome, chosen, load_space(chosen.space)))
            run_trials(study, place, clock=clock, done=done)
        return steps

    def _place(self, experiment: Experiment, folder: RunFolder, table: Table) -> Workplace:
        # The same for all searches, and no part of what they are compared in.
        folder.features = self.home / "features"
        backbone = self.prepared.backbone
        with table.clock.away():
            genome = build_genome(
                load_space(experiment.space),
                backbone.attach_points,
                self.prepared.data.num_classes,
                network_genes(experiment, (FP32,)),
            )
            costs = {Kind(FP32, experiment.confidence): CostModel(backbone, None)}
            evaluator = Evaluator(
                experiment, self.prepared, costs, folder, device=CPU, progress=Progress(), teach=table.teach
            )
        limits = CostLimits({})
        ledger = None
        if experiment.search.rungs:
            ledger = Ledger(wanted_costs(experiment, limits), evaluator.backbone, len(evaluator.truth))
        return Workplace(
            experiment,
            folder,
            self.prepared,
            genome,
            costs,
            evaluator,
            limits,
            target=None,
            progress=Progress(),
            ledger=ledger,
            quiet=Quiet(folder.path / "quiet"),
        )


def _nobody(text: str) -> None:
    return
