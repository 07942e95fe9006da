"""How long a search will take, from a few training batches: an estimate, and called one."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import NetworkSpec
from aebnas.data.splits import Batch, DataBundle
from aebnas.devices.profile import HardwareProfile
from aebnas.experiment import Experiment
from aebnas.network import EarlyExitNetwork
from aebnas.training.fitting import Fitting
from aebnas.training.objective import Objective
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings
from aebnas.training.trainee import Trainee

# Batches that are timed after a first one, which warms up, and seconds after which there are enough of them. The second
# can be slow too, for kernels are made when they are first needed: while batches get clearly quicker, more follow.
_BATCHES, _ENOUGH_S, _QUICKER = 8, 2.0, 0.9
# Of the branches of a network that is sampled, so many were not trained before.
_NEW = 0.6
# What validating adds to an epoch of training.
_VALIDATING = 0.35
# Measuring what is new of one network takes about so long, a finalist end to end, and a trial beside its training.
_MEASURED_S, _FINALIST_S, _TRIAL_S = 1.0, 5.0, 0.3
# Of the time that the profile allows for measuring, what the first blocks and the overhead take.
_AT_FIRST = 0.75


@dataclass(frozen=True)
class Estimate:
    """Seconds of each part of a search."""

    parts: dict[str, float]

    @property
    def text(self) -> str:
        """All of it in a line."""
        told = ", ".join(f"{name} {spoken(seconds)}" for name, seconds in self.parts.items() if seconds >= 0.5)
        return f"about {spoken(sum(self.parts.values()))}, an estimate from a few batches: {told}"


def estimate(
    experiment: Experiment,
    data: DataBundle,
    backbone: SegmentedBackbone,
    network: NetworkSpec,
    profile: HardwareProfile,
    device: torch.device,
    *,
    trained: bool,
) -> Estimate:
    """Estimate how long a search takes where nothing is known yet.

    Args:
        network: One that the search may begin with.
        trained: Whether the backbone comes with its weights.
    """
    clock = _Clock(experiment, data, backbone, network, device)
    settings, search = experiment.regime, experiment.search
    samples, everything = min(settings.train_samples or len(data.train), len(data.train)), len(data.train)
    exits = len(network.branches)
    parts: dict[str, float] = {}
    if experiment.backbone_training is not None and not trained:
        parts["backbone"] = everything * experiment.backbone_training.epochs * clock.backbone_s()
    if REGIMES[settings.name].kind == "whole":
        per_epoch, new = clock.network_s(), 1.0
    else:
        parts["features"] = (everything * experiment.cache_copies + len(data.validation)) * clock.features_s()
        per_epoch, new = exits * clock.branch_s(), _NEW
    measured = _MEASURED_S if profile.measurable else 0.0
    one = samples * settings.training.epochs * per_epoch * new + measured + _TRIAL_S
    workers = min(search.workers, os.cpu_count() or 1)
    parts[f"{search.trials} trials"] = min(one * search.trials / workers, search.timeout or float("inf"))
    last = everything * settings.final_epochs * per_epoch + (_FINALIST_S if profile.measurable else 0.0)
    parts[f"{search.finalists} finalists"] = search.finalists * last
    if profile.measurable:
        parts["measuring"] = _AT_FIRST * profile.protocol.time_limit_s
    return Estimate(parts)


class _Clock:
    """Times single batches; all figures are seconds per image, with its share of validating."""

    def __init__(
        self,
        experiment: Experiment,
        data: DataBundle,
        backbone: SegmentedBackbone,
        network: NetworkSpec,
        device: torch.device,
    ) -> None:
        self._experiment, self._data, self._device = experiment, data, device
        self._backbone = copy.deepcopy(backbone).to(device)
        self._network = network

    def backbone_s(self) -> float:
        settings = self._experiment.backbone_training or FitSettings()
        model = copy.deepcopy(self._backbone.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainee = Trainee(model, lambda images: [model(images)], (model,))
        return self._training_s(trainee, settings, 1, self._batches(settings.batch_size))

    def features_s(self) -> float:
        @torch.no_grad()
        def compute(batch: Batch) -> None:
            self._backbone.features(batch.images.to(self._device))

        return self._timed(compute, self._batches(256))

    def branch_s(self) -> float:
        settings, spec = self._experiment.regime.training, self._network.branches[len(self._network.branches) // 2]
        number = [point.name for point in self._backbone.attach_points].index(spec.attach)
        shape = self._backbone.attach_points[number].shape
        branch = build_branch(spec, shape, self._backbone.num_classes).to(self._device)
        span = self._backbone.span(0, number + 1)

        def batches() -> Iterator[Batch]:
            for batch in self._batches(settings.batch_size):
                with torch.no_grad():
                    features = span(batch.images.to(self._device))
                yield Batch(batch.index, features, batch.labels)

        trainee = Trainee(branch, lambda features: [branch(features)], (branch,))
        return self._training_s(trainee, settings, 1, batches())

    def network_s(self) -> float:
        settings = self._experiment.regime.training
        network = EarlyExitNetwork(copy.deepcopy(self._backbone), self._network.branches).to(self._device)

        def forward(images: Tensor) -> list[Tensor]:
            logits: list[Tensor] = network(images)
            return logits

        trainee = Trainee(network, forward, (network,))
        return self._training_s(trainee, settings, len(self._network.branches) + 1, self._batches(settings.batch_size))

    def _training_s(self, trainee: Trainee, settings: FitSettings, exits: int, batches: Iterator[Batch]) -> float:
        fitting = Fitting(
            trainee,
            Objective((1.0,) * exits),
            settings,
            # Long enough for its schedule never to end here.
            samples=2 * _BATCHES * settings.batch_size,
            device=self._device,
            mixed=self._experiment.mixed_precision,
        )
        fitting.begin_epoch()
        return self._timed(fitting.step, batches) * (
            1 + _VALIDATING * len(self._data.validation) / len(self._data.train)
        )

    def _batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield whole batches, again and again."""
        size = min(batch_size, len(self._data.train))
        while True:
            for batch in self._data.train.read(size, order=0, look=0):
                if len(batch.labels) == size:
                    yield batch

    def _timed(self, work: Callable[[Batch], None], batches: Iterator[Batch]) -> float:
        """Return the seconds per image that ``work`` usually takes, the time to read the images left out."""
        each_s: list[float] = []
        for number, batch in enumerate(batches):
            start = time.perf_counter()
            work(batch)
            self._wait()
            if number:
                each_s.append((time.perf_counter() - start) / len(batch.labels))
            settled = len(each_s) > 1 and each_s[-1] > _QUICKER * each_s[-2]
            if number == _BATCHES or (settled and sum(each_s) * len(batch.labels) >= _ENOUGH_S):
                break
        return statistics.median(each_s[len(each_s) // 2 :])

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def spoken(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
