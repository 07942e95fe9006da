"""Does one job after the other in one process; data and backbones are made once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import nn

from aebnas.backbones.build import state_fingerprint
from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.comparing.arena import fresh_backbone, load_splits
from aebnas.comparing.curves import subject_of
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.jobs import Job
from aebnas.comparing.lessons import Lesson, Scaled, train_variant
from aebnas.comparing.pricing import Prices
from aebnas.comparing.results import Result, StaticResult
from aebnas.comparing.saying import Saying
from aebnas.comparing.scoring import Said, diagnose, exit_accuracies, score
from aebnas.comparing.variants import Variant
from aebnas.data.splits import DataBundle
from aebnas.exits.accuracy import AccuracyKind, accuracy_of
from aebnas.experiment import Experiment
from aebnas.files import digest
from aebnas.progress import Progress, Stage
from aebnas.store import load_state, state_of
from aebnas.training.accelerator import pick_accelerator
from aebnas.training.candidates import seed_everything
from aebnas.training.features import FeatureStore
from aebnas.training.fit import Forward, Trainee, fit, logits_of
from aebnas.training.log import open_log
from aebnas.training.objective import Objective
from aebnas.training.resident import resident

# Features of the seed in hand and of the one before are enough: jobs come seed by seed.
_SEEDS_AT_HAND = 2


@dataclass(frozen=True)
class Plan:
    """All that a process needs to do any job of a comparison; it is sent to other processes.

    Args:
        base: The experiment without any variant's settings.
        specs: The branches, in the order of their attach points.
        prices: By :attr:`Variant.key`.
    """

    base: Experiment
    specs: tuple[BranchSpec, ...]
    prices: dict[str, Prices]
    folder: ComparisonFolder


class Workshop:
    """Trains, scores and writes the result files of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._folder = plan, plan.folder
        self._device = pick_accelerator(plan.base.accelerator)
        self._log = open_log(plan.base.training_log, plan.folder.path)
        self._trained = lru_cache(maxsize=_SEEDS_AT_HAND)(self._read_trained)
        self._features = lru_cache(maxsize=_SEEDS_AT_HAND)(self._make_features)

    @cached_property
    def data(self) -> DataBundle:
        """The splits, the same for every seed."""
        return load_splits(self._plan.base, self._folder.data_fingerprint())

    def do(self, job: Job, stage: Stage) -> None:
        """Do ``job`` and write what came of it.

        Raises:
            RunError, RunFailed: a file could not be written; it is not the job's fault. AebnasError: training failed.
        """
        {"backbone": self._train_backbone, "static": self._train_static, "variants": self._train_variants}[job.kind](
            job, stage
        )

    def _fresh(self, seed: int) -> SegmentedBackbone:
        return fresh_backbone(self._plan.base, self.data, seed, [spec.attach for spec in self._plan.specs])

    def _train_backbone(self, job: Job, stage: Stage) -> None:
        backbone = self._fresh(job.seed)
        self._fit(backbone.model, backbone.model, job, stage)
        self._folder.backbones.put(str(job.seed), {"state": state_of(backbone.model)})

    def _train_static(self, job: Job, stage: Stage) -> None:
        start, backbone = time.perf_counter(), self._fresh(job.seed)
        network: nn.Module = backbone.model
        if job.exit is not None:
            spec, point = self._plan.specs[job.exit], backbone.attach_points[job.exit]
            seed_everything(job.seed)
            network = nn.Sequential(
                backbone.span(0, job.exit + 1), build_branch(spec, point.shape, backbone.num_classes)
            )
        trained = self._fit(network, network, job, stage)
        said = self._said(lambda images: [network(images)])
        accuracies = [_accuracy(one, self._plan.base.accuracy) for one in said]
        seconds = time.perf_counter() - start
        self._folder.write_static(StaticResult(job.exit, job.seed, trained, seconds, *accuracies))

    def _train_variants(self, job: Job, stage: Stage) -> None:
        """Train what has not been trained yet, and make the results that are not there."""
        folder, key, seed = self._folder, job.variants[0].training_key, job.seed
        saying = folder.read_saying(key, seed)
        if saying is None:
            saying = self._train(job, stage)
            folder.write_saying(key, seed, saying)
        for variant in job.variants:
            # What is finished stays as it is, even if this training should differ in the last digit.
            if folder.read_result(variant.key, seed) is None:
                folder.write_result(variant.key, self._result(variant, seed, saying))

    def _train(self, job: Job, stage: Stage) -> Saying:
        start, plan, seed = time.perf_counter(), self._plan, job.seed
        fresh = self._fresh(seed)
        initial = state_of(fresh.model)
        lesson = Lesson(
            plan.specs,
            self.data,
            initial=initial,
            backbone=self._trained(seed) if job.needs_backbone else fresh.eval().requires_grad_(False),
            features=(lambda: self._features(seed)),
            seed=seed,
            device=self._device,
            log=self._log,
            subject=subject_of(job, plan.specs),
        )
        trained = train_variant(job.variants[0].experiment, job.epochs, lesson, stage)
        network = trained.network.to(self._device).eval()
        validation, test = (tuple(said.logits) for said in self._said(network))
        backbone_epochs = plan.base.compare.backbone_epochs if job.needs_backbone else 0
        seconds = time.perf_counter() - start
        return Saying(validation, test, trained.epochs, backbone_epochs, seconds, trained.forgetting)

    def _result(self, variant: Variant, seed: int, saying: Saying) -> Result:
        experiment, data = variant.experiment, self.data
        validation, test = Said(saying.validation, data.validation.labels), Said(saying.test, data.test.labels)
        return Result(
            variant=variant.name,
            seed=seed,
            epochs=saying.epochs,
            backbone_epochs=saying.backbone_epochs,
            seconds=saying.seconds,
            accuracies_val=exit_accuracies(validation, experiment),
            accuracies_test=exit_accuracies(test, experiment),
            points=score(validation, test, experiment, self._plan.prices[variant.key]),
            diagnostics=diagnose(test, experiment),
            forgetting=saying.forgetting,
        )

    def _read_trained(self, seed: int) -> SegmentedBackbone:
        backbone = self._fresh(seed)
        store = self._folder.backbones
        load_state(backbone.model, store.get(str(seed))["state"], store.path(str(seed)))
        return backbone.eval().requires_grad_(False)

    def _make_features(self, seed: int) -> FeatureStore:
        base, body = self._plan.base, self._trained(seed)
        return FeatureStore(
            body,
            self.data,
            folder=self._folder.features(seed),
            key=digest(self.data.fingerprint, str(len(self.data.train)), state_fingerprint(body.model)),
            budget_gib=base.cache_gib / max(1, base.compare.seeds),
            device=self._device,
            progress=Progress(),
            dtype=base.cache_dtype,
            copies=base.cache_copies,
        )

    def _fit(self, module: nn.Module, network: nn.Module, job: Job, stage: Stage) -> int:
        """Train all of a static network on the labels; return the epochs."""
        settings = self._plan.base.regime.training.model_copy(update={"epochs": job.epochs, "patience": None})
        module.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainee = Trainee(module, lambda images: [network(images)], (module,), fresh=(module,))
        data = self.data
        with self._log.training(subject_of(job, self._plan.specs)) as tell:
            result = fit(
                trainee,
                resident(data.train, self._device),
                resident(data.validation, self._device),
                Objective((1.0,)),
                settings,
                device=self._device,
                seed=job.seed,
                stage=Scaled(stage, job.work / (job.epochs * len(data.train))),
                mixed=self._plan.base.mixed_precision,
                told=tell,
                accuracy=self._plan.base.accuracy,
            )
        return len(result.accuracies)

    def _said(self, forward: Forward) -> list[Said]:
        splits = (self.data.validation, self.data.test)
        return [Said(logits_of(forward, split, self._device), split.labels) for split in splits]


def _accuracy(said: Said, kind: AccuracyKind) -> float:
    truth = said.truth.numpy()
    return accuracy_of(said.logits[-1].argmax(1).numpy() == truth, truth, kind)
