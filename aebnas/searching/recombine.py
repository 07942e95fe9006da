"""Networks of branches that are trained already: all that such a trial takes is the tuning of thresholds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from aebnas.branches.spec import NO_CASCADE, NetworkSpec
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.evaluation import Evaluation
from aebnas.searching.networks import Networks
from aebnas.searching.study import RECOMBINED
from aebnas.spaces.genome import OFF, ON, Genome
from aebnas.training.regimes import REGIMES

Genes = dict[str, Any]
# Networks that are drawn before all that can be made of what is known counts as tried.
_MOST_DRAWS = 64


@dataclass(frozen=True)
class _Part:
    """A trained branch: its genes, by their names at its attach point, and the static network that ends there."""

    genes: Mapping[str, str]
    accuracy: float
    cost: float


class Recombiner:
    """Puts branches that earlier trials have trained together in new networks (our variant).

    Where branches are trained each by itself on a frozen backbone, a network of known ones trains nothing. Crossover
    does much the same by chance, but in a space of this size nearly every child has branches that nobody has trained.
    A network takes as many attach points as it may have exits, drawn at random, and at each of them one of the branches
    that are not dominated there, as static networks that end at them, in validation accuracy and cost. Thresholds are
    tuned for every subset of its exits, so fewer exits are tried with it. Settings of the whole network are those of
    one of the trials that had the branches.

    Args:
        cost: Name of the cost that branches are held against each other by.
        each: Such trials for each one of another kind.
    """

    def __init__(self, genome: Genome, cost: str, each: int, seed: int) -> None:
        self._genome, self._cost, self._each, self._seed = genome, cost, each, seed
        self._networks = Networks(genome)

    def next(self, trials: Sequence[FrozenTrial], evaluations: Mapping[str, Evaluation]) -> Genes | None:
        """Return the genes and the trade-off of a new network; None: something else is to be tried, or nothing is new.

        Args:
            trials: All of the study.
            evaluations: By the keys of their networks.
        """
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        owed = self._each * sum(RECOMBINED not in trial.user_attrs for trial in done)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if waiting or sum(RECOMBINED in trial.user_attrs for trial in trials) >= owed:
            return None
        known = [
            (trial, network)
            for trial in done
            if (network := self._networks.of(trial)) is not None and _is_free(network.spec)
        ]
        if not known:
            return None
        rng = np.random.default_rng([self._seed, len(trials)])
        model, chosen = known[int(rng.integers(len(known)))]
        settings = _settings(chosen.spec)
        alike = [(trial, evaluations.get(own.key)) for trial, own in known if _settings(own.spec) == settings]
        parts = {
            point: _best(found)
            for point, found in self._parts([(trial.params, found) for trial, found in alike if found]).items()
        }
        taken = {network.key for trial in trials if (network := self._networks.of(trial)) is not None}
        for genes in self._drawn(parts, model.params, rng):
            if self._genome.decode(genes).key not in taken:
                return {**genes, TRADE_OFF: float(rng.random())}
        return None

    def _parts(self, known: Sequence[tuple[Mapping[str, Any], Evaluation]]) -> dict[int, list[_Part]]:
        """Return the branches by the number of their attach point, those left out whose training was stopped."""
        found: dict[int, list[_Part]] = defaultdict(list)
        for genes, evaluation in known:
            on = [number for number in range(len(self._genome.points)) if genes[f"exit{number}"] == ON]
            for number, static, stopped in zip(on, evaluation.truncated, evaluation.epochs, strict=False):
                if stopped is None:
                    own = {name: genes[name] for name in self._names(number)}
                    found[number].append(_Part(own, static.accuracy, static.costs[self._cost]))
        return found

    def _drawn(
        self, parts: Mapping[int, Sequence[_Part]], model: Mapping[str, Any], rng: np.random.Generator
    ) -> Iterator[Genes]:
        count = min(self._genome.max_exits, len(parts))
        for _ in range(_MOST_DRAWS if count else 0):
            genes = {name: model[name] for name in self._genome.genes}
            genes |= {f"exit{number}": OFF for number in range(len(self._genome.points))}
            for number in rng.choice(sorted(parts), size=count, replace=False).tolist():
                genes |= parts[number][int(rng.integers(len(parts[number])))].genes
            yield genes

    def _names(self, number: int) -> Iterator[str]:
        exit_ = f"exit{number}"
        return (name for name in self._genome.genes if name == exit_ or name.startswith(f"{exit_}_"))


def _is_free(spec: NetworkSpec) -> bool:
    """Tell whether the branches of ``spec`` are trained each by itself."""
    return bool(spec.branches) and REGIMES[spec.regime].kind == "alone" and spec.cascade == NO_CASCADE


def _settings(spec: NetworkSpec) -> Any:
    """Return what networks have in common whose branches are trained in the same way."""
    return spec.regime, spec.options


def _best(parts: Sequence[_Part]) -> list[_Part]:
    """Return those that no other is at least as accurate as at no more cost."""
    found: list[_Part] = []
    for part in sorted(parts, key=lambda part: (part.cost, -part.accuracy)):
        if not found or part.accuracy > found[-1].accuracy:
            found.append(part)
    return found
