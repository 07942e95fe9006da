"""Trained networks of a run: what was seen is not trained again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aebnas.branches.linked import Cascade, build_exit
from aebnas.branches.spec import NO_CASCADE, NetworkSpec
from aebnas.experiment import Experiment
from aebnas.files import canonical_json, digest
from aebnas.prepare import Prepared
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.evaluation import Budget
from aebnas.store import load_state, state_of
from aebnas.training.candidates import TrainedBranch, train_branch, train_network
from aebnas.training.features import FeatureStore
from aebnas.training.fit import logits_of
from aebnas.training.regimes import REGIMES, Regime, matters
from aebnas.training.settings import FitSettings


class Trainer:
    """Trains networks under the settings that they choose for themselves, and keeps what it trained.

    On a frozen backbone a branch is trained once, whatever networks it is part of; where branches are trained one after
    the other, once for all that stand before it. Where the backbone moves, a network is trained as a whole.

    Args:
        regimes: Those that networks may have; if one freezes the backbone, its features are kept.
    """

    def __init__(
        self,
        experiment: Experiment,
        prepared: Prepared,
        folder: RunFolder,
        regimes: Sequence[str],
        *,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._experiment, self._prepared, self._folder, self._device = experiment, prepared, folder, device
        self._own: dict[tuple[Any, ...], Experiment] = {}
        # A regime that moves the backbone computes its own features: only the final logits, the teacher, are kept.
        frozen = any(REGIMES[name].kind != "whole" for name in regimes)
        self.budget_gib = experiment.cache_gib if frozen else 0.0
        self._features = FeatureStore(
            prepared.backbone.to(device),
            prepared.data,
            folder=folder.features,
            key=prepared.fingerprint,
            budget_gib=self.budget_gib,
            device=device,
            progress=progress,
        )

    @property
    def backbone_logits(self) -> Tensor:
        """What the trained backbone says of the validation split: (N, C)."""
        return self._features.logits("validation")

    def settings(self, spec: NetworkSpec) -> Experiment:
        """Return the experiment with the settings that ``spec`` chooses for itself."""
        key = (spec.regime, spec.confidence, spec.cascade, spec.options)
        if key not in self._own:
            self._own[key] = self._experiment.of_network(spec)
        return self._own[key]

    def train(self, spec: NetworkSpec, budget: Budget, stage: Stage | None) -> dict[str, Any]:
        """Train what is not there yet; return where the weights are in the run's stores.

        Raises:
            TrainingError: the loss is not finite. BranchError: a branch does not fit its attach point.
        """
        if spec.branches and _regime(spec).kind == "whole":
            return {"network": self._network(spec, budget, stage)}
        return {"branches": self._branches(spec, budget, stage)}

    def logits(self, weights: Mapping[str, Any]) -> list[Tensor]:
        """Return what every exit of a trained network, in fp32, says of the validation split: (N, C) each."""
        if "network" in weights:
            kept: list[Tensor] = self._folder.networks.get(weights["network"])["validation_logits"]
            return kept
        own = [self._folder.branches.get(key)["validation_logits"] for key in weights["branches"]]
        return [*own, self.backbone_logits]

    def has(self, weights: Mapping[str, Any]) -> bool:
        """Tell whether the stores hold ``weights``."""
        if "network" in weights:
            return self._folder.networks.has(weights["network"])
        return all(self._folder.branches.has(key) for key in weights.get("branches", ()))

    def work(self, spec: NetworkSpec, budget: Budget) -> int:
        """Return how many samples training ``spec`` will take in, over all epochs; nothing for what is there."""
        if not spec.branches:
            return 0
        train = len(self._prepared.data.train)
        samples = min(train, self._samples(spec, budget) or train) * self._training(spec, budget).epochs
        if _regime(spec).kind == "whole":
            return 0 if self._folder.networks.has(self._network_key(spec, budget)) else samples
        return samples * sum(not self._folder.branches.has(key) for key in self._branch_keys(spec, budget))

    def context(self, spec: NetworkSpec, budget: Budget) -> str:
        """Return all that training ``spec`` depends on beside its branches, as text."""
        own, regime = self.settings(spec).regime, _regime(spec)
        plain = own.model_dump(mode="json", exclude={"training", "final_epochs", "train_samples"})
        values = {key: value for key, value in _flat(plain) if matters(own, key)}
        values |= {"target": regime.target(own), "start": regime.starts(own)}
        values |= {"training": self._training(spec, budget).model_dump(mode="json")}
        values |= {"samples": self._samples(spec, budget), "budget": budget}
        if "confidence" in regime.uses:
            values["confidence"] = spec.confidence
        return canonical_json([values, self._experiment.seed, self._prepared.fingerprint])

    def _branches(self, spec: NetworkSpec, budget: Budget, stage: Stage | None) -> list[str]:
        keys, stored = self._branch_keys(spec, budget), self._folder.branches
        own = self.settings(spec)
        for number, (branch, key) in enumerate(zip(spec.branches, keys, strict=True)):
            if stored.has(key):
                continue
            trained = train_branch(
                branch,
                self._features,
                self._prepared.backbone,
                own.regime,
                self._training(spec, budget),
                samples=self._samples(spec, budget),
                seed=self._experiment.seed,
                device=self._device,
                stage=stage,
                earlier=self._earlier(spec, keys[:number]) if _in_order(spec) else (),
                cascade=own.cascade,
                confidence=spec.confidence,
            )
            record = {
                "state": state_of(trained.branch),
                "validation_logits": trained.validation_logits,
                "train_logits": trained.train_logits,
                "accuracies": trained.accuracies,
            }
            stored.put(key, record)
        return keys

    def _earlier(self, spec: NetworkSpec, keys: Sequence[str]) -> list[TrainedBranch]:
        """Return the trained branches of ``keys``, the first ones of ``spec``."""
        backbone, stored = self._prepared.backbone, self._folder.branches
        shapes = {point.name: point.shape for point in backbone.attach_points}
        cascade: Cascade = self.settings(spec).cascade
        found = []
        for number, (branch, key) in enumerate(zip(spec.branches, keys, strict=False)):
            record = stored.get(key)
            module = build_exit(branch, shapes[branch.attach], backbone.num_classes, cascade, first=not number)
            load_state(module, record["state"], stored.path(key))
            trained = TrainedBranch(
                module.eval(), record["validation_logits"], record["train_logits"], record["accuracies"]
            )
            found.append(trained)
        return found

    def _network(self, spec: NetworkSpec, budget: Budget, stage: Stage | None) -> str:
        key = self._network_key(spec, budget)
        if self._folder.networks.has(key):
            return key
        own = self.settings(spec)
        network, results = train_network(
            spec.branches,
            self._prepared.backbone,
            self._prepared.data,
            own.regime,
            self._training(spec, budget).epochs,
            initial=self._prepared.initial,
            teacher=self._features.logits("train") if _regime(spec).target(own.regime) == "backbone" else None,
            samples=self._samples(spec, budget),
            seed=self._experiment.seed,
            device=self._device,
            stage=stage,
            cascade=own.cascade,
            confidence=spec.confidence,
        )
        logits = logits_of(network.to(self._device), self._prepared.data.validation, self._device)
        accuracies = [result.accuracies for result in results]
        self._folder.networks.put(
            key, {"state": state_of(network), "validation_logits": logits, "accuracies": accuracies}
        )
        return key

    def _branch_keys(self, spec: NetworkSpec, budget: Budget) -> list[str]:
        context, keys = self.context(spec, budget), list[str]()
        for branch in spec.branches:
            # In a row, those that come later need what it says of the training split, so that is kept with it.
            row = ["in a row", *([spec.cascade, keys[-1]] if keys else [])] if _in_order(spec) else []
            keys.append(digest(branch.key, context, *row))
        return keys

    def _network_key(self, spec: NetworkSpec, budget: Budget) -> str:
        return digest(*(branch.key for branch in spec.branches), spec.cascade, self.context(spec, budget))

    def _training(self, spec: NetworkSpec, budget: Budget) -> FitSettings:
        settings = self.settings(spec).regime
        epochs = settings.training.epochs if budget == "search" else settings.final_epochs
        return settings.training.model_copy(update={"epochs": epochs})

    def _samples(self, spec: NetworkSpec, budget: Budget) -> int | None:
        return self.settings(spec).regime.train_samples if budget == "search" else None


def _regime(spec: NetworkSpec) -> Regime:
    return REGIMES[spec.regime]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings and those of their blocks by dotted keys."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _in_order(spec: NetworkSpec) -> bool:
    """Tell whether a branch is trained with the answers of those before it."""
    return _regime(spec).kind == "in-order" or spec.cascade != NO_CASCADE
