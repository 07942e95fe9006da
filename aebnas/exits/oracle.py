"""The oracle: what could be had if every sample left at the first exit that is right about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OracleCurve:
    """The highest accuracy of any way to leave, by mean cost; straight lines join the corners.

    Corner k: samples leave at the first exit up to k that is right, and at exit 0 if none of those is. Every sample
    that goes on earns one right prediction, so whoever may send only a few sends those for whom it costs least. Where
    samples count differently, corners are those of sending the ones that earn most for the cost first.

    Attributes:
        costs: Mean cost of each corner, (corners,), not falling.
        accuracies: (corners,), not falling; the last corner is the oracle without a limit.
    """

    costs: tuple[float, ...]
    accuracies: tuple[float, ...]

    def accuracy_at(self, cost: float) -> float:
        """Return the highest accuracy within a mean ``cost``; that of exit 0 below its cost."""
        return float(np.interp(cost, self.costs, self.accuracies))

    def cost_at(self, accuracy: float) -> float:
        """Return the lowest mean cost with ``accuracy``; that of the last corner beyond what it reaches."""
        return float(np.interp(accuracy, self.accuracies, self.costs))


@dataclass(frozen=True)
class OracleGap:
    """How far a policy is from the oracle.

    Attributes:
        accuracy: Of the oracle without a limit, 0 to 1.
        cost: Its mean cost.
        accuracy_missed: What the oracle has at the policy's mean cost beyond the policy's accuracy.
        cost_excess: The policy's mean cost beyond that of the oracle at the policy's accuracy.
    """

    accuracy: float
    cost: float
    accuracy_missed: float
    cost_excess: float

    def to_json(self) -> dict[str, Any]:
        """Return the gap as plain values."""
        return asdict(self)


def oracle_curve(
    correct: NDArray[np.bool_], costs: NDArray[np.floating[Any]], weights: NDArray[np.int64] | None = None
) -> OracleCurve:
    """Return the oracle of exits that are right as in ``correct`` (E, N).

    Args:
        correct: Of the exits that are on, the final one last.
        costs: Of leaving at each exit, (E,), not falling.
        weights: What each sample counts in the accuracy, whole numbers (N,); None: 1. Costs are means all the same.

    Raises:
        ValueError: there are no samples, or a cost is lower than that of an earlier exit.
    """
    if not correct.shape[1] or np.shape(costs) != (len(correct),) or (np.diff(costs) < 0).any():
        raise ValueError(f"an oracle needs samples and costs that do not fall: {correct.shape} samples, costs {costs}")
    if weights is not None:
        return _weighted(correct, np.asarray(costs, dtype=np.float64), weights)
    reached = np.maximum.accumulate(correct, axis=0).mean(axis=1)
    gained = np.diff(reached, prepend=0.0)
    spent = costs[0] + np.cumsum(gained * (costs - costs[0]))
    return OracleCurve(tuple(map(float, spent)), tuple(map(float, reached)))


def _weighted(correct: NDArray[np.bool_], costs: NDArray[np.float64], weights: NDArray[np.int64]) -> OracleCurve:
    first = np.where(correct.any(axis=0), correct.argmax(axis=0), 0)
    # Those who are right at exit 0, or nowhere, stay there; others alike in exit and weight go together.
    kinds, counts = np.unique(np.stack([first, weights])[:, first > 0], axis=1, return_counts=True)
    extra = costs[kinds[0]] - costs[0]
    order = np.argsort(extra / kinds[1], kind="stable")
    won = np.cumsum(np.append(weights[correct[0]].sum(), (kinds[1] * counts)[order]))
    spent = costs[0] + np.append(0.0, np.cumsum((extra * counts)[order])) / len(weights)
    return OracleCurve(tuple(spent.tolist()), tuple((won / weights.sum()).tolist()))


def oracle_gap(curve: OracleCurve, accuracy: float, cost: float) -> OracleGap:
    """Return how far a policy with ``accuracy`` and mean ``cost`` is from ``curve``."""
    return OracleGap(
        accuracy=curve.accuracies[-1],
        cost=curve.costs[-1],
        accuracy_missed=max(0.0, curve.accuracy_at(cost) - accuracy),  # nothing beats it but by rounding
        cost_excess=max(0.0, cost - curve.cost_at(accuracy)),
    )
