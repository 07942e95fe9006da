"""Training whole networks under a regime, and what comes out of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.linked import Cascade
from aebnas.branches.spec import BranchSpec
from aebnas.data.splits import DataBundle
from aebnas.errors import TrainingError
from aebnas.exits.accuracy import AccuracyKind
from aebnas.exits.confidence import build_confidence
from aebnas.network import EarlyExitNetwork
from aebnas.progress import Stage
from aebnas.training.begin import limited, objective_of, refuse, seed_everything
from aebnas.training.branches import train_branch, train_branches
from aebnas.training.fit import FitResult, Trainee, WatchEpochs, fit, logits_of
from aebnas.training.gradients import first_exits
from aebnas.training.log import TellEpoch
from aebnas.training.protection import Scene
from aebnas.training.regimes import REGIMES, Phase, phase_epochs
from aebnas.training.resident import resident
from aebnas.training.settings import FitSettings, RegimeSettings
from aebnas.training.trained import BranchJob, TrainedBranch, Watch

__all__ = [
    "BranchJob",
    "TrainedBranch",
    "Watch",
    "forgetting",
    "limited",
    "resumable",
    "seed_everything",
    "start_over",
    "train_branch",
    "train_branches",
    "train_network",
]


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
    cascade: Cascade = "none",
    confidence: str = "max-probability",
    step: Callable[[FitResult], None] | None = None,
    mixed: bool = False,
    watch: WatchEpochs | None = None,
    resume: Mapping[str, Any] | None = None,
    told: TellEpoch | None = None,
    accuracy: AccuracyKind = "plain",
) -> tuple[EarlyExitNetwork, list[FitResult]]:
    """Train a whole network, backbone included as the regime's phases say, on a copy of ``backbone``.

    Args:
        initial: The backbone's weights before it was trained, where a regime that starts from them begins.
        teacher: ``(N, classes)`` logits of the trained backbone on the training split, if they are the target; None:
            they are computed where they are needed.
        epochs: In all phases together; but where phases train branches one by one on frozen features, each has so many.
        cascade: What a branch hears of the exit before it.
        confidence: How sure exits are, where the regime goes by that.
        step: Called with the result of every phase.
        mixed: Whether networks compute in bfloat16 where ``device`` is a CUDA device.
        watch: Asked after every epoch but the last, where the regime is :func:`resumable`; False stops the training:
            the network has the weights of its best epoch so far, and the last result is ``paused``.
        resume: That of an earlier call with the same arguments, to go on from.
        told: Is told of every epoch of every phase.
        accuracy: Which one on validation epochs are chosen by.

    Raises:
        BranchError: a branch does not fit its attach point. TrainingError: the loss is not finite, or the regime
            cannot do what the settings say. ValueError: the regime cannot be stopped and gone on with.
    """
    refuse(settings)
    if (watch is not None or resume is not None) and not resumable(settings):
        raise ValueError(f"a training under regime {settings.name} cannot be stopped and gone on with")
    regime = REGIMES[settings.name]
    seed_everything(seed)
    body = copy.deepcopy(backbone).to(device).eval()
    if regime.target(settings) != "backbone":
        teacher = None
    elif teacher is None:
        (teacher,) = logits_of(lambda images: [body(images)], data.train, device)
    if regime.starts(settings) == "initial":
        start_over(body, initial)
    network = EarlyExitNetwork(body, specs, cascade).to(device).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train, teacher = limited(data.train, teacher, samples, seed)
    train, validation = resident(train, device), resident(data.validation, device)
    phases = regime.phases(len(specs), settings)
    results = []
    for number, (phase, length) in enumerate(zip(phases, phase_epochs(phases, epochs), strict=True)):
        measure = build_confidence(confidence)
        scene = Scene(network, train, validation, measure, device, seed + number, accuracy)
        training = settings.training.model_copy(update={"epochs": length})
        result = _run(
            phase, scene, settings, training, teacher, stage, mixed=mixed, watch=watch, resume=resume, told=told
        )
        results.append(result)
        if phase.added is not None and number + 1 < len(phases):
            phase.protection.remember(scene, phase.added)
        if step is not None:
            step(results[-1])
    return network.cpu(), results


def resumable(settings: RegimeSettings) -> bool:
    """Tell whether training a whole network under ``settings`` can be stopped and gone on with.

    It can where all exits train at once; what protects earlier exits from later ones is no part of a state.
    """
    regime = REGIMES[settings.name]
    return regime.kind == "whole" and len(regime.phases(2, settings)) == 1


def forgetting(results: Sequence[FitResult]) -> list[tuple[float, float]]:
    """Return, per exit that was added on its own, its validation accuracy right after its phase and at the end.

    Empty where all exits train together.
    """
    return [
        (result.best[result.added], results[-1].best[result.added]) for result in results if result.added is not None
    ]


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


def _run(
    phase: Phase,
    scene: Scene,
    settings: RegimeSettings,
    training: FitSettings,
    teacher: Tensor | None,
    stage: Stage | None,
    *,
    mixed: bool,
    watch: WatchEpochs | None,
    resume: Mapping[str, Any] | None,
    told: TellEpoch | None,
) -> FitResult:
    network = scene.network
    gate = None if phase.gate is None else phase.gate(scene)
    weights = phase.exit_weights[: phase.exits]
    trainee = Trainee(
        network,
        first_exits(network, phase.exits, phase.gradients),
        (*(network.branches[number] for number in phase.branches), *_leading_to(network, phase.depth)),
        still=_leading_to(network, min(phase.depth, phase.still)),
        fresh=(network.backbone,) if REGIMES[settings.name].starts(settings) == "initial" else (),
        judged=network,
    )
    phase.protection.begin(scene, phase.added or 0)
    result = fit(
        trainee,
        scene.train,
        scene.validation,
        objective_of(settings, weights, teacher, gate=gate, schedule=phase.schedule),
        training,
        device=scene.device,
        seed=scene.seed,
        stage=stage,
        guard=phase.protection,
        name=phase.name,
        mixed=mixed,
        watch=watch,
        resume=resume,
        told=told,
        accuracy=scene.accuracy,
    )
    return dataclasses.replace(result, added=phase.added)


def _leading_to(network: EarlyExitNetwork, depth: int) -> tuple[nn.Module, ...]:
    """Return the segments that lead to branch number ``depth`` from 1; 0 is none, one beyond the branches is all."""
    ends = [0, *(point + 1 for point in network.points), len(network.backbone.segments)]
    return tuple(network.backbone.segments[: ends[depth]])
