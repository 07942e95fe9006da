"""The loop of trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState

from aebnas.branches.spec import NetworkSpec
from aebnas.experiment_search import SearchSettings
from aebnas.progress import Progress
from aebnas.searching.choice import CostLimits, choose_point, objective_values
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.frontier import Reference
from aebnas.searching.study import FAILURE, HYPERVOLUME, SPEC, begin, finished, sample
from aebnas.spaces.genome import Genome

logger = logging.getLogger(__name__)


@dataclass
class Archive:
    """Every evaluation of a run by the key of its network, and the hypervolume of all their curves.

    Args:
        backbone: In fp32: the reference.
        converted: The static backbone in other precisions, by their names.
    """

    backbone: StaticPoint
    cost: str
    limits: CostLimits
    converted: Mapping[str, StaticPoint] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    _points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def reference(self) -> Reference:
        """What hypervolume is measured against."""
        return Reference(self.backbone.accuracy, self.backbone.costs[self.cost])

    def add(self, evaluation: Evaluation) -> None:
        """Take in an evaluation that is not there yet."""
        if evaluation.spec.key in self.evaluations:
            return
        self.evaluations[evaluation.spec.key] = evaluation
        self._points += [
            (point.accuracy, evaluation.cost(point, self.cost))
            for point in evaluation.curve.points
            if self.limits.allowed(evaluation, point)
        ]

    def replace(self, evaluation: Evaluation) -> None:
        """Put the evaluation of a retrained network in the place of its earlier one."""
        self.evaluations[evaluation.spec.key] = evaluation

    def statics(self) -> list[StaticPoint]:
        """Return the static networks that are known and within the limits: backbones and every truncated one."""
        truncated = (static for evaluation in self.evaluations.values() for static in evaluation.truncated)
        every = (self.backbone, *self.converted.values(), *truncated)
        return [static for static in every if self.limits.allow_static(static)]

    def within_limits(self) -> bool:
        """Tell whether any network, static ones among them, meets every limit."""
        points = ((e, point) for e in self.evaluations.values() for point in e.curve.points)
        return bool(self.statics()) or any(self.limits.allowed(e, point) for e, point in points)

    def hypervolume(self) -> float:
        """Return the share of the reference rectangle that is dominated."""
        return self.reference.hypervolume(self._points)

    def best_note(self) -> str:
        """Return the cheapest point at the backbone's accuracy, as a note for people."""
        lossless = [cost for accuracy, cost in self._points if accuracy >= self.backbone.accuracy]
        if not lossless:
            return "no point at the backbone's accuracy yet"
        return f"{self.backbone.costs[self.cost] / min(lossless):.2f}x cheaper at the backbone's accuracy"


def run_trials(
    study: optuna.Study,
    genome: Genome,
    evaluator: Evaluator,
    settings: SearchSettings,
    limits: CostLimits,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Archive:
    """Run trials until the study has ``settings.trials`` finished ones or ``settings.timeout`` seconds have passed.

    A candidate that fails is recorded with its reason, and the search goes on. An interruption (Ctrl-C) loses only the
    trial that was running; the next call runs it again.
    """
    begin(study, genome)
    archive = Archive(
        evaluator.backbone,
        settings.cost_objectives[0],
        limits,
        evaluator.converted_backbones,
    )
    for evaluation in _seen(study, evaluator):
        archive.add(evaluation)
    done, start = finished(study), clock()
    label = "trials" if settings.timeout is None else f"trials (at most {settings.timeout:.0f} s)"
    with progress.stage(label, settings.trials, done) as stage:
        while done < settings.trials and (settings.timeout is None or clock() - start < settings.timeout):
            _one_trial(study, genome, evaluator, settings, limits, archive)
            done += 1
            stage.note(f"hypervolume {archive.hypervolume():.3f}, {archive.best_note()}")
            stage.advance()
    return archive


def _one_trial(
    study: optuna.Study,
    genome: Genome,
    evaluator: Evaluator,
    settings: SearchSettings,
    limits: CostLimits,
    archive: Archive,
) -> None:
    trial = study.ask()
    genes, trade_off = sample(trial, genome)
    spec = genome.decode(genes)
    evaluation = archive.evaluations.get(spec.key) or evaluator.evaluate(spec)
    archive.add(evaluation)
    trial.set_user_attr(HYPERVOLUME, archive.hypervolume())
    if evaluation.failure is not None:
        trial.set_user_attr(FAILURE, evaluation.failure)
        logger.warning("candidate %s failed: %s", evaluation.id, evaluation.failure)
        trial.set_user_attr(SPEC, spec.to_json())
        study.tell(trial, state=TrialState.FAIL)
        return
    point = choose_point(evaluation, archive.backbone, settings, limits, trade_off)
    for name, violation in zip(limits.limits, limits.violations(evaluation, point), strict=True):
        trial.set_constraint(name, violation)
    trial.set_user_attr(SPEC, spec.to_json())
    study.tell(trial, objective_values(evaluation, point, settings))


def _seen(study: optuna.Study, evaluator: Evaluator) -> Iterator[Evaluation]:
    for trial in study.get_trials(deepcopy=False):
        if SPEC in trial.user_attrs:
            # Known, or made again where its record was damaged.
            yield evaluator.evaluate(NetworkSpec.from_json(trial.user_attrs[SPEC]))
