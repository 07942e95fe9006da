"""The loop of trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from aebnas.branches.spec import NetworkSpec
from aebnas.searching.choice import CostLimits, choose_point, objective_values
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.frontier import Reference
from aebnas.searching.meeting import Meeting
from aebnas.searching.rungs import Ledger
from aebnas.searching.study import FAILURE, HYPERVOLUME, RECOMBINED, SPEC, finished, has_ended, running, sample
from aebnas.searching.workplace import Pausing, Workplace
from aebnas.sharing.lost import mark

logger = logging.getLogger(__name__)
# Where all trials that are left are running elsewhere, they are looked at so often.
_LOOK_EVERY_S = 0.5


@dataclass
class Archive:
    """Every evaluation of a run by the key of its network, and the hypervolume of all their curves.

    Args:
        backbone: In fp32: the reference.
        converted: The static backbone in other precisions, by their names.
        ledger: Learns from everything that is taken in, so that it can tell what is hopeless.
    """

    backbone: StaticPoint
    cost: str
    limits: CostLimits
    converted: Mapping[str, StaticPoint] = field(default_factory=dict)
    ledger: Ledger | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    _points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _taken: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, place: Workplace) -> Archive:
        """Return an empty archive of the search that ``place`` is of."""
        evaluator = place.evaluator
        cost = place.experiment.search.cost_objectives[0]
        return cls(evaluator.backbone, cost, place.limits, evaluator.converted_backbones, place.ledger)

    @property
    def reference(self) -> Reference:
        """What hypervolume is measured against."""
        return Reference(self.backbone.accuracy, self.backbone.costs[self.cost])

    def add(self, evaluation: Evaluation) -> None:
        """Take in an evaluation that is not there yet, or whose training had been stopped and went on."""
        before = self.evaluations.get(evaluation.spec.key)
        if before is not None and not (before.partial and before.epochs != evaluation.epochs):
            return
        self.evaluations[evaluation.spec.key] = evaluation
        if self.ledger is not None:
            self.ledger.add(evaluation)
        self._points[evaluation.spec.key] = [
            (point.accuracy, evaluation.cost(point, self.cost))
            for point in evaluation.curve.points
            if self.limits.allowed(evaluation, point)
        ]

    def sync(self, trials: Iterable[FrozenTrial], evaluator: Evaluator, *, make: bool = False) -> list[Evaluation]:
        """Take in what ``trials`` found and is not here yet, whichever process ran them; return it.

        Args:
            make: Evaluate again what is damaged or gone; else it is left for the next time.
        """
        found = []
        for trial in trials:
            if trial.number in self._taken or SPEC not in trial.user_attrs or not has_ended(trial):
                continue
            spec = NetworkSpec.from_json(trial.user_attrs[SPEC])
            evaluation = self.evaluations.get(spec.key) or evaluator.known(spec)
            if evaluation is None and make:
                evaluation = evaluator.evaluate(spec, ledger=self.ledger)
            if evaluation is not None:
                self._taken.add(trial.number)
                if spec.key not in self.evaluations:
                    self.add(evaluation)
                    found.append(evaluation)
        return found

    def in_order(self) -> Archive:
        """Return the same archive in an order that does not depend on who evaluated what and when."""
        made = Archive(self.backbone, self.cost, self.limits, self.converted, self.ledger)
        for key in sorted(self.evaluations):
            made.add(self.evaluations[key])
        return made

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
        return self.reference.hypervolume(self._every_point())

    def best_note(self) -> str:
        """Return the cheapest point at the backbone's accuracy, as a note for people."""
        lossless = [cost for accuracy, cost in self._every_point() if accuracy >= self.backbone.accuracy]
        if not lossless:
            return "no point at the backbone's accuracy yet"
        return f"{self.backbone.costs[self.cost] / min(lossless):.2f}x cheaper at the backbone's accuracy"

    def _every_point(self) -> list[tuple[float, float]]:
        return list(chain.from_iterable(self._points.values()))


