"""Samplers: Optuna's own, told what is known already, so that no trial is spent on a network twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aebnas.experiment_search import SearchSettings
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.networks import FIXED, Networks
from aebnas.searching.surrogate import Surrogate
from aebnas.spaces.genome import Genome

Genes = dict[str, Any]
# What is asked of a sampler before one of its proposals is changed at random; a Gaussian process, whose proposal is the
# optimum of a function and takes a second, would say the same again.
_ASKS, _ASKS_OF_GP = 4, 1
# Among how many new networks a surrogate chooses.
_POOL = 48
# Genes changed at random, one after the other, before a space counts as exhausted.
_MOST_CHANGES = 256


def make_sampler(settings: SearchSettings, seed: int, genome: Genome) -> BaseSampler:
    """Return the sampler that the settings name, which proposes no network that is finished, running or queued.

    All but random take a trial's constraints into account. TPE and GP know of running trials themselves (TPE counts
    them among the bad ones, GP does not look near them); the others only do not repeat them.
    """
    surrogate = Surrogate(genome, seed) if settings.surrogate else None
    asks = _ASKS_OF_GP if settings.sampler == "gp" else _ASKS
    return FreshSampler(_inner(settings, seed), genome, seed, asks=asks, surrogate=surrogate)


def _inner(settings: SearchSettings, seed: int) -> BaseSampler:
    match settings.sampler:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=settings.population, seed=seed)
        case "nsga3":
            return optuna.samplers.NSGAIIISampler(population_size=settings.population, seed=seed)


class FreshSampler(BaseSampler):
    """Takes the proposal of another sampler, or where that network is known already, a new one near it.

    Args:
        inner: Proposes genes.
        asks: How often ``inner`` is asked for a new network, before genes of a proposal are changed at random.
        surrogate: Chooses among several new networks; None takes the first one.
    """

    def __init__(
        self, inner: BaseSampler, genome: Genome, seed: int, *, asks: int = _ASKS, surrogate: Surrogate | None = None
    ) -> None:
        self.inner = inner
        self._genome, self._asks, self._surrogate = genome, asks, surrogate
        self._rng = np.random.default_rng(seed)
        self._space: dict[str, BaseDistribution] = {
            **{name: CategoricalDistribution(choices) for name, choices in genome.genes.items()},
            TRADE_OFF: FloatDistribution(0.0, 1.0),
        }
        self._single = {name: choices[0] for name, choices in genome.genes.items() if len(choices) == 1}
        self._networks = Networks(genome)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Let queued trials take part in evolution: Optuna asks no sampler about them, so they had no generation."""
        self.inner.before_trial(study, trial)
        genetic = isinstance(self.inner, (optuna.samplers.NSGAIISampler, optuna.samplers.NSGAIIISampler))
        if genetic and FIXED in trial.system_attrs and not trial.state.is_finished():
            self.inner.get_trial_generation(study, trial)  # type: ignore[attr-defined]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all genes and the trade-off: a network is proposed as a whole."""
        return dict(self._space)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Genes:
        """Return genes of a network that no other trial has; where all are known, what the inner sampler proposes."""
        fixed = {**trial.system_attrs.get(FIXED, {}), **trial.params}
        if self._space.keys() <= fixed.keys():
            return {}  # there is nothing left to propose
        known = self._known(study, trial)
        first = self._propose(study, trial, fixed)
        fresh = self._fresh(first, lambda: self._propose(study, trial, fixed), fixed, known)
        if self._surrogate is None:
            return next(fresh, first)
        pool = list(islice(fresh, _POOL if self._surrogate.fit(study) else 1))
        return self._surrogate.best(pool) if pool else first

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        """Sample what is no gene."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the inner sampler."""
        self.inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Seed anew, from the system."""
        self.inner.reseed_rng()
        self._rng = np.random.default_rng()

    def _propose(self, study: Study, trial: FrozenTrial, fixed: Genes) -> Genes:
        """Return what the inner sampler proposes, every gene of it."""
        space = self.inner.infer_relative_search_space(study, trial)
        found = {**self._single, **self.inner.sample_relative(study, trial, space), **fixed}
        return {
            name: found[name] if name in found else self.inner.sample_independent(study, trial, name, distribution)
            for name, distribution in self._space.items()
        }

    def _fresh(self, first: Genes, propose: Callable[[], Genes], fixed: Genes, known: set[str]) -> Iterator[Genes]:
        """Yield genes of networks that are not ``known``, no network twice: proposals, then what is near the first."""
        taken = set(known)
        for number in range(self._asks):
            genes = first if number == 0 else propose()
            key = self._key(genes)
            if key not in taken:
                taken.add(key)
                yield genes
        free = [name for name, choices in self._genome.genes.items() if name not in fixed and len(choices) > 1]
        genes = first
        for _ in range(_MOST_CHANGES if free else 0):
            genes = self._changed(genes, free[int(self._rng.integers(len(free)))])
            key = self._key(genes)
            if key not in taken:
                taken.add(key)
                yield genes
                genes = first

    def _changed(self, genes: Genes, name: str) -> Genes:
        others = [value for value in self._genome.genes[name] if value != genes[name]]
        return {**genes, name: others[int(self._rng.integers(len(others)))]}

    def _known(self, study: Study, trial: FrozenTrial) -> set[str]:
        """Return the keys of the networks of all other trials: finished, failed, running and queued ones."""
        return {
            network.key
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and (network := self._networks.of(other)) is not None
        }

    def _key(self, genes: Mapping[str, Any]) -> str:
        return self._genome.decode(genes).key
