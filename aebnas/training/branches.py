"""Training branches on the features of a frozen backbone: in order, or any number of them at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import Branch
from aebnas.branches.linked import Cascade, LinkedBranch, build_exit
from aebnas.branches.spec import BranchSpec
from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.confidence import build_confidence
from aebnas.progress import Stage
from aebnas.training.accelerator import Randomness
from aebnas.training.begin import chosen_rows, objective_of, refuse, seed_everything
from aebnas.training.features import FeatureStore
from aebnas.training.fit import Trainee, fit, logits_of
from aebnas.training.fitting import Fitting
from aebnas.training.log import TellEpoch
from aebnas.training.objective import Objective
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings, RegimeSettings
from aebnas.training.survivors import survivors_gate
from aebnas.training.together import Pupil, SideBySide
from aebnas.training.trained import BranchJob, ToldOfJob, TrainedBranch, Watch


def train_branch(
    spec: BranchSpec,
    features: FeatureStore,
    backbone: SegmentedBackbone,
    settings: RegimeSettings,
    training: FitSettings,
    *,
    samples: int | None,
    seed: int,
    device: torch.device,
    stage: Stage | None = None,
    earlier: Sequence[TrainedBranch] = (),
    cascade: Cascade = "none",
    confidence: str = "max-probability",
    mixed: bool = False,
    told: TellEpoch | None = None,
    accuracy: AccuracyKind = "plain",
) -> TrainedBranch:
    """Train one branch on the features at its attach point; the backbone is not touched.

    Args:
        samples: Limits the training samples (the first ones of a seeded shuffle); None takes all.
        earlier: The branches before this one, trained in order with the same ``samples`` and ``seed``. Needed where
            the regime trains branches in order, and for cascaded branches.
        cascade: What the branch hears of the last of ``earlier``.
        confidence: How sure the branches before are, where the regime goes by that.
        mixed: Whether branches compute in bfloat16 where ``device`` is a CUDA device.
        told: Is told of every epoch that is over.
        accuracy: Which one on validation the epoch is chosen by.

    Raises:
        BranchError: the branch does not fit its attach point. TrainingError: the loss is not finite, or the regime
            cannot do what the settings say.
    """
    given = features, backbone, settings, training, samples, seed, device, stage or Stage(), mixed, accuracy
    lesson = _Lesson(*given)
    return lesson.alone(spec, earlier=earlier, cascade=cascade, confidence=confidence, told=told)


def train_branches(
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
    told: ToldOfJob | None = None,
    accuracy: AccuracyKind = "plain",
) -> list[TrainedBranch]:
    """Train branches that need not hear each other; each becomes what it becomes alone, as :func:`train_branch` does.

    Those whose features are not kept train side by side over one pass of the backbone per batch; on CUDA all of them
    do. A branch that ``watch`` stops has the weights of its best epoch so far, and can be gone on with.

    Args:
        watch: Asked after every epoch of a job but its last; False stops that job.
        done: Told of every branch, with the number of its job, as soon as its training has ended.
        mixed: Whether branches compute in bfloat16 where ``device`` is a CUDA device.
        told: Is told of every epoch of every job.
        accuracy: Which one on validation epochs are chosen by.

    Raises:
        BranchError: a branch does not fit its attach point. TrainingError: the loss of a branch is not finite, or the
            regime cannot do what the settings say. ValueError: the regime trains branches in order or not at all.
    """
    if REGIMES[settings.name].kind != "alone":
        raise ValueError(f"regime {settings.name} does not train branches one without the other")
    given = features, backbone, settings, training, samples, seed, device, stage or Stage(), mixed, accuracy
    lesson = _Lesson(*given)
    together = [number for number, job in enumerate(jobs) if lesson.shares(job.spec)]
    found: dict[int, TrainedBranch] = {}

    def keep(number: int, trained: TrainedBranch) -> None:
        found[number] = trained
        if done is not None:
            done(number, trained)

    for number, job in enumerate(jobs):
        if number not in together:
            tell = None if told is None else partial(told, number)
            keep(number, lesson.alone(job.spec, resume=job.resume, watch=watch, number=number, told=tell))
    for number, trained in lesson.side_by_side({number: jobs[number] for number in together}, watch, told):
        keep(number, trained)
    return [found[number] for number in range(len(jobs))]


@dataclass(frozen=True)
class _Lesson:
    """What all branches of one call have in common; arguments as of :func:`train_branch`."""

    features: FeatureStore
    backbone: SegmentedBackbone
    settings: RegimeSettings
    training: FitSettings
    samples: int | None
    seed: int
    device: torch.device
    stage: Stage
    mixed: bool
    accuracy: AccuracyKind

    def __post_init__(self) -> None:
        refuse(self.settings)

    def shares(self, spec: BranchSpec) -> bool:
        """Tell whether the branch has something to share with others: a pass of the backbone, or a CUDA device."""
        return self.device.type == "cuda" or self._point(spec) not in self.features.cached_points

    def alone(
        self,
        spec: BranchSpec,
        *,
        earlier: Sequence[TrainedBranch] = (),
        cascade: Cascade = "none",
        confidence: str = "max-probability",
        resume: Mapping[str, Any] | None = None,
        watch: Watch | None = None,
        number: int = 0,
        told: TellEpoch | None = None,
    ) -> TrainedBranch:
        start = time.perf_counter()
        branch, point = self._fresh(spec, cascade, first=not earlier), self._point(spec)
        in_order = REGIMES[self.settings.name].kind == "in-order"
        heard = in_order or cascade != "none"
        # What earlier branches say is known of the plain images only.
        train, validation = self.features.split("train", point, plain=heard), self.features.split("validation", point)
        if (rows := self._rows()) is not None:
            train = train.subset(rows)
        gate = None
        if in_order and earlier and self.settings.calex.aligned:
            gate = survivors_gate(
                build_confidence(confidence),
                [before.on_train(len(train)) for before in earlier],
                [before.validation_logits for before in earlier],
                self.features.logits("validation"),
                validation.labels,
                self.settings.calex,
                self.accuracy,
            )
        previous = None
        if isinstance(branch, LinkedBranch):
            previous = (earlier[-1].on_train(len(train)), earlier[-1].validation_logits)
        trainee = Trainee(branch, lambda *inputs: [branch(*inputs)], (branch,), previous=previous)
        result = fit(
            trainee,
            train,
            validation,
            objective_of(self.settings, (1.0,), self._teacher(plain=heard), gate=gate),
            self.training,
            device=self.device,
            seed=self.seed,
            stage=self.stage,
            mixed=self.mixed,
            watch=None if watch is None else lambda epochs, accuracies: watch(number, epochs, accuracies[0]),
            resume=resume,
            told=told,
            accuracy=self.accuracy,
        )
        on_train, on_validation = previous or (None, None)
        (logits,) = logits_of(trainee.forward, validation, self.device, on_validation)
        said = logits_of(trainee.forward, train, self.device, on_train)[0] if heard else None
        return TrainedBranch.of(branch, result, logits, said, time.perf_counter() - start)

    def side_by_side(
        self, jobs: Mapping[int, BranchJob], watch: Watch | None, told: ToldOfJob | None
    ) -> list[tuple[int, TrainedBranch]]:
        if not jobs:
            return []
        teacher = self._teacher()
        # Moved once: every training would otherwise keep a copy of its own on the device.
        objective = objective_of(self.settings, (1.0,), teacher)
        objective = objective.for_classes(self.training, self._labels()).on(self.device)
        pupils = [self._pupil(number, job, objective) for number, job in jobs.items()]
        batch_size = self.training.batch_size
        passes = SideBySide(self.features, self._rows(), self.device, batch_size, self.seed, self.stage, self.accuracy)
        while left := [pupil for pupil in pupils if not pupil.stopped and not pupil.fitting.finished]:
            # The order of the samples goes by the epoch: those that are behind catch up before others go on.
            epoch = min(pupil.fitting.epoch for pupil in left)
            here = [pupil for pupil in left if pupil.fitting.epoch == epoch]
            before = [pupil.seconds for pupil in here]
            passes.epoch(here)
            self._note(here)
            for pupil, earlier_s in zip(here, before, strict=True):
                fitting = pupil.fitting
                if watch is not None and not fitting.finished:
                    pupil.stopped = not watch(pupil.number, fitting.epoch, fitting.accuracies[-1][0])
                if told is not None:
                    took_s = pupil.seconds - earlier_s
                    told(pupil.number, fitting.last_epoch(seconds=took_s, stopped=pupil.stopped))
        results = passes.results(pupils)
        return [
            (pupil.number, TrainedBranch.of(pupil.branch, result, logits, None, pupil.seconds))
            for pupil, (result, logits) in zip(pupils, results, strict=True)
        ]

    def _pupil(self, number: int, job: BranchJob, objective: Objective) -> Pupil:
        branch = self._fresh(job.spec)
        trainee = Trainee(branch, lambda features: [branch(features)], (branch,))
        fitting = Fitting(
            trainee, objective, self.training, samples=self._count(), device=self.device, mixed=self.mixed
        )
        if job.resume is not None:
            fitting.load_state_dict(job.resume)
        return Pupil(number, self._point(job.spec), branch, fitting, Randomness(self.device))

    def _note(self, pupils: Sequence[Pupil]) -> None:
        means = sorted(100 * pupil.fitting.mean for pupil in pupils)
        spread = " to ".join(f"{mean:.2f}" for mean in dict.fromkeys((means[0], means[-1])))
        several = f"{len(pupils)} branches side by side, " if len(pupils) > 1 else ""
        epoch = f"epoch {pupils[0].fitting.epoch}/{self.training.epochs}"
        self.stage.note(f"{several}{epoch}, validation {spread} %")

    def _fresh(self, spec: BranchSpec, cascade: Cascade = "none", *, first: bool = True) -> Branch | LinkedBranch:
        seed_everything(self.seed)
        shape = self.backbone.attach_points[self._point(spec)].shape
        branch = build_exit(spec, shape, self.backbone.num_classes, cascade, first=first).to(self.device)
        branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return branch

    def _point(self, spec: BranchSpec) -> int:
        return [place.name for place in self.backbone.attach_points].index(spec.attach)

    def _rows(self) -> Tensor | None:
        return chosen_rows(len(self.features.logits("train")), self.samples, self.seed)

    def _labels(self) -> Tensor:
        rows, labels = self._rows(), self.features.labels("train")
        return labels if rows is None else labels[rows]

    def _count(self) -> int:
        rows = self._rows()
        return len(self.features.logits("train")) if rows is None else len(rows)

    def _teacher(self, *, plain: bool = False) -> Tensor | None:
        if REGIMES[self.settings.name].target(self.settings) != "backbone":
            return None
        teacher = self.features.teacher(self._rows())
        return teacher[: self._count()] if plain else teacher