def run_trials(
    study: optuna.Study,
    place: Workplace,
    *,
    met: Meeting | None = None,
    archive: Archive | None = None,
    clock: Callable[[], float] = time.monotonic,
    goes_on: Callable[[], bool] = lambda: True,
    look: Callable[[Archive], object] = lambda _: None,
    done: Callable[[Archive], object] = lambda _: None,
) -> Archive:
    """Run trials until the study has ``search.trials`` finished ones or ``search.timeout`` seconds have passed.

    A candidate that fails is recorded with its reason, and the search goes on. An interruption (Ctrl-C) loses only the
    trial that was running; the next call runs it again.

    Args:
        met: Other processes that may run trials too; None: there are none.
        archive: What was found before, taken further; by default all that the study holds.
        clock: Seconds that the timeout is counted in.
        goes_on: Asked before each trial.
        look: Told before each trial, and again and again while the last ones run elsewhere.
        done: Told after each trial.
    """
    found = archive if archive is not None else Archive.of(place)
    settings, start = place.experiment.search, clock()
    while goes_on() and (settings.timeout is None or clock() - start < settings.timeout):
        if met is not None:
            met.returns.give_back(study)
            found.sync(study.get_trials(deepcopy=False), place.evaluator)
        look(found)
        trial = _next(study, place, met, found)
        if trial is None:
            if finished(study) >= settings.trials:
                break
            # The rest is running elsewhere; if a process there dies, its trial comes back.
            time.sleep(_LOOK_EVERY_S)
            continue
        _run(trial, study, place, found)
        done(found)
    return found


def _next(study: optuna.Study, place: Workplace, met: Meeting | None, archive: Archive) -> Trial | None:
    """Return a new trial; None if with those that are running there are enough.

    Only processes of one folder take turns: those of several may begin a few trials more than are wanted.
    """
    with place.folder.turn_to_ask():
        # In this order: one that comes to its end in between is counted twice, not left out.
        if len(running(study)) + finished(study) >= place.experiment.search.trials:
            return None
        known = place.recombiner.next(study.get_trials(deepcopy=False), archive.evaluations)
        if known is not None:
            study.enqueue_trial(known, user_attrs={RECOMBINED: True})
        trial = study.ask()
        if met is not None:
            mark(trial, met.presence)
        # Before others ask: what is running is not proposed to them.
        sample(trial, place.genome)
        return trial


def _run(trial: Trial, study: optuna.Study, place: Workplace, archive: Archive) -> None:
    genes, trade_off = sample(trial, place.genome)
    spec = place.genome.decode(genes)
    evaluation = archive.evaluations.get(spec.key)
    if evaluation is None or evaluation.partial:
        evaluation = _evaluated(spec, place)
        archive.add(evaluation)
    try:
        _tell(trial, study, evaluation, trade_off, place, archive)
    except UpdateFinishedTrialError:
        # Its evaluation is kept all the same.
        logger.warning("trial %d was given to another worker, for this one was not heard of for a while", trial.number)


def _tell(
    trial: Trial, study: optuna.Study, evaluation: Evaluation, trade_off: float, place: Workplace, archive: Archive
) -> None:
    trial.set_user_attr(HYPERVOLUME, archive.hypervolume())
    spec = evaluation.spec.to_json()
    if evaluation.failure is not None:
        trial.set_user_attr(FAILURE, evaluation.failure)
        logger.warning("candidate %s failed: %s", evaluation.id, evaluation.failure)
        trial.set_user_attr(SPEC, spec)
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        return
    settings, limits = place.experiment.search, place.limits
    point = choose_point(evaluation, archive.backbone, settings, limits, trade_off)
    for name, violation in zip(limits.limits, limits.violations(evaluation, point), strict=True):
        trial.set_constraint(name, violation)
    trial.set_user_attr(SPEC, spec)
    study.tell(trial, objective_values(evaluation, point, settings), skip_if_finished=True)


def _evaluated(spec: NetworkSpec, place: Workplace) -> Evaluation:
    with place.quiet.working():
        return place.evaluator.evaluate(spec, stage=Pausing(place.quiet), ledger=place.ledger)
