"""Branches that were really trained once, epoch by epoch, and a clock that counts what that took."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.files import canonical_json, digest
from aebnas.progress import Stage
from aebnas.store import WeightStore
from aebnas.training.branches import BranchJob, TrainedBranch, Watch, train_branches
from aebnas.training.features import FeatureStore
from aebnas.training.settings import FitSettings, RegimeSettings


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
        told: object = None,
        accuracy: str = "plain",
    ) -> list[TrainedBranch]:
        """Return what ``train_branches`` would, with an untrained branch for the trained one; tell nobody."""
        if accuracy != "plain":
            raise ValueError("the table holds trainings whose epochs plain accuracy has chosen")
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
        how = [settings.model_dump(mode="json", exclude={"training", "final_epochs"}), training.about()]
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
