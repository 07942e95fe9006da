"""Rows of the front, as `aebnas front` shows them and ``front.json`` keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aebnas.branches.spec import FP32, NO_CASCADE, BranchSpec, NetworkSpec
from aebnas.costs.kinds import KINDS
from aebnas.costs.model import CostModel
from aebnas.exits.curve import OperatingPoint
from aebnas.exits.dominance import nondominated
from aebnas.exits.policy import thresholds_to_json
from aebnas.run import COST_COLUMNS
from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.loop import Archive

Row = dict[str, Any]


def point_row(evaluation: Evaluation, index: int, point: OperatingPoint) -> Row:
    """Return the row of one operating point; what is not known yet is None."""
    return {
        "id": f"{evaluation.id}-{index}",
        "finalist": False,
        "static": False,
        "exits": [branch.to_json() for branch in evaluation.spec.branches],
        "regime": evaluation.spec.regime,
        "confidence": evaluation.spec.confidence,
        "cascade": evaluation.spec.cascade,
        "options": dict(evaluation.spec.options),
        "precision": evaluation.spec.precision,
        "thresholds": thresholds_to_json(point.thresholds),
        "exit_shares": list(point.exit_shares),
        "accuracy_val": point.accuracy,
        "accuracy_test": None,
        **_costs(dict(zip(evaluation.cost_names, point.costs, strict=True))),
        "weights": dict(evaluation.weights),
    }


def static_row(
    name: str,
    static: StaticPoint,
    exits: Sequence[BranchSpec] = (),
    weights: Mapping[str, Any] | None = None,
    *,
    cut: int | None = None,
    precision: str = FP32,
    cascade: str = NO_CASCADE,
) -> Row:
    """Return the row of a static network: the backbone, or with ``cut`` the backbone cut off at that branch.

    ``cascade`` is that of the network whose ``weights`` hold the branch, which itself hears nobody.
    """
    return {
        "id": name,
        "finalist": False,
        "static": True,
        "exits": [branch.to_json() for branch in exits],
        "regime": None,
        "confidence": None,
        "cascade": cascade,
        "options": {},
        "precision": precision,
        "thresholds": [],
        "exit_shares": [1.0],
        "accuracy_val": static.accuracy,
        "accuracy_test": None,
        **_costs(static.costs),
        "weights": dict(weights or {"branches": []}),
        "cut": cut,
    }


def _costs(costs: Mapping[str, float]) -> Row:
    """Return the columns of all kinds of cost: what is predicted, and None for what is not known or measured yet."""
    return {**dict.fromkeys(COST_COLUMNS), **{kind.column: costs.get(kind.name) for kind in KINDS}}


def with_interval(row: Row, costs: CostModel) -> Row:
    """Return ``row`` with the range that its mean latency is expected in, and with where its energy comes from.

    A static network was measured whole, so its latency is no prediction.
    """
    row = {**row, "energy_source": costs.energy_source}
    if row["latency_ms_mean"] is None or row["static"]:
        return row
    low, high = costs.overhead.interval(row["latency_ms_mean"])
    return {**row, "latency_ms_low": low, "latency_ms_high": high}


def front_rows(archive: Archive, limits: CostLimits, costs: Sequence[str]) -> list[Row]:
    """Return the points within the limits that nothing beats, the most accurate last.

    Neither another point of any curve beats them, nor a static network within the limits: the backbone, or a
    truncated one. A point at which all samples leave at the same exit is itself static, and not among them.
    """
    found = [
        (evaluation, index, point)
        for evaluation in archive.evaluations.values()
        for index, point in enumerate(evaluation.curve.points)
        if limits.allowed(evaluation, point)
    ]
    statics = archive.statics()
    right = scaled([*(point.accuracy for _, _, point in found), *(static.accuracy for static in statics)])
    mean = np.array(
        [
            [
                *(evaluation.cost(point, name) for evaluation, _, point in found),
                *(static.costs[name] for static in statics),
            ]
            for name in costs
        ]
    )
    best = nondominated(right, mean)
    return [point_row(*found[i]) for i in best if i < len(found) and exits_early(found[i][2])]


def early_rows(evaluations: Iterable[Evaluation], limits: CostLimits) -> list[Row]:
    """Return every point within the limits at which samples leave early, dominated ones too."""
    return [
        point_row(evaluation, index, point)
        for evaluation in evaluations
        for index, point in enumerate(evaluation.curve.points)
        if exits_early(point) and limits.allowed(evaluation, point)
    ]


def scaled(accuracies: Sequence[float]) -> npt.NDArray[np.int64]:
    """Return accuracies as whole numbers, so that equal ones compare as equal."""
    return np.array([round(accuracy * 1_000_000) for accuracy in accuracies], dtype=np.int64)


def exits_early(point: OperatingPoint) -> bool:
    """Tell whether samples leave at different exits; else the network is as good as a static one."""
    return max(point.exit_shares) < 1.0


def spec_of(row: Row) -> NetworkSpec:
    """Return the network that a row which is not static belongs to."""
    return NetworkSpec.from_json({"branches": row["exits"], **row})


def network_key(row: Row) -> str:
    """Return the key of that network."""
    return spec_of(row).key
