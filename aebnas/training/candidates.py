"""Training one network under a regime, and what comes out of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import Branch
from aebnas.branches.linked import Cascade, LinkedBranch, build_exit
from aebnas.branches.spec import BranchSpec
from aebnas.data.splits import DataBundle, Split
from aebnas.errors import TrainingError
from aebnas.exits.confidence import build_confidence
from aebnas.network import EarlyExitNetwork
from aebnas.progress import Stage
from aebnas.training.features import FeatureStore
from aebnas.training.fit import FitResult, Trainee, fit, logits_of
from aebnas.training.gradients import first_exits
from aebnas.training.objective import Gate, Objective
from aebnas.training.protection import Scene
from aebnas.training.regimes import REGIMES, Phase, phase_epochs, regime_problem
from aebnas.training.settings import FitSettings, RegimeSettings
from aebnas.training.survivors import survivors_gate


@dataclass(frozen=True)
class TrainedBranch:
    """A branch trained on frozen features: its weights, and what it says.

    Args:
        validation_logits: ``(N, classes)`` on the validation split.
        train_logits: ``(N, classes)`` on the training samples it was given, in their order, where later branches go by
            them: in regimes that train branches in order, and in cascades. Else None.
        accuracies: On validation, per epoch.
    """

    branch: Branch | LinkedBranch
    validation_logits: Tensor
    train_logits: Tensor | None
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
    earlier: Sequence[TrainedBranch] = (),
    cascade: Cascade = "none",
    confidence: str = "max-probability",
) -> TrainedBranch:
    """Train one branch on the features at its attach point; the backbone is not touched.

    Args:
        samples: Limits the training samples (the first ones of a seeded shuffle); None takes all.
        earlier: The branches before this one, trained in order with the same ``samples`` and ``seed``. Needed where
            the regime trains branches in order, and for cascaded branches.
        cascade: What the branch hears of the last of ``earlier``.
        confidence: How sure the branches before are, where the regime goes by that.

    Raises:
        BranchError: the branch does not fit its attach point. TrainingError: the loss is not finite, or the regime
            cannot do what the settings say.
    """
    _refuse(settings)
    regime = REGIMES[settings.name]
    point = [place.name for place in backbone.attach_points].index(spec.attach)
    seed_everything(seed)
    shape = backbone.attach_points[point].shape
    branch = build_exit(spec, shape, backbone.num_classes, cascade, first=not earlier).to(device)
    branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    everything = features.logits("train") if regime.target(settings) == "backbone" else None
    train, teacher = limited(features.split("train", point), everything, samples, seed)
    validation = features.split("validation", point)
    gate = None
    if regime.kind == "in-order" and earlier and settings.calex.aligned:
        gate = survivors_gate(
            build_confidence(confidence),
            [_on_train(before, len(train)) for before in earlier],
            [before.validation_logits for before in earlier],
            features.logits("validation"),
            validation.labels,
            settings.calex,
        )
    previous = None
    if isinstance(branch, LinkedBranch):
        previous = (_on_train(earlier[-1], len(train)), earlier[-1].validation_logits)
    trainee = Trainee(branch, lambda *inputs: [branch(*inputs)], (branch,), previous=previous)
    objective = _objective(settings, (1.0,), teacher, gate=gate)
    result = fit(trainee, train, validation, objective, training, device=device, seed=seed, stage=stage)
    on_train, on_validation = previous or (None, None)
    (logits,) = logits_of(trainee.forward, validation, device, on_validation)
    heard = regime.kind == "in-order" or cascade != "none"
    said = logits_of(trainee.forward, train, device, on_train)[0] if heard else None
    return TrainedBranch(branch.cpu(), logits, said, result.accuracies)


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

    Raises:
        BranchError: a branch does not fit its attach point. TrainingError: the loss is not finite, or the regime
            cannot do what the settings say.
    """
    _refuse(settings)
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
    phases = regime.phases(len(specs), settings)
    results = []
    for number, (phase, length) in enumerate(zip(phases, phase_epochs(phases, epochs), strict=True)):
        measure = build_confidence(confidence)
        scene = Scene(network, train, data.validation, measure, device, seed + number)
        training = settings.training.model_copy(update={"epochs": length})
        results.append(_run(phase, scene, settings, training, teacher, stage))
        if phase.added is not None and number + 1 < len(phases):
            phase.protection.remember(scene, phase.added)
        if step is not None:
            step(results[-1])
    return network.cpu(), results


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


def limited(split: Split, teacher: Tensor | None, samples: int | None, seed: int) -> tuple[Split, Tensor | None]:
    """Return the first ``samples`` of a seeded shuffle of ``split`` with their rows of ``teacher``, or all of both."""
    if samples is None or samples >= len(split):
        return split, teacher
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    rows = order[:samples].sort().values
    return split.subset(rows), None if teacher is None else teacher[rows]


def _refuse(settings: RegimeSettings) -> None:
    problem = regime_problem(settings)
    if problem is not None:
        raise TrainingError(f"regime.{problem}")


def _objective(
    settings: RegimeSettings,
    weights: tuple[float, ...],
    teacher: Tensor | None,
    *,
    gate: Gate | None = None,
    schedule: Callable[[float], tuple[float, ...]] | None = None,
) -> Objective:
    return Objective(
        weights,
        teacher,
        settings.temperature,
        final_teaches=REGIMES[settings.name].target(settings) == "final",
        distillation=settings.distillation,
        loss=settings.loss,
        label_smoothing=settings.label_smoothing,
        gate=gate,
        schedule=schedule,
    )


def _run(
    phase: Phase,
    scene: Scene,
    settings: RegimeSettings,
    training: FitSettings,
    teacher: Tensor | None,
    stage: Stage | None,
) -> FitResult:
    network = scene.network
    gate = None if phase.gate is None else phase.gate(scene)
    weights = phase.exit_weights[: phase.exits]
    trainee = Trainee(
        network,
        first_exits(network, phase.exits, phase.gradients),
        (*(network.branches[number] for number in phase.branches), *_leading_to(network, phase.depth)),
        still=_leading_to(network, min(phase.depth, phase.still)),
        judged=network,
    )
    phase.protection.begin(scene, phase.added or 0)
    result = fit(
        trainee,
        scene.train,
        scene.validation,
        _objective(settings, weights, teacher, gate=gate, schedule=phase.schedule),
        training,
        device=scene.device,
        seed=scene.seed,
        stage=stage,
        guard=phase.protection,
        name=phase.name,
    )
    return dataclasses.replace(result, added=phase.added)


def _leading_to(network: EarlyExitNetwork, depth: int) -> tuple[nn.Module, ...]:
    """Return the segments that lead to branch number ``depth`` from 1; 0 is none, one beyond the branches is all."""
    ends = [0, *(point + 1 for point in network.points), len(network.backbone.segments)]
    return tuple(network.backbone.segments[: ends[depth]])


def _on_train(branch: TrainedBranch, samples: int) -> Tensor:
    if branch.train_logits is None:
        raise ValueError("an earlier branch has no logits on the training split: train it in order or in the cascade")
    if len(branch.train_logits) != samples:
        raise ValueError(
            f"an earlier branch was trained on {len(branch.train_logits)} samples, this one is on {samples}"
        )
    return branch.train_logits
