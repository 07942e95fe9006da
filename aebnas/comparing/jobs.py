"""What has to be trained for a comparison, in pieces that processes can take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aebnas.comparing.variants import Variant
from aebnas.errors import ExperimentError
from aebnas.experiment import Experiment
from aebnas.experiment_compare import CompareSettings
from aebnas.training.regimes import REGIMES, Phase
from aebnas.training.settings import RegimeSettings


@dataclass(frozen=True, eq=False)
class Job:
    """One training from one seed; each is equal to itself alone.

    Args:
        kind: The trained backbone that variants start from, a static network, or variants that train alike.
        seed: Of initialisation and batch order.
        variants: Of a job of that kind: they differ in how exits decide, so they are trained once.
        exit: Of a static network: the branch that it ends in, None for the whole backbone.
        epochs: Passes over the training split.
        work: About how many samples pass through the whole backbone's training, for progress and order.
        needs_backbone: Whether the seed's trained backbone comes first.
    """

    kind: Literal["backbone", "static", "variants"]
    seed: int
    epochs: int
    work: int
    variants: tuple[Variant, ...] = ()
    exit: int | None = None
    needs_backbone: bool = False

    @property
    def label(self) -> str:
        """A name for people."""
        if self.kind == "variants":
            return f"{self.variants[0].name}, seed {self.seed}"
        what = "backbone" if self.exit is None else f"truncated at exit {self.exit + 1}"
        return f"{self.kind} {what}, seed {self.seed}" if self.kind == "static" else f"{what}, seed {self.seed}"


def uses_backbone(settings: RegimeSettings) -> bool:
    """Tell whether a variant starts from the trained backbone, or learns from it."""
    regime = REGIMES[settings.name]
    return regime.starts(settings) == "trained" or regime.target(settings) == "backbone"


def check_epochs(variant: Variant, branches: int) -> None:
    """Raise ExperimentError where a variant trains more phases, one after the other, than it has epochs."""
    settings, compare = variant.experiment.regime, variant.experiment.compare
    phases, epochs = REGIMES[settings.name].phases(branches, settings), epochs_of(settings, compare)
    if REGIMES[settings.name].kind == "whole" and share_epochs(phases) and len(phases) > epochs:
        raise ExperimentError(
            f"variant {variant.name!r} trains {len(phases)} parts one after the other, and of {compare.epochs} epochs "
            f"has {epochs} after the backbone's: raise compare.epochs (--epochs), so that it has at least {len(phases)}"
        )


def share_epochs(phases: Sequence[Phase]) -> bool:
    """Tell whether phases share the epochs, as they do unless each has all of them, on frozen features."""
    return len(phases) == 1 or sum(phase.epochs for phase in phases) < 1.5


def epochs_of(settings: RegimeSettings, compare: CompareSettings) -> int:
    """Return the epochs that a variant trains: all of them, less those of a trained backbone that it uses."""
    return compare.epochs - (compare.backbone_epochs if uses_backbone(settings) else 0)


def plan_jobs(base: Experiment, variants: Sequence[Variant], samples: int, truncated: Sequence[float]) -> list[Job]:
    """Return all jobs of a comparison, seed by seed, the trained backbone first and then the longest.

    Args:
        samples: Of the training split.
        truncated: Cost of every truncated network, as a share of the backbone's.
    """
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.training_key, []).append(variant)
    jobs = []
    for seed in seeds_of(base):
        rest = [_variants_job(tuple(group), seed, samples) for group in groups.values()]
        rest += [_static_job(base, seed, samples, None, 1.0)]
        rest += [_static_job(base, seed, samples, exit_, share) for exit_, share in enumerate(truncated)]
        if any(job.needs_backbone for job in rest):
            epochs = base.compare.backbone_epochs
            jobs.append(Job("backbone", seed, epochs, epochs * samples))
        jobs += sorted(rest, key=lambda job: -job.work)
    return jobs


def seeds_of(base: Experiment) -> range:
    """Return the seeds of initialisation and batch order."""
    return range(base.seed, base.seed + base.compare.seeds)


def _variants_job(group: tuple[Variant, ...], seed: int, samples: int) -> Job:
    experiment = group[0].experiment
    epochs = epochs_of(experiment.regime, experiment.compare)
    return Job("variants", seed, epochs, epochs * samples, group, needs_backbone=uses_backbone(experiment.regime))


def _static_job(base: Experiment, seed: int, samples: int, exit_: int | None, share: float) -> Job:
    epochs = base.compare.epochs
    return Job("static", seed, epochs, round(epochs * samples * share), exit=exit_)
