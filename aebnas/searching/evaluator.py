"""From a network specification to its evaluation: train what is new, tune, compose costs."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aebnas.branches.spec import FP32, NO_CASCADE, NetworkSpec
from aebnas.costs.kinds import MEMORY, SIZE
from aebnas.costs.model import CostModel
from aebnas.costs.network import NetworkCosts
from aebnas.errors import BackboneError, BranchError, DeviceError, InputError, MeasurementError, TrainingError
from aebnas.exits.answers import Answers
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import Curve, Target
from aebnas.exits.decision import answers_of
from aebnas.exits.tuning import Rule, solve_answers, tune_answers
from aebnas.experiment import Experiment
from aebnas.files import digest
from aebnas.prepare import Prepared
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.costing import CostModels, Kind, by_precision
from aebnas.searching.deployed import DeployedLogits
from aebnas.searching.evaluation import Budget, Evaluation, StaticPoint
from aebnas.searching.priced import unbeaten, with_costs
from aebnas.searching.records import Trained
from aebnas.searching.rungs import Ledger
from aebnas.searching.trainer import Teach, Trainer
from aebnas.spaces.network_genes import REGIME
from aebnas.store import DamagedFile
from aebnas.training.inference import accuracy_of_logits

logger = logging.getLogger(__name__)
# What a candidate may fail of; anything else is a fault of the program or the machine and stops the search.
CANDIDATE_ERRORS = (TrainingError, MeasurementError, BranchError, BackboneError)
# Records that turn out to be damaged are made again; whoever meets more of them has a broken disk.
MOST_DAMAGED = 8


class Evaluator:
    """Evaluates networks of one run; a network or a branch that was seen is not trained again.

    Args:
        costs: By precision and confidence, composes exit costs and measures blocks that are new; fp32, in which the
            static backbone is the reference, is always among them.
        limited: Names of the costs that are limited, which curves are solved over as well.
        progress: Shows the features being computed.
        verify: Compare the checksums of features that are there.
        teach: Trains branches, as :class:`~aebnas.searching.trainer.Trainer` takes it.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        costs: CostModels,
        folder: RunFolder,
        *,
        limited: Sequence[str] = (),
        device: torch.device,
        progress: Progress,
        verify: bool = False,
        teach: Teach | None = None,
    ) -> None:
        self.experiment, self._prepared, self._folder = experiment, prepared, folder
        self._limited = tuple(limited)
        self.costs = costs
        regimes = [experiment.regime.name, *map(str, experiment.search.genes.get(REGIME, ()))]
        self._trainer = Trainer(
            experiment, prepared, folder, regimes, device=device, progress=progress, verify=verify, teach=teach
        )
        self.truth = prepared.data.validation.labels
        self._deployed = DeployedLogits(
            prepared, folder, budget_gib=self._trainer.budget_gib, progress=progress, verify=verify
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the costs, for all networks the same."""
        return self._reference.names

    @property
    def _reference(self) -> CostModel:
        return by_precision(self.costs, self.experiment.confidence)[FP32]

    @property
    def backbone(self) -> StaticPoint:
        """The static backbone in fp32 on validation."""
        return self._static(self._trainer.backbone_logits, self._reference)

    @property
    def converted_backbones(self) -> dict[str, StaticPoint]:
        """The static backbone on validation in every other precision: what that alone does.

        Raises:
            BackboneError: it cannot be converted.
        """
        models = by_precision(self.costs, self.experiment.confidence)
        return {
            precision: self._static(self._deployed.backbone(precision), model)
            for precision, model in models.items()
            if precision != FP32
        }

    def known(self, spec: NetworkSpec, budget: Budget = "search") -> Evaluation | None:
        """Return the stored evaluation of ``spec``, or None: it is not there, damaged, or its weights are gone."""
        record = self._folder.read_evaluation(self._key(spec, budget))
        try:
            made = None if record is None else Evaluation.from_json(record)
        except (InputError, AttributeError, KeyError, TypeError, ValueError):
            return None
        return made if made is not None and self._trainer.has(made.weights) else None

    @property
    def _solved(self) -> list[str]:
        """Names of the costs that curves are solved over: objectives, limits, the target."""
        settings = self.experiment.search
        target = [] if settings.target is None else [settings.target.cost]
        return list(dict.fromkeys([*settings.cost_objectives, *self._limited, *target]))

    @property
    def _by_size(self) -> bool:
        """Whether one of these is known in full only when thresholds are: a file ends where all leave."""
        return not {SIZE, MEMORY}.isdisjoint(self._solved)

    def evaluate(
        self,
        spec: NetworkSpec,
        budget: Budget = "search",
        stage: Stage | None = None,
        ledger: Ledger | None = None,
    ) -> Evaluation:
        """Return the evaluation of ``spec``, made now if it is not known; a failed one says why.

        Args:
            ledger: Says which trainings to stop before their end; without it, all are taken there, also those that were
                stopped before.

        Raises:
            DeviceError: the device was lost; what was evaluated before is kept.
        """
        known, start = self.known(spec, budget), time.perf_counter()
        try:
            if known is not None and not (known.partial and self.goes_on(known, ledger)):
                return known
            made = self._make(spec, budget, stage, ledger)
        except DeviceError:
            raise  # no other candidate could be measured either
        except CANDIDATE_ERRORS as error:
            made = Evaluation(spec, budget, self.names, Curve(()), (), {}, 0.0, str(error))
            if isinstance(error, MeasurementError):
                return made  # the device may answer next time: nothing is kept
        earlier = 0.0 if known is None else known.seconds
        made = dataclasses.replace(made, seconds=earlier + time.perf_counter() - start)
        self._folder.write_evaluation(self._key(spec, budget), made.to_json())
        return made

    def goes_on(self, known: Evaluation, ledger: Ledger | None) -> bool:
        """Tell whether something that was stopped is to be trained further now."""
        if ledger is None:
            return True
        hopeless = [
            ledger.hopeless(known.spec, costs, curve)
            for costs, curve, epochs in zip(self._ends(known.spec), known.curves, known.epochs, strict=False)
            if epochs is not None
        ]
        return not all(hopeless)

    def work(self, spec: NetworkSpec, budget: Budget = "final") -> int:
        """Return how many samples training ``spec`` to its end will take in; nothing for what is known."""
        known = self.known(spec, budget)
        return 0 if known is not None and not known.partial else self._trainer.work(spec, budget)

    def _make(self, spec: NetworkSpec, budget: Budget, stage: Stage | None, ledger: Ledger | None) -> Evaluation:
        # Costs come first: a branch that does not fit is refused before any training.
        costs = self._costs(spec)
        watch = None if ledger is None else ledger.watch(spec, self._ends(spec))
        trained, answers, alone = self._trained(spec, lambda: self._trainer.train(spec, budget, stage, watch))
        curve = self._tune(answers, costs, self._trainer.settings(spec).thresholds)
        # A branch that hears another one is no static network of its own.
        truncated = tuple(
            StaticPoint(accuracy, self._named(costs.truncated(exit_)))
            for exit_, accuracy in enumerate(alone[: len(costs.cuts)])
        )
        return Evaluation(
            spec,
            budget,
            self.names,
            curve,
            truncated,
            trained.weights,
            0.0,
            curves=trained.curves,
            epochs=trained.epochs,
        )

    def _trained(
        self, spec: NetworkSpec, train: Callable[[], Trained], tries: int = MOST_DAMAGED
    ) -> tuple[Trained, Answers, list[float]]:
        """Return a trained network, what it answers, and how accurate every exit is alone.

        Records that are damaged are made again.
        """
        try:
            trained = train()
            return trained, *self._answers(spec, trained.weights)
        except DamagedFile as damage:
            if not tries:
                raise
            logger.warning("%s; it is made again", damage)
        return self._trained(spec, train, tries - 1)

    def _answers(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> tuple[Answers, list[float]]:
        alone: list[float] = []

        def judged() -> Iterator[Tensor]:
            # One exit after the other: of many classes, the logits of all would be gigabytes.
            for logits in self._each_logits(spec, weights):
                alone.append(self._accuracy(logits))
                yield logits

        answers = answers_of(
            build_confidence(spec.confidence),
            judged(),
            self.truth,
            prefixes=spec.cascade != NO_CASCADE,
            accuracy=self.experiment.accuracy,
        )
        return answers, alone

    def _costs(self, spec: NetworkSpec) -> NetworkCosts:
        model = self.costs[Kind(spec.precision, spec.confidence)]
        return model.network(spec.branches, self._trainer.settings(spec).cascade)

    def _ends(self, spec: NetworkSpec) -> list[Mapping[str, float]]:
        """Return the costs of the static networks that end at each exit, the last of them the backbone."""
        costs = self._costs(spec)
        truncated = [self._named(costs.truncated(exit_)) for exit_ in range(len(costs.cuts))]
        return [*truncated, self._named(self.costs[Kind(spec.precision, spec.confidence)].backbone)]

    def _tune(self, answers: Answers, costs: NetworkCosts, rule: Rule) -> Curve:
        """Solve for the curve over the costs that are objectives, limits or target; give its points every cost."""
        settings, names = self.experiment.search, self._solved
        wanted = [self.names.index(name) for name in names]

        def cost_of(mask: tuple[bool, ...]) -> npt.NDArray[np.float64]:
            return costs.exit_costs(mask)[wanted]

        reduction = costs.reduction.of_rows(wanted)
        tuned = tune_answers(answers, cost_of, rule=rule, grid=settings.grid, reduction=reduction).points
        points = [with_costs(point, costs) for point in tuned]
        if self._by_size:
            points = unbeaten(points, wanted)
        if settings.target is not None and settings.target.rule == "two-sided":
            # A point below the target may lose to a dominated one nearer to it, which no curve holds.
            wish = settings.target
            target = Target(wish.value, wish.rule, names.index(wish.cost), wish.min_accuracy)
            met = solve_answers(answers, cost_of, target, rule=rule, grid=settings.grid, reduction=reduction)
            best = None if met is None else with_costs(met, costs)
            points += [] if best is None or best in points else [best]
        return Curve(tuple(points))

    def logits(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> list[Tensor]:
        """Return what every exit of a trained network, as it is deployed, says of the validation split: (N, C) each."""
        return list(self._each_logits(spec, weights))

    def _each_logits(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> Iterator[Tensor]:
        # Thresholds and accuracies alike are those of the network as it is deployed.
        return self._trainer.logits(weights) if spec.precision == FP32 else self._deployed.exits(spec, weights)

    def _key(self, spec: NetworkSpec, budget: Budget) -> str:
        """Return the key of an evaluation; limits, which may change while a run goes on, decide what is solved over."""
        rule, limited = self._trainer.settings(spec).thresholds, sorted(set(self._limited))
        # Earlier versions counted what stands behind an exit that all leave at: what they chose by it is made again.
        sized = ["sizes end where all leave"] if self._by_size else []
        return digest(spec.key, rule, self._trainer.plan(spec, budget).context, *limited, *sized)

    def _static(self, logits: Tensor, model: CostModel) -> StaticPoint:
        return StaticPoint(self._accuracy(logits), self._named(model.backbone))

    def _accuracy(self, logits: Tensor) -> float:
        return accuracy_of_logits(logits, self.truth, self.experiment.accuracy)

    def _named(self, costs: Any) -> dict[str, float]:
        return dict(zip(self.names, map(float, costs), strict=True))
