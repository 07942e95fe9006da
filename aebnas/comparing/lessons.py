"""Training one variant from one seed, on what all variants of that seed share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.spec import BranchSpec
from aebnas.comparing.curves import of_branch
from aebnas.comparing.jobs import share_epochs
from aebnas.data.splits import DataBundle
from aebnas.experiment import Experiment
from aebnas.network import EarlyExitNetwork
from aebnas.progress import Stage
from aebnas.store import state_of
from aebnas.training.candidates import TrainedBranch, forgetting, train_branch, train_network
from aebnas.training.features import FeatureStore
from aebnas.training.log import Subject, TrainingLog
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings, RegimeSettings


@dataclass(frozen=True)
class Lesson:
    """What all variants of one seed share.

    Args:
        specs: The branches, in the order of their attach points.
        initial: The backbone's weights as the seed initialised them.
        backbone: The trained one, where the variant starts or learns from it; else as it was initialised.
        features: Makes, or finds again, what the trained backbone makes of the images.
        log: Keeps the curves.
        subject: What they are called.
    """

    specs: Sequence[BranchSpec]
    data: DataBundle
    initial: Mapping[str, Tensor]
    backbone: SegmentedBackbone
    features: Callable[[], FeatureStore]
    seed: int
    device: torch.device
    log: TrainingLog
    subject: Subject


@dataclass(frozen=True)
class Trained:
    """A network, the epochs it was trained, and what adding exits one by one did to earlier ones, if they were.

    Args:
        epochs: The longest of its parts where they do not get in each other's way, on frozen features.
    """

    network: EarlyExitNetwork
    epochs: int
    forgetting: tuple[tuple[float, float], ...] | None


def train_variant(experiment: Experiment, epochs: int, lesson: Lesson, stage: Stage) -> Trained:
    """Train the network of ``lesson`` as ``experiment`` says, for ``epochs``.

    Raises:
        BranchError: a branch does not fit. TrainingError: the training failed.
    """
    settings = experiment.regime
    # No early stop: all variants train for the same number of epochs.
    training = settings.training.model_copy(update={"epochs": epochs, "patience": None})
    settings = settings.model_copy(update={"training": training})
    if REGIMES[settings.name].kind == "whole":
        return _train_whole(experiment, settings, epochs, lesson, stage)
    return _train_branches(experiment, settings, training, lesson, stage)


def _train_branches(
    experiment: Experiment, settings: RegimeSettings, training: FitSettings, lesson: Lesson, stage: Stage
) -> Trained:
    """Train the branches on frozen features; each of them for all epochs, in which the backbone rests."""
    features, backbone = lesson.features(), lesson.backbone
    trained: list[TrainedBranch] = []
    for number, spec in enumerate(lesson.specs):
        with lesson.log.training(of_branch(lesson.subject, number)) as tell:
            branch = train_branch(
                spec,
                features,
                backbone,
                settings,
                training,
                samples=None,
                seed=lesson.seed,
                device=lesson.device,
                stage=Scaled(stage, 1 / len(lesson.specs)),
                earlier=trained,
                cascade=experiment.cascade,
                confidence=experiment.confidence,
                mixed=experiment.mixed_precision,
                told=tell,
                accuracy=experiment.accuracy,
            )
        trained.append(branch)
    network = EarlyExitNetwork(backbone, lesson.specs, experiment.cascade)
    for own, found in zip(network.branches, trained, strict=True):
        own.load_state_dict(state_of(found.branch))
    return Trained(network, max(len(branch.accuracies) for branch in trained), None)


def _train_whole(
    experiment: Experiment, settings: RegimeSettings, epochs: int, lesson: Lesson, stage: Stage
) -> Trained:
    learns = REGIMES[settings.name].target(settings) == "backbone"
    with lesson.log.training(lesson.subject) as tell:
        network, results = train_network(
            lesson.specs,
            lesson.backbone,
            lesson.data,
            settings,
            epochs,
            initial=lesson.initial,
            teacher=lesson.features().logits("train") if learns else None,
            samples=None,
            seed=lesson.seed,
            device=lesson.device,
            stage=stage,
            cascade=experiment.cascade,
            confidence=experiment.confidence,
            mixed=experiment.mixed_precision,
            told=tell,
            accuracy=experiment.accuracy,
        )
    lengths = [len(result.accuracies) for result in results]
    in_turn = share_epochs(REGIMES[settings.name].phases(len(lesson.specs), settings))
    return Trained(network, sum(lengths) if in_turn else max(lengths), tuple(forgetting(results)) or None)


class Scaled(Stage):
    """A stage of which every step counts as ``share`` of one, as it is cheaper than the steps of others."""

    def __init__(self, whole: Stage, share: float) -> None:
        self._whole, self._share, self._left = whole, share, 0.0

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` of the cheaper kind."""
        done, self._left = divmod(self._left + steps * self._share, 1)
        self._whole.advance(int(done))

    def note(self, text: str) -> None:
        """Show ``text`` behind the bar."""
        self._whole.note(text)
