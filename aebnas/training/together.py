"""Branches that train side by side, each of them as it would alone, over one pass of the backbone for all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aebnas.branches.build import Branch
from aebnas.branches.linked import LinkedBranch
from aebnas.data.splits import Batch
from aebnas.exits.accuracy import AccuracyKind
from aebnas.progress import Stage
from aebnas.training.accelerator import Randomness, sent
from aebnas.training.features import FeatureStore, ManyBatch, SplitName, Together
from aebnas.training.fitting import FitResult, Fitting
from aebnas.training.inference import Score, evaluation_batch, to_device


@dataclass
class Pupil:
    """One branch among those that train side by side.

    Args:
        number: What whoever looks on calls it.
        point: Number of its attach point.
        branch: On the device that is trained on.
        fitting: Its training.
        randomness: What it alone draws from.
        seconds: Spent on it, with its share of what is done for all.
        stopped: Whether it is not to go on.
        overwrites: Whether its layers may change their input in place, which others are to see as it was.
    """

    number: int
    point: int
    branch: Branch | LinkedBranch
    fitting: Fitting
    randomness: Randomness
    seconds: float = 0.0
    stopped: bool = False
    overwrites: bool = True

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let it draw from its own randomness, and note the time it takes."""
        start = time.perf_counter()
        with self.randomness:
            yield
        self.seconds += time.perf_counter() - start

    def step(self, batch: ManyBatch) -> None:
        """Take it one batch further."""
        with self.turn():
            features = self.own(batch)
            before = features._version
            self.fitting.step(Batch(batch.index, features, batch.labels))
            # A batch of one sample may have been left out, and says nothing then.
            self.overwrites = features._version != before or (self.overwrites and len(batch.labels) == 1)

    def own(self, batch: ManyBatch) -> Tensor:
        """Return its features of ``batch``, as a copy where it may change them."""
        features = batch.features[self.point]
        return features.clone() if self.overwrites else features


@dataclass
class SideBySide:
    """The passes over features that several branches share.

    Args:
        rows: Of the training split, int64 (M,), which are trained on; None: all.
        seed: Of the order of the samples, the same for all.
        accuracy: Which one epochs are chosen by.
    """

    features: FeatureStore
    rows: Tensor | None
    device: torch.device
    batch_size: int
    seed: int
    stage: Stage
    accuracy: AccuracyKind = "plain"
    _views: dict[SplitName, tuple[tuple[int, ...], Together]] = field(default_factory=dict)

    def epoch(self, pupils: Sequence[Pupil]) -> None:
        """Take ``pupils``, all after the same number of epochs, one epoch further.

        Raises:
            TrainingError: the loss or a weight of one of them is not finite.
        """
        with _shared_time(pupils):
            for pupil in pupils:
                pupil.fitting.begin_epoch()
            for batch in self._batches("train", pupils, self.batch_size, self.seed + pupils[0].fitting.epoch):
                for pupil in pupils:
                    pupil.step(batch)
                    self.stage.advance(len(batch.labels))
            for pupil in pupils:
                pupil.fitting.settle()
            for pupil, accuracies in zip(pupils, self._accuracies(pupils), strict=True):
                pupil.fitting.end_epoch(accuracies)

    @torch.no_grad()
    def results(self, pupils: Sequence[Pupil]) -> list[tuple[FitResult, Tensor]]:
        """Return what the trainings did, and what the weights they leave say of validation, (N, classes) each."""
        with _shared_time(pupils):
            done = []
            for pupil in pupils:
                with pupil.turn():
                    done.append(pupil.fitting.result())
            said = [
                [pupil.branch(pupil.own(batch)).float() for pupil in pupils]
                for batch in self._batches("validation", pupils, evaluation_batch(self.device))
            ]
            logits = [torch.cat(parts).cpu() for parts in zip(*said, strict=True)]
        return list(zip(done, logits, strict=True))

    @torch.no_grad()
    def _accuracies(self, pupils: Sequence[Pupil]) -> list[list[float]]:
        scores = [Score(self.accuracy) for _ in pupils]
        for batch in self._batches("validation", pupils, evaluation_batch(self.device)):
            for pupil, score in zip(pupils, scores, strict=True):
                score.add([pupil.branch(pupil.own(batch))], batch.labels)
        return [score.accuracies() for score in scores]

    def _batches(
        self, name: SplitName, pupils: Sequence[Pupil], batch_size: int, seed: int | None = None
    ) -> Iterator[ManyBatch]:
        """Yield the batches of a split on the device, with the features that ``pupils`` take."""
        for batch in self._view(name, pupils).batches(batch_size, seed=seed):
            yield ManyBatch(
                sent(batch.index, self.device),
                {point: to_device(features, self.device) for point, features in batch.features.items()},
                sent(batch.labels, self.device),
            )

    def _view(self, name: SplitName, pupils: Sequence[Pupil]) -> Together:
        points = tuple(sorted({pupil.point for pupil in pupils}))
        if name not in self._views or self._views[name][0] != points:
            view = self.features.together(name, points)
            if name == "train" and self.rows is not None:
                view = view.subset(self.rows)
            self._views[name] = (points, view)
        return self._views[name][1]


@contextlib.contextmanager
def _shared_time(pupils: Sequence[Pupil]) -> Iterator[None]:
    """Divide evenly among ``pupils`` what passes beside their own turns."""
    start, before = time.perf_counter(), sum(pupil.seconds for pupil in pupils)
    yield
    shared = time.perf_counter() - start - (sum(pupil.seconds for pupil in pupils) - before)
    for pupil in pupils:
        pupil.seconds += shared / len(pupils)
