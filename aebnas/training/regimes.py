"""Regimes: lists of phases (arXiv 2407.14320). A new regime is a new list, not a new training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from aebnas.errors import ExperimentError
from aebnas.registry import Registry
from aebnas.training.fit import logits_of
from aebnas.training.gates import annealed, hard_gate, soft_gate
from aebnas.training.gradients import GradientRule
from aebnas.training.objective import WEIGHTINGS, Gate
from aebnas.training.protection import Protection, Scene, protection_of
from aebnas.training.settings import RegimeSettings, Start, Target
from aebnas.training.survivors import cascade_gate, cascade_thresholds

Kind = Literal["alone", "in-order", "whole"]
COMMON = frozenset(
    [
        *("name", "target", "temperature", "distillation", "loss", "label_smoothing"),
        *("training", "final_epochs", "train_samples"),
    ]
)


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Args:
        name: Shown with the progress.
        branches: Numbers of the branches that move.
        depth: How much of the backbone moves: the segments up to branch number ``depth``, counted from 1; 0 is nothing
            of it, and one more than there are branches is all of it, its classifier included.
        exit_weights: Of the exits' losses, the final exit last; 0 leaves an exit out, of the loss and of the choice of
            the epoch that is kept. Exits behind the last one that counts are not computed.
        schedule: Share of the phase that is over -> weights in place of ``exit_weights``; None: they do not change.
        gate: Makes, at the beginning of the phase, the rule for weights by sample; None: all count the same.
        gradients: How the gradients of several exits meet.
        still: The batch-norm statistics of the segments up to this branch, counted as in ``depth``, stay.
        protection: Of what earlier phases have trained.
        epochs: Share of the regime's epochs that this phase takes, in (0, 1].
        added: The exit that this phase is there for, where exits are trained one after the other.
    """

    name: str
    branches: tuple[int, ...]
    depth: int
    exit_weights: tuple[float, ...]
    schedule: Callable[[float], tuple[float, ...]] | None = None
    gate: Callable[[Scene], Gate | None] | None = None
    gradients: GradientRule = "sum"
    still: int = 0
    protection: Protection = field(default_factory=Protection)
    epochs: float = 1.0
    added: int | None = None

    @property
    def exits(self) -> int:
        """How many exits, from the first one, have to be computed."""
        return max(number for number, weight in enumerate(self.exit_weights, 1) if weight)


@dataclass(frozen=True)
class Regime:
    """Phases for a network of some number of branches.

    Args:
        phases: Number of branches, settings -> phases.
        start: Where the backbone's weights start unless the settings say otherwise.
        kind: Whether branches train ``alone`` on frozen features, ``in-order`` on frozen features, each with what the
            ones before say, or the ``whole`` network trains.
        targets: What exits may learn, the default first.
        uses: Keys of the settings that have an effect, dotted and as blocks; ``confidence`` is the experiment's.
    """

    phases: Callable[[int, RegimeSettings], list[Phase]]
    start: Start = "trained"
    kind: Kind = "whole"
    targets: tuple[Target, ...] = ("labels", "backbone")
    uses: frozenset[str] = COMMON

    @property
    def freezes_backbone(self) -> bool:
        """Whether branches train on features that never change."""
        return self.kind != "whole"

    def starts(self, settings: RegimeSettings) -> Start:
        """Return where the backbone's weights start."""
        return settings.start or self.start

    def target(self, settings: RegimeSettings) -> Target:
        """Return what exits learn."""
        return settings.target or self.targets[0]


REGIMES: Registry[Regime] = Registry("regime", ExperimentError)


def regime_problem(settings: RegimeSettings) -> str | None:
    """Return what the regime cannot do of ``settings``, one sentence that begins with the key, or None."""
    regime = REGIMES[settings.name]
    if regime.target(settings) not in regime.targets:
        taught = ", ".join(name for name in REGIMES if "final" in REGIMES[name].targets)
        return (
            f"target: exits learn from the final exit where all train at once ({taught}): under {settings.name} take "
            "labels or backbone"
        )
    if _frozen(settings) and regime.starts(settings) != "trained":
        return f"start: {settings.name} trains no backbone here, so that it has to start trained: leave start away"
    return None


