"""How one network is trained: its settings, its budget, and the keys that its weights are kept under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aebnas.branches.spec import NO_CASCADE, NetworkSpec
from aebnas.experiment import Experiment
from aebnas.files import canonical_json, digest
from aebnas.searching.evaluation import Budget
from aebnas.training.candidates import resumable
from aebnas.training.regimes import REGIMES, Regime, matters
from aebnas.training.settings import FitSettings


@dataclass(frozen=True)
class Plan:
    """What training ``spec`` under ``budget`` depends on.

    Args:
        own: The experiment with the settings that the network chooses for itself.
        fingerprint: Of data and backbone.
        lags: Whether the backbone's batch-norm statistics are helped to follow where it is trained from scratch.
    """

    spec: NetworkSpec
    budget: Budget
    own: Experiment
    fingerprint: str
    lags: bool = False

    @property
    def regime(self) -> Regime:
        """How backbone and branches are trained."""
        return REGIMES[self.spec.regime]

    @property
    def whole(self) -> bool:
        """Whether the network is trained as a whole, backbone included."""
        return bool(self.spec.branches) and self.regime.kind == "whole"

    @property
    def in_order(self) -> bool:
        """Whether a branch is trained with the answers of those before it."""
        return self.regime.kind == "in-order" or self.spec.cascade != NO_CASCADE

    @property
    def stoppable(self) -> bool:
        """Whether a training may be stopped before its end, and be gone on with."""
        if self.budget == "final" or self.in_order or not self.spec.branches:
            return False
        return self.regime.kind == "alone" or resumable(self.own.regime)

    @property
    def training(self) -> FitSettings:
        """Optimiser and epochs."""
        settings = self.own.regime
        epochs = settings.training.epochs if self.budget == "search" else settings.final_epochs
        return settings.training.model_copy(update={"epochs": epochs})

    @property
    def samples(self) -> int | None:
        """How many training samples there are at most; None is all."""
        return self.own.regime.train_samples if self.budget == "search" else None

    @cached_property
    def context(self) -> str:
        """All that the training depends on beside the branches, as text."""
        own, regime = self.own.regime, self.regime
        plain = own.model_dump(mode="json", exclude={"training", "final_epochs", "train_samples"})
        values = {key: value for key, value in _flat(plain) if matters(own, key)}
        values |= {"target": regime.target(own), "start": regime.starts(own)}
        values |= {"training": self.training.about()}
        values |= {"samples": self.samples, "budget": self.budget}
        if "confidence" in regime.uses:
            values["confidence"] = self.spec.confidence
        if self.own.accuracy != "plain":
            values["accuracy"] = self.own.accuracy
        if self.lags and self.whole and regime.starts(own) == "initial":
            # Earlier versions trained such networks without: theirs are not taken for these.
            values["batch_norm"] = "follows"
        return canonical_json([values, self.own.seed, self.fingerprint])

    @cached_property
    def branch_keys(self) -> list[str]:
        """The key of each branch, the same in every network that it is part of."""
        keys = list[str]()
        for branch in self.spec.branches:
            # In a row, those that come later need what it says of the training split, so that is kept with it.
            row = ["in a row", *([self.spec.cascade, keys[-1]] if keys else [])] if self.in_order else []
            keys.append(digest(branch.key, self.context, *row))
        return keys

    @cached_property
    def network_key(self) -> str:
        """The key of the network, where it is trained as a whole."""
        return digest(*(branch.key for branch in self.spec.branches), self.spec.cascade, self.context)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield settings and those of their blocks by dotted keys."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
