"""The numbers of one network on one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.by_class import ClassFigures, by_class
from aebnas.exits.diagnostics import NetworkDiagnostics, Outcomes, diagnose_exits
from aebnas.exits.oracle import OracleCurve, OracleGap, oracle_curve, oracle_gap


@dataclass(frozen=True)
class SplitDiagnosis:
    """One split; costs are MACs.

    Args:
        network: The numbers of network and exits.
        macs_mean: Of the policy.
        oracle: What could be had from these exits.
        gap: What the policy is short of it.
        classes: What the policy does with every class.
        outcomes: What the numbers were made of.
    """

    network: NetworkDiagnostics
    macs_mean: float
    oracle: OracleCurve
    gap: OracleGap
    classes: tuple[ClassFigures, ...]
    outcomes: Outcomes

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        oracle = {"macs": list(self.oracle.costs), "accuracy": list(self.oracle.accuracies)}
        return {
            **self.network.to_json(),
            "macs_mean": self.macs_mean,
            "oracle": {
                "accuracy": self.gap.accuracy,
                "macs_mean": self.gap.cost,
                "accuracy_missed": self.gap.accuracy_missed,
                "macs_excess": self.gap.cost_excess,
                "curve": oracle,
            },
            # A diagnosis measures no time, and asks no static backbone.
            "classes": [
                {"label": one.label, "name": one.name, "samples": one.samples, "recall": one.recall}
                | {"exit_shares": None if one.exit_shares is None else list(one.exit_shares)}
                for one in self.classes
            ],
        }


def diagnose_split(
    outcomes: Outcomes,
    macs: NDArray[np.float64],
    exponents: Sequence[float | None],
    classes: Sequence[str] | None = None,
) -> SplitDiagnosis:
    """Return the diagnosis of ``outcomes``.

    Args:
        macs: Of leaving at each exit, (E,).
        exponents: One per exit, fitted on validation.
        classes: Their names; None: their numbers.
    """
    network = diagnose_exits(outcomes, exponents)
    macs_mean = float(macs @ [exit_.share for exit_ in network.exits])
    oracle = oracle_curve(outcomes.correct, macs, outcomes.weights)
    gap = oracle_gap(oracle, network.accuracy, macs_mean)
    right = outcomes.correct[outcomes.exits, np.arange(len(outcomes.truth))]
    if classes is None:
        classes = [str(label) for label in range(int(outcomes.truth.max()) + 1)]
    every = by_class(classes, outcomes.truth, right, outcomes.exits, len(macs))
    return SplitDiagnosis(network, macs_mean, oracle, gap, every, outcomes)
