"""Training one network under a regime, and what comes out of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import Branch, build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.data.splits import DataBundle, Split
from aebnas.errors import TrainingError
from aebnas.network import EarlyExitNetwork
from aebnas.progress import Stage
from aebnas.training.features import FeatureStore
from aebnas.training.fit import FitResult, Trainee, fit, logits_of
from aebnas.training.objective import Objective
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings, RegimeSettings


@dataclass(frozen=True)
class TrainedBranch:
    """A branch trained on frozen features: its weights, and its logits ``(N, classes)`` on validation."""

    branch: Branch
    validation_logits: Tensor
    accuracies: list[list[float]]


def seed_everything(seed: int) -> None:
    """Seed what initialises weights and draws dropout."""
    torch.manual_seed(seed)


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
) -> TrainedBranch:
    """Train one branch on the features at its attach point; the backbone is not touched.

    ``samples`` limits the training samples (the first ones of a seeded shuffle); None takes all.

    Raises:
        BranchError: the branch does not fit its attach point. TrainingError: the loss is not finite.
    """
    names = [point.name for point in backbone.attach_points]
    point = names.index(spec.attach)
    seed_everything(seed)
    branch = build_branch(spec, backbone.attach_points[point].shape, backbone.num_classes).to(device)
    branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    everything = features.logits("train") if settings.target == "backbone" else None
    train, teacher = limited(features.split("train", point), everything, samples, seed)
    objective = Objective((1.0,), teacher, settings.temperature)
    validation = features.split("validation", point)
    trainee = Trainee(branch, lambda maps: [branch(maps)], (branch,))
    result = fit(trainee, train, validation, objective, training, device=device, seed=seed, stage=stage)
    (logits,) = logits_of(trainee.forward, validation, device)
    return TrainedBranch(branch.cpu(), logits, result.accuracies)


def train_network(
    specs: Sequence[BranchSpec],
    backbone: SegmentedBackbone,
    data: DataBundle,
    settings: RegimeSettings,
    epochs: int,
    *,
    initial: Mapping[str, Tensor] | None,
    teacher: Tensor | None,
    samples: int | None,
    seed: int,
    device: torch.device,
    stage: Stage | None = None,
) -> tuple[EarlyExitNetwork, list[FitResult]]:
    """Train a whole network, backbone included as the regime's phases say, on a copy of ``backbone``.

    Args:
        initial: The backbone's weights before it was trained, where a regime that starts from them begins.
        teacher: ``(N, classes)`` logits of the trained backbone on the training split, if they are the target.
        epochs: In all phases together.
    """
    regime = REGIMES[settings.name]
    seed_everything(seed)
    body = copy.deepcopy(backbone)
    if regime.start == "initial":
        start_over(body, initial)
    network = EarlyExitNetwork(body, specs).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train, teacher = limited(data.train, teacher, samples, seed)
    results = []
    for number, phase in enumerate(regime.phases(len(specs), settings)):
        moving: list[nn.Module] = [*(network.branches if phase.branches else ())]
        moving += [*(network.backbone.segments if phase.backbone else ())]
        objective = Objective(phase.exit_weights, teacher, settings.temperature)
        training = settings.training.model_copy(update={"epochs": max(1, round(epochs * phase.epochs))})
        trainee = Trainee(network, network, tuple(moving))
        result = fit(
            trainee, train, data.validation, objective, training, device=device, seed=seed + number, stage=stage
        )
        results.append(result)
    return network.cpu(), results


def start_over(backbone: SegmentedBackbone, initial: Mapping[str, Tensor] | None) -> None:
    """Give ``backbone`` the weights ``initial``, or a fresh initialisation where it came trained.

    Raises:
        TrainingError: a layer does not know how to initialise itself.
    """
    if initial is not None:
        backbone.model.load_state_dict(initial)
        return
    for name, part in backbone.model.named_modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(part.parameters(recurse=False), None) is not None:
            raise TrainingError(
                f"this regime trains from scratch, but {name or type(part).__name__} cannot initialise itself: give it "
                "reset_parameters(), or choose regime mixed or disjoint"
            )


def limited(split: Split, teacher: Tensor | None, samples: int | None, seed: int) -> tuple[Split, Tensor | None]:
    """Return the first ``samples`` of a seeded shuffle of ``split`` with their rows of ``teacher``, or all of both."""
    if samples is None or samples >= len(split):
        return split, teacher
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    rows = order[:samples].sort().values
    return split.subset(rows), None if teacher is None else teacher[rows]