def phase_epochs(phases: Sequence[Phase], epochs: int) -> list[int]:
    """Return the epochs of every phase, at least one each, that together come as near as can be to their shares."""
    lengths, shares, before = [], 0.0, 0
    for phase in phases:
        shares += phase.epochs
        until = round(epochs * shares)
        lengths.append(max(1, until - before))
        before = until
    return lengths


def possible(settings: RegimeSettings) -> RegimeSettings:
    """Return ``settings`` with the regime's own target and start where it cannot have those that they name."""
    regime, changes = REGIMES[settings.name], dict[str, None]()
    if regime.target(settings) not in regime.targets:
        changes["target"] = None
    if _frozen(settings) and regime.starts(settings) != "trained":
        changes["start"] = None
    return settings.model_copy(update=changes)


def matters(settings: RegimeSettings, key: str) -> bool:
    """Tell whether the setting ``key`` of a regime, dotted (``cgt.tau``), has an effect beside the others."""
    regime = REGIMES[settings.name]
    if key.startswith("training."):
        return key != "training.momentum" or settings.training.optimizer == "sgd"
    learns = regime.target(settings) != "labels"
    probability = settings.name == "cgt-soft" and settings.cgt.residual == "probability"
    protection = settings.sequential.protection
    idle = {
        "temperature": not learns,
        "distillation": not learns,
        "label_smoothing": learns and settings.distillation == 1 and regime.target(settings) == "backbone",
        "start": _frozen(settings),
        "cgt.tau": probability,
        "cgt.sharpness": probability,
        **dict.fromkeys(("calex.margin", "calex.softness", "calex.floor"), not settings.calex.aligned),
        "sequential.strength": protection not in ("ewc", "lwf"),
        "sequential.temperature": protection != "lwf",
        "sequential.radius": protection != "interval",
        "sequential.fisher_samples": protection not in ("ewc", "interval"),
        "sequential.batch_norm": protection == "frozen",
    }
    return key in regime.uses and not idle.get(key, False)


def _frozen(settings: RegimeSettings) -> bool:
    return REGIMES[settings.name].freezes_backbone or (
        settings.name == "sequential" and settings.sequential.protection == "frozen"
    )


def _block(name: str, *keys: str) -> frozenset[str]:
    return frozenset([name, *(f"{name}.{key}" for key in keys)])


def _weights(exits: int, settings: RegimeSettings, progress: float = 1.0) -> tuple[float, ...]:
    return WEIGHTINGS[settings.weighting](exits, progress)


def _annealed(exits: int, settings: RegimeSettings, progress: float) -> tuple[float, ...]:
    both = zip(_weights(exits, settings, progress), annealed(exits, progress), strict=True)
    return tuple(weight * shift for weight, shift in both)


def _disjoint(branches: int, settings: RegimeSettings) -> list[Phase]:
    """The backbone is trained already and stays frozen; every branch trains on its own."""
    return [Phase("branches", tuple(range(branches)), 0, (1.0,) * branches + (0.0,))]


def _together(
    branches: int, settings: RegimeSettings, gate: Callable[[Scene], Gate | None] | None = None
) -> list[Phase]:
    """Everything trains together: from scratch it is the joint regime, from a trained backbone the mixed one."""
    exits = branches + 1
    anneal = gate is not None and settings.cgt.anneal
    return [
        Phase(
            "everything",
            tuple(range(branches)),
            exits,
            _weights(exits, settings),
            schedule=partial(_annealed if anneal else _weights, exits, settings),
            gate=gate,
            gradients=settings.gradients,
        )
    ]


