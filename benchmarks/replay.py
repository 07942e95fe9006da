"""Searches replayed on trainings that were really done once: how well they search, without training the same again.

A table keeps what every branch became, epoch by epoch, and the processor seconds that took. A replayed search is the
real one, but for its trainings, which it looks up; its clock runs by the processor time of its own work (sampling,
tuning thresholds, storing) and by the recorded seconds of the trainings that it asked for. What is not in the table yet
is trained then. So many searches can be held against each other, and on a busy machine too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import FP32, BranchSpec
from aebnas.costs.model import CostModel
from aebnas.experiment import Experiment
from aebnas.files import canonical_json, digest
from aebnas.locks import Quiet
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress, Stage
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
from aebnas.store import WeightStore
from aebnas.training.branches import BranchJob, TrainedBranch, Watch, train_branches
from aebnas.training.features import FeatureStore
from aebnas.training.settings import FitSettings, RegimeSettings

CPU = torch.device("cpu")


class VirtualClock:
    """Seconds that a search would have taken.

    Args:
        scale: Seconds that a second of training counts, so that a small training stands for a larger one.
        work: Processor time of this process, in seconds.
    """

    def __init__(self, scale: float = 1.0, work: Callable[[], float] = time.process_time) -> None:
        self._scale, self._work = scale, work
        self._start, self._away_s = work(), 0.0
        self.trained_s = 0.0

    def __call__(self) -> float:
        """Return the seconds since the start."""
        return self._work() - self._start - self._away_s + self.trained_s

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Do not count what is done in the block."""
        began = self._work()
        try:
            yield
        finally:
            self._away_s += self._work() - began

    def train(self, seconds: float) -> None:
        """Count a training."""
        self.trained_s += self._scale * seconds


@dataclass(frozen=True)
class Record:
    """A branch as it was after every epoch of its training.

    Args:
        accuracies: On validation, per epoch.
        logits: On validation, (epochs, N, classes) float16: with the weights of the best epoch so far.
        seconds: Of processor time, for all epochs.
    """

    accuracies: Sequence[float]
    logits: Tensor
    seconds: float


class Table:
    """Branches that were trained once, in files of ``folder``; takes the place of ``train_branches``.

    Args:
        context: What all trainings have in common, data and backbone.
        clock: Told of every training that is asked for.
    """

    def __init__(self, folder: Path, context: str, clock: VirtualClock) -> None:
        self._store, self._context, self.clock = WeightStore(folder), context, clock
        self.branches = self.epochs = 0

    def teach(
        self,
        jobs: Sequence[BranchJob],
        features: FeatureStore,
        backbone: SegmentedBackbone,
        settings: RegimeSettings,
        training: FitSettings,
        *,
        samples: int | None,
        seed: int,
        device: torch.device,
        stage: Stage | None = None,
        watch: Watch | None = None,
        done: Callable[[int, TrainedBranch], None] | None = None,
        mixed: bool = False,
    ) -> list[TrainedBranch]:
        """Return what ``train_branches`` would, with an untrained branch in the place of the trained one."""
        found = []
        for number, job in enumerate(jobs):
            with self.clock.away():
                key = self._key(job.spec, settings, training, samples, seed)
                if not self._store.has(key):
                    trained = train_by_epochs(
                        job.spec, features, backbone, settings, training, samples=samples, seed=seed, device=device
                    )
                    self._store.put(key, dataclasses.asdict(trained))
                record = Record(**self._store.get(key))
            found.append(self._answer(number, job, record, backbone, watch))
            if done is not None:
                done(number, found[-1])
        return found

    def _answer(
        self, number: int, job: BranchJob, record: Record, backbone: SegmentedBackbone, watch: Watch | None
    ) -> TrainedBranch:
        begun = 0 if job.resume is None else int(job.resume["epochs"])
        end = every = len(record.accuracies)
        if watch is not None:
            asked = range(begun + 1, every)
            end = next((epoch for epoch in asked if not watch(number, epoch, record.accuracies[epoch - 1])), every)
        seconds = record.seconds * (end - begun) / every
        self.clock.train(seconds)
        self.branches += begun == 0
        self.epochs += end - begun
        shapes = {point.name: point.shape for point in backbone.attach_points}
        return TrainedBranch(
            build_branch(job.spec, shapes[job.spec.attach], backbone.num_classes),
            record.logits[end - 1].float(),
            None,
            [[accuracy] for accuracy in record.accuracies[:end]],
            None if end == every else {"epochs": end},
            seconds,
        )

    def _key(
        self, spec: BranchSpec, settings: RegimeSettings, training: FitSettings, samples: int | None, seed: int
    ) -> str:
        how = [settings.model_dump(mode="json", exclude={"training", "final_epochs"}), training.model_dump(mode="json")]
        return digest(spec.key, self._context, canonical_json([*how, samples, seed]))


def train_by_epochs(
    spec: BranchSpec,
    features: FeatureStore,
    backbone: SegmentedBackbone,
    settings: RegimeSettings,
    training: FitSettings,
    *,
    samples: int | None,
    seed: int,
    device: torch.device,
) -> Record:
    """Train a branch, pausing after every epoch to write down what it says."""
    logits, seconds, paused = list[Tensor](), 0.0, None
    trained: TrainedBranch | None = None
    while trained is None or paused is not None:
        # What pausing takes is nothing that an uninterrupted training would have spent.
        start, stops = time.process_time(), list[float]()

        def stop(*_: float, stops: list[float] = stops) -> bool:
            stops.append(time.process_time())
            return False

        (trained,) = train_branches(
            [BranchJob(spec, paused)],
            features,
            backbone,
            settings,
            training,
            samples=samples,
            seed=seed,
            device=device,
            watch=stop,
        )
        seconds += (stops or [time.process_time()])[0] - start
        logits.append(trained.validation_logits.half())
        paused = trained.paused
    return Record([accuracy for (accuracy,) in trained.accuracies], torch.stack(logits), seconds)


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
