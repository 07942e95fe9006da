"""When training stops before its end: what cannot reach the front any more is left as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from aebnas.branches.spec import NetworkSpec
from aebnas.searching.evaluation import Evaluation, StaticPoint

# Number of a branch (or exit) in its network, epochs done, its validation accuracy after the last -> go on?
Watch = Callable[[int, int, float], bool]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """Compares what a branch may still become with what finished ones are.

    A branch is, on its own, a static network: the backbone cut off there. After epoch ``e``, with ``a`` the best
    accuracy it has had, it stops if

        ``a + gain + slack <= accuracy of f``,    ``slack = extra + deviations * sqrt(a * (1 - a) / samples)``

    for some static network ``f`` that costs no more in any of the costs that count (objectives, limits, target). The
    backbone is such an ``f``, and so is every branch of an evaluation, with the accuracy it was left with. ``gain`` is
    the greatest that was seen from epoch ``e`` to the end in those finished branches of the same training settings that
    stood no lower than ``a`` after epoch ``e``, since what stands higher gains less; there must be ``fewest`` of them.

    A network that trains as a whole stops once all its exits would. Branches that are trained in the order of their
    attach points, or hear each other, and the full budget of finalists are never stopped. Extrapolating learning curves
    (Domhan et al. 2015) has the same end; this needs no model of them, and minds several costs.

    Where the accuracy is balanced, the root is that of :func:`~aebnas.exits.accuracy.largest_deviation` instead: of the
    few samples of a rare class, every one counts for more.

    The slack is there because a dominated branch may still serve in a network beside others, the more so the nearer it
    is to what dominates it, and because an accuracy on few validation samples is not known better.

    Args:
        extra: Accuracy (0 to 1) that a branch is given on top.
        deviations: Standard deviations of an accuracy on the validation samples that it is given besides.
        fewest: Finished branches without which nothing is said.
    """

    extra: float = 0.01
    deviations: float = 3.0
    fewest: int = 5


class Ledger:
    """What finished branches cost, reached and gained; says which others are hopeless.

    Args:
        names: The costs that count; a search's :func:`~aebnas.searching.choice.wanted_costs`.
        backbone: The static backbone, which is finished.
        samples: In the validation split.
        deviation: Accuracy -> the standard deviation that it has, where it is not a plain one on so many samples.
    """

    def __init__(
        self,
        names: Sequence[str],
        backbone: StaticPoint,
        samples: int,
        rule: Rule = Rule(),
        *,
        deviation: Callable[[float], float] | None = None,
    ) -> None:
        self._names, self._samples, self._rule = tuple(names), samples, rule
        self._deviation = deviation or self._plain_deviation
        self._costs, self._accuracies = [self._row(backbone.costs)], [backbone.accuracy]
        # Best accuracy so far after each epoch, of every finished branch, by its training settings and its own key.
        self._curves: dict[Any, dict[str, Sequence[float]]] = {}
        self._seen: set[Any] = set()

    def add(self, evaluation: Evaluation) -> None:
        """Take in an evaluation; one that is in already changes nothing, but for what was trained further since."""
        known = (evaluation.spec.key, evaluation.epochs)
        if evaluation.budget != "search" or evaluation.failure is not None or known in self._seen:
            return
        self._seen.add(known)
        for static in evaluation.truncated:
            self._costs.append(self._row(static.costs))
            self._accuracies.append(static.accuracy)
        curves = self._curves.setdefault(_settings(evaluation.spec), {})
        for key, curve, epochs in zip(_keys(evaluation), evaluation.curves, evaluation.epochs, strict=False):
            if epochs is None:
                curves[key] = list(accumulate(curve, max))

    def hopeless(self, spec: NetworkSpec, costs: Mapping[str, float], curve: Sequence[float]) -> bool:
        """Tell whether a branch of ``spec`` is to stop.

        Args:
            costs: Of the static network that ends there, by name.
            curve: Its validation accuracy after each epoch so far.
        """
        best = max(curve)
        gain = self._gain(_settings(spec), len(curve), best)
        if gain is None:
            return False
        cheaper = (np.array(self._costs) <= self._row(costs)).all(axis=1)
        slack = self._rule.extra + self._rule.deviations * self._deviation(best)
        return bool(np.array(self._accuracies)[cheaper].max(initial=0.0) >= best + gain + slack)

    def watch(self, spec: NetworkSpec, costs: Sequence[Mapping[str, float]]) -> Watch:
        """Return what is asked after every epoch of a training of ``spec``.

        Args:
            costs: Of the static networks that end at each of its exits.
        """
        best: dict[int, float] = {}

        def go_on(number: int, epochs: int, accuracy: float) -> bool:
            best[number] = max(accuracy, best.get(number, 0.0))
            # All that counts of a curve is its length and its best.
            return not self.hopeless(spec, costs[number], [best[number]] * epochs)

        return go_on

    def _plain_deviation(self, accuracy: float) -> float:
        return math.sqrt(accuracy * (1 - accuracy) / self._samples)

    def _gain(self, settings: Any, epochs: int, accuracy: float) -> float | None:
        """Return the greatest gain of those that stood no lower than ``accuracy``; None: too few of them."""
        finished = self._curves.get(settings, {}).values()
        # One that ran out of patience gained nothing more.
        stood = [(curve[min(epochs, len(curve)) - 1], curve[-1]) for curve in finished if curve]
        gains = [end - now for now, end in stood if now >= accuracy]
        return max(gains) if len(gains) >= self._rule.fewest else None

    def _row(self, costs: Mapping[str, float]) -> Floats:
        return np.array([costs[name] for name in self._names])


def _settings(spec: NetworkSpec) -> Any:
    """Return what branches must share for their learning curves to be alike."""
    return spec.regime, spec.options, spec.cascade


def _keys(evaluation: Evaluation) -> list[str]:
    """Return a key for each curve of an evaluation; a branch has the same in every network."""
    weights = evaluation.weights
    if "network" in weights:
        return [f"{weights['network']}-{number}" for number in range(len(evaluation.curves))]
    return list(weights["branches"])
