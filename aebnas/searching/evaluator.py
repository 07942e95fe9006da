"""From a network specification to its evaluation: train what is new, tune, compose costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aebnas.branches.spec import FP32, BranchSpec, NetworkSpec
from aebnas.costs.model import CostModel
from aebnas.costs.network import NetworkCosts
from aebnas.errors import BackboneError, BranchError, DeviceError, InputError, MeasurementError, TrainingError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import Curve, OperatingPoint, Target
from aebnas.exits.tuning import solve, tune
from aebnas.experiment import Experiment
from aebnas.files import canonical_json, digest
from aebnas.prepare import Prepared
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.deployed import DeployedLogits
from aebnas.searching.evaluation import Budget, Evaluation, StaticPoint
from aebnas.store import state_of
from aebnas.training.candidates import train_branch, train_network
from aebnas.training.features import FeatureStore
from aebnas.training.fit import logits_of
from aebnas.training.regimes import REGIMES
from aebnas.training.settings import FitSettings

# What a candidate may fail of; anything else is a fault of the program or the machine and stops the search.
CANDIDATE_ERRORS = (TrainingError, MeasurementError, BranchError, BackboneError)


class Evaluator:
    """Evaluates networks of one run; a network or a branch that was seen is not trained again.

    Args:
        costs: By precision, composes exit costs and measures blocks that are new; fp32, in which the static backbone
            is the reference, is always among them.
        limited: Names of the costs that are limited, which curves are solved over as well.
        progress: Shows the features being computed.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        costs: Mapping[str, CostModel],
        folder: RunFolder,
        *,
        limited: Sequence[str] = (),
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._limited = tuple(limited)
        self._experiment, self._prepared, self._folder, self._device = experiment, prepared, folder, device
        self.costs = costs
        self._regime = REGIMES[experiment.regime.name]
        body = prepared.backbone.to(device)
        # A regime that moves the backbone computes its own features: only the final logits, the teacher, are kept.
        budget_gib = experiment.cache_gib if self._regime.freezes_backbone else 0.0
        self._features = FeatureStore(
            body,
            prepared.data,
            folder=folder.features,
            key=prepared.fingerprint,
            budget_gib=budget_gib,
            device=device,
            progress=progress,
        )
        labels = prepared.data.validation.labels
        self._backbone_correct = (self._features.logits("validation").argmax(1) == labels).numpy()
        self._confidence = build_confidence(experiment.confidence)
        self._deployed = DeployedLogits(prepared, folder, budget_gib=budget_gib, progress=progress)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the costs, in every precision the same."""
        return self.costs[FP32].names

    @property
    def backbone(self) -> StaticPoint:
        """The static backbone in fp32 on validation."""
        return StaticPoint(float(self._backbone_correct.mean()), self._named(self.costs[FP32].backbone))

    @property
    def converted_backbones(self) -> dict[str, StaticPoint]:
        """The static backbone on validation in every other precision: what that alone does.

        Raises:
            BackboneError: it cannot be converted.
        """
        labels, found = self._prepared.data.validation.labels, {}
        for precision in self.costs:
            if precision != FP32:
                correct = (self._deployed.backbone(precision).argmax(1) == labels).numpy()
                named = self._named(self.costs[precision].backbone)
                found[precision] = StaticPoint(float(correct.mean()), named)
        return found

    def known(self, spec: NetworkSpec, budget: Budget = "search") -> Evaluation | None:
        """Return the stored evaluation of ``spec``, or None: it is not there, damaged, or its weights are gone."""
        record = self._folder.read_evaluation(self._record_key(spec, budget))
        try:
            made = None if record is None else Evaluation.from_json(record)
        except (InputError, AttributeError, KeyError, TypeError, ValueError):
            return None
        return made if made is not None and self._has_weights(made) else None

    def evaluate(self, spec: NetworkSpec, budget: Budget = "search", stage: Stage | None = None) -> Evaluation:
        """Return the evaluation of ``spec``, made now if it is not known; a failed one says why.

        Raises:
            DeviceError: the device was lost; what was evaluated before is kept.
        """
        known = self.known(spec, budget)
        if known is not None:
            return known
        start = time.perf_counter()
        try:
            made = self._make(spec, budget, stage)
        except DeviceError:
            raise  # no other candidate could be measured either
        except CANDIDATE_ERRORS as error:
            made = Evaluation(spec, budget, self.names, Curve(()), (), {}, 0.0, str(error))
            if isinstance(error, MeasurementError):
                return made  # the device may answer next time: nothing is kept
        made = dataclasses.replace(made, seconds=time.perf_counter() - start)
        self._folder.write_evaluation(self._record_key(spec, budget), made.to_json())
        return made

    def work(self, spec: NetworkSpec, budget: Budget = "final") -> int:
        """Return how many samples training ``spec`` will take in, over all epochs; nothing for what is known."""
        if self.known(spec, budget) is not None or not spec.branches:
            return 0
        train = len(self._prepared.data.train)
        samples = min(train, self._samples(budget) or train) * self._training(budget).epochs
        if not self._regime.freezes_backbone:
            return samples
        return samples * sum(
            1 for branch in spec.branches if not self._folder.branches.has(self._branch_key(branch, budget))
        )

    def _make(self, spec: NetworkSpec, budget: Budget, stage: Stage | None) -> Evaluation:
        # Costs come first: a branch that does not fit is refused before any training.
        costs = self.costs[spec.precision].network(spec.branches)
        weights: dict[str, Any] = {"branches": []}
        if not spec.branches:
            logits = [self._features.logits("validation")]
        elif self._regime.freezes_backbone:
            logits, weights = self._branch_logits(spec, budget, stage)
        else:
            logits, weights = self._network_logits(spec, budget, stage)
        if spec.precision != FP32:
            # All that follows, thresholds and accuracies alike, is that of the network as it is deployed.
            logits = self._deployed.network(spec, weights)
        labels = self._prepared.data.validation.labels
        correct = np.stack([(z.argmax(1) == labels).numpy() for z in logits])
        sure = [self._confidence(z).numpy() for z in logits[:-1]]
        confidences = np.stack(sure) if sure else np.zeros((0, len(labels)), dtype=np.float32)
        curve = self._tune(confidences, correct, costs)
        truncated = tuple(
            StaticPoint(float(correct[exit_].mean()), self._named(costs.truncated(exit_)))
            for exit_ in range(len(spec.branches))
        )
        return Evaluation(spec, budget, self.names, curve, truncated, weights, 0.0)

    def _tune(self, confidences: Any, correct: Any, costs: NetworkCosts) -> Curve:
        """Solve for the curve over the costs that are objectives, limits or target; give its points every cost."""
        settings = self._experiment.search
        names = dict.fromkeys([*settings.cost_objectives, *self._limited])
        if settings.target is not None:
            names[settings.target.cost] = None
        wanted = [self.names.index(name) for name in names]

        def cost_of(mask: tuple[bool, ...]) -> npt.NDArray[np.float64]:
            return costs.exit_costs(mask)[wanted]

        reduction = costs.reduction.of_rows(wanted)
        points = tune(confidences, correct, cost_of, grid=settings.grid, reduction=reduction).points
        if settings.target is not None and settings.target.rule == "two-sided":
            # A point below the target may lose to a dominated one nearer to it, which no curve holds.
            wish = settings.target
            target = Target(wish.value, wish.rule, list(names).index(wish.cost), wish.min_accuracy)
            met = solve(confidences, correct, cost_of, target, grid=settings.grid, reduction=reduction)
            points = points if met is None or met in points else (*points, met)
        return Curve(tuple(dataclasses.replace(point, costs=_mean_costs(point, costs)) for point in points))

    def _branch_logits(
        self, spec: NetworkSpec, budget: Budget, stage: Stage | None
    ) -> tuple[list[Tensor], dict[str, Any]]:
        keys, logits = [], []
        for branch in spec.branches:
            key = self._branch_key(branch, budget)
            if not self._folder.branches.has(key):
                self._train_branch(branch, budget, key, stage)
            keys.append(key)
            logits.append(self._folder.branches.get(key)["validation_logits"])
        return [*logits, self._features.logits("validation")], {"branches": keys}

    def _train_branch(self, branch: BranchSpec, budget: Budget, key: str, stage: Stage | None) -> None:
        trained = train_branch(
            branch,
            self._features,
            self._prepared.backbone,
            self._experiment.regime,
            self._training(budget),
            samples=self._samples(budget),
            seed=self._experiment.seed,
            device=self._device,
            stage=stage,
        )
        record = {
            "state": state_of(trained.branch),
            "validation_logits": trained.validation_logits,
            "accuracies": trained.accuracies,
        }
        self._folder.branches.put(key, record)

    def _network_logits(
        self, spec: NetworkSpec, budget: Budget, stage: Stage | None
    ) -> tuple[list[Tensor], dict[str, Any]]:
        key = self._key(spec.trained_key, budget)
        if self._folder.networks.has(key):
            return self._folder.networks.get(key)["validation_logits"], {"network": key}
        settings = self._experiment.regime
        network, _ = train_network(
            spec.branches,
            self._prepared.backbone,
            self._prepared.data,
            settings,
            self._training(budget).epochs,
            initial=self._prepared.initial,
            teacher=self._features.logits("train") if settings.target == "backbone" else None,
            samples=self._samples(budget),
            seed=self._experiment.seed,
            device=self._device,
            stage=stage,
        )
        logits = logits_of(network.to(self._device), self._prepared.data.validation, self._device)
        self._folder.networks.put(key, {"state": state_of(network), "validation_logits": logits})
        return logits, {"network": key}

    def _has_weights(self, made: Evaluation) -> bool:
        if "network" in made.weights:
            return self._folder.networks.has(made.weights["network"])
        return all(self._folder.branches.has(key) for key in made.weights.get("branches", ()))

    def _training(self, budget: Budget) -> FitSettings:
        settings = self._experiment.regime
        epochs = settings.training.epochs if budget == "search" else settings.final_epochs
        return settings.training.model_copy(update={"epochs": epochs})

    def _samples(self, budget: Budget) -> int | None:
        return self._experiment.regime.train_samples if budget == "search" else None

    def _key(self, spec_key: str, budget: Budget) -> str:
        return digest(spec_key, budget, self._context(budget))

    def _record_key(self, spec: NetworkSpec, budget: Budget) -> str:
        """Return the key of an evaluation; limits, which may change while a run goes on, decide what is solved over."""
        key, limited = self._key(spec.key, budget), sorted(set(self._limited))
        return digest(key, *limited) if limited else key

    def _branch_key(self, branch: BranchSpec, budget: Budget) -> str:
        return digest(branch.key, self._context(budget))

    def _context(self, budget: Budget) -> str:
        """Return all that training depends on beside the specification, as text."""
        settings = self._experiment.regime.model_dump(mode="json", exclude={"training", "final_epochs"})
        settings |= {"training": self._training(budget).model_dump(mode="json"), "samples": self._samples(budget)}
        return canonical_json([settings, self._experiment.seed, self._prepared.fingerprint])

    def _named(self, costs: Any) -> dict[str, float]:
        return dict(zip(self.names, map(float, costs), strict=True))


def _mean_costs(point: OperatingPoint, costs: NetworkCosts) -> tuple[float, ...]:
    mask = [threshold is not None for threshold in point.thresholds]
    return tuple(map(float, costs.mean(mask, point.exit_shares)))