def _cgt_hard(branches: int, settings: RegimeSettings) -> list[Phase]:
    """Joint training in which a sample that an exit is right and sure of counts no more behind it."""
    return _together(branches, settings, lambda scene: hard_gate(scene.measure, settings.cgt))


def _cgt_soft(branches: int, settings: RegimeSettings) -> list[Phase]:
    """Joint training in which a sample counts the less behind an exit, the surer that is of its label."""
    return _together(branches, settings, lambda scene: soft_gate(settings.cgt))


def _calex(branches: int, settings: RegimeSettings) -> list[Phase]:
    """Branches on a frozen backbone, in order, each on what survives the ones before."""
    return [
        Phase(
            f"branch {k + 1}",
            (k,),
            0,
            _only(k, branches + 1),
            gate=partial(_survivors, settings, k),
            added=k,
        )
        for k in range(branches)
    ]


def _survivors(settings: RegimeSettings, branch: int, scene: Scene) -> Gate | None:
    if not branch or not settings.calex.aligned:
        return None
    *said, backbone = logits_of(scene.network, scene.validation, scene.device)
    truth = scene.validation.labels
    margin = settings.calex.margin
    thresholds = cascade_thresholds(scene.measure, said[:branch], backbone, truth, margin, scene.accuracy)
    return cascade_gate(scene.measure, thresholds, settings.calex)


def _sequential(branches: int, settings: RegimeSettings) -> list[Phase]:
    """One exit after the other: step k trains branch k and what leads to it, the last step everything but branches.

    Where nothing of the backbone moves, a step takes nothing away from the others: all have all epochs, and there is
    no last one. That is disjoint training. Batch-norm statistics are kept as they are in every segment that an earlier
    step has trained; keeping some for every exit, as the paper offers, would need a pass through the network for each.
    """
    rules, exits = settings.sequential, branches + 1
    frozen = rules.protection == "frozen"
    protection = protection_of(rules)
    return [
        Phase(
            f"branch {k + 1}" if k < branches else "classifier",
            (k,) if k < branches else (),
            0 if frozen else k + 1,
            _only(k, exits),
            still=k if rules.batch_norm == "freeze" else 0,
            protection=protection,
            epochs=1.0 if frozen else 1 / exits,
            added=k,
        )
        for k in range(branches if frozen else exits)
    ]


def _only(exit_: int, exits: int) -> tuple[float, ...]:
    return tuple(float(number == exit_) for number in range(exits))


_TOGETHER = COMMON | {"weighting", "gradients", "start"}
_HARD = ("tau", "floor", "normalise", "anneal")
_ALL_TARGETS: tuple[Target, ...] = ("labels", "backbone", "final")

REGIMES.add("disjoint")(Regime(_disjoint, kind="alone"))
REGIMES.add("joint")(Regime(_together, "initial", targets=_ALL_TARGETS, uses=_TOGETHER))
REGIMES.add("mixed")(Regime(_together, targets=_ALL_TARGETS, uses=_TOGETHER))
REGIMES.add("cgt-hard")(
    Regime(_cgt_hard, "initial", targets=_ALL_TARGETS, uses=_TOGETHER | _block("cgt", *_HARD) | {"confidence"})
)
REGIMES.add("cgt-soft")(
    Regime(_cgt_soft, "initial", targets=_ALL_TARGETS, uses=_TOGETHER | _block("cgt", *_HARD, "sharpness", "residual"))
)
REGIMES.add("calex")(
    Regime(
        _calex,
        kind="in-order",
        targets=("backbone", "labels"),
        uses=COMMON | _block("calex", "margin", "softness", "floor", "aligned") | {"confidence"},
    )
)
REGIMES.add("sequential")(
    Regime(
        _sequential,
        uses=COMMON
        | {"start"}
        | _block("sequential", "protection", "strength", "temperature", "radius", "fisher_samples", "batch_norm"),
    )
)
