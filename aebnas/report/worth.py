"""Whether the exits of a point are worth having: the point beside the static networks of its front, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from aebnas.branches.spec import FP32
from aebnas.costs.kinds import COSTS, ENERGY, LATENCY, MACS, TAIL
from aebnas.errors import RunError
from aebnas.report.describe import number, percent
from aebnas.report.front import Front, Row
from aebnas.report.uncertainty import Uncertainty
from aebnas.run import BACKBONE_ID, Run

# Where so many leave at one exit, a network is nearly the one that is cut off there.
NEARLY_ALL = 0.99
# Relative differences of a cost that are none: other images move a mean by as much, and other ways to write a file.
_SAME_COST = 0.03
# Of these they may be more: they are measured, and vary with the machine.
_MEASURED = (LATENCY, TAIL, ENERGY)
# Half a 95 % interval is so many standard errors.
_ERRORS = 1.96
_SPLITS = {"test": "accuracy_test", "validation": "accuracy_val"}


def worth_of_exits(run: Run, point_id: str | None = None) -> str | None:
    """Say it where a point of ``run`` is nearly a static network, or no better than one; None where it is better.

    Args:
        point_id: Which point; the default pick if None.

    Raises:
        RunError: there is no front yet, or it is damaged.
    """
    front = Front.of(run)
    point = next((row for row in front.rows if row["id"] == point_id), front.pick)
    try:
        summary = run.summary()
    except RunError:
        summary = {}  # without it nothing is known of noise
    return beside_static(front, point, Uncertainty.of(run.experiment, summary, None), summary)


def say_worth(run: Run, console: Console, point_id: str | None = None) -> None:
    """Print on ``console`` what :func:`worth_of_exits` says, if anything."""
    sentence = worth_of_exits(run, point_id)
    if sentence is not None:
        console.print(Text(sentence, style="yellow"), soft_wrap=True)


def beside_static(front: Front, point: Row, sure: Uncertainty, summary: Mapping[str, Any]) -> str | None:
    """Return what must be known of ``point`` beside the static networks of ``front``, in a sentence; None if nothing.

    A static network is as good where, on every split that both were scored on, it is less accurate by no more than a
    standard error; where every cost that is an objective, the target or a limit is higher by no more than 3 %, or, of
    one that is measured, than the machine varies by; and where it keeps the limits.
    """
    if point["static"]:
        if point is not front.pick:
            return None  # whoever names it knows what it is
        return f"No network that leaves early is better here than the static ones: the pick, {point['id']}, is one."
    rival = _as_good(front, point, sure, summary)
    share = max(point["exit_shares"])
    if share >= NEARLY_ALL:
        return _nearly(front, point, share, rival)
    if rival is None:
        return None
    return (
        f"The static network {_named(rival)}, is as good as {point['id']} within noise "
        f"({_figures(rival, point, front)}) and needs no early exit: export it with --pick {rival['id']}."
    )


def _nearly(front: Front, point: Row, share: float, rival: Row | None) -> str:
    """Return what is said of a point at one of whose exits nearly all samples leave.

    Args:
        rival: A static network that is as good.
    """
    place = point["exit_shares"].index(share)
    is_final = place == len(point["exits"])
    where = "the final exit" if is_final else str(point["exits"][place]["attach"])
    most = f"{math.floor(1000 * share) / 10:.1f} % of the validation samples leave {point['id']} at {where}"
    if rival is not None:
        return (
            f"{most}, so that it is nearly a static network, and {_named(rival)}, is as good within noise "
            f"({_figures(rival, point, front)}): export it with --pick {rival['id']}."
        )
    twin = _twin(front, point, place)
    if twin is None:
        what = "its backbone without a branch" if is_final else "the backbone cut off there"
        return f"{most}: it is nearly a static network, {what}."
    return f"{most}: it is nearly the static network {_named(twin)} ({_figures(twin, point, front)})."


def _as_good(front: Front, point: Row, sure: Uncertainty, summary: Mapping[str, Any]) -> Row | None:
    """Return the most accurate static network that is as good as ``point``, the cheapest of several."""
    latency = summary.get("latency")
    noise_pct = latency.get("noise_pct") if isinstance(latency, dict) else None
    found = [
        (row["accuracy_val"], -costs[0][0], row)
        for row in front.statics
        if front.allows(row)
        and (costs := _as_cheap(row, point, front, (noise_pct or 0.0) / 100))
        and _as_accurate(row, point, sure)
    ]
    return max(found, key=lambda one: one[:2])[2] if found else None


def _as_cheap(row: Row, point: Row, front: Front, noise: float) -> list[tuple[float, float]]:
    """Return what both cost, cost by cost; nothing where ``row`` is dearer by any of them, or something is not known.

    Args:
        noise: Relative, of what is measured.
    """
    found = []
    for name in _names(front):
        costs = _costs(name, row, point)
        slack = max(_SAME_COST, noise) if name in _MEASURED else _SAME_COST
        if costs is None or costs[0] > costs[1] * (1 + slack):
            return []
        found.append(costs)
    return found


def _as_accurate(row: Row, point: Row, sure: Uncertainty) -> bool:
    for split, column in _SPLITS.items():
        accuracy, other = point[column], row[column]
        if accuracy is not None and other is not None:
            half = sure.half(accuracy, split)
            if other < accuracy - (half or 0.0) / _ERRORS:
                return False
    return True


def _names(front: Front) -> tuple[str, ...]:
    """Return the names of the costs that count, the one that the front is drawn over first."""
    return front.costs or (MACS,)


def _speedups(name: str, row: Row, point: Row) -> tuple[float, float] | None:
    """Return by how much both are faster than the backbone, where that is the cost and was measured of both."""
    one, other = row.get("speedup_measured"), point.get("speedup_measured")
    return (one, other) if name == LATENCY and one and other else None


def _costs(name: str, row: Row, point: Row) -> tuple[float, float] | None:
    """Return what both cost, by the best that is known of both; None where that is nothing."""
    speedups = _speedups(name, row, point)
    if speedups is not None:
        # Each was measured in turns with the backbone: their ratios compare better than their milliseconds.
        return 1 / speedups[0], 1 / speedups[1]
    for column in (COSTS[name].measured, COSTS[name].column):
        if column is not None and row.get(column) is not None and point.get(column) is not None:
            return row[column], point[column]
    return None


def _twin(front: Front, point: Row, place: int) -> Row | None:
    """Return the static network that ends as ``point`` does at ``place``, with its weights, in its precision."""
    precision = point.get("precision", FP32)
    alike = (row for row in front.statics if row.get("precision", FP32) == precision)
    return next((row for row in alike if _same_weights(row, point, place)), None)


def _same_weights(row: Row, point: Row, place: int) -> bool:
    cut = row.get("cut")
    if place == len(point["exits"]):
        # Where the backbone moved, it ends with other weights than the static one.
        return cut is None and "network" not in point.get("weights", {})
    mine = _weights_of(point, place)
    return cut is not None and mine is not None and mine == _weights_of(row, cut)


def _weights_of(row: Row, place: int) -> tuple[str, int] | None:
    """Return what names the weights up to the end of the branch at ``place``; None where nothing does."""
    weights = row.get("weights", {})
    if "network" in weights:
        return weights["network"], place
    # Of a branch that was trained alone it does not matter which others the network has.
    keys = weights.get("branches", [])
    return (keys[place], 0) if place < len(keys) else None


def _named(row: Row) -> str:
    if row.get("cut") is not None:
        return f"{row['id']}, the backbone cut off at {row['exits'][row['cut']]['attach']}"
    what = "as it was" if row["id"] == BACKBONE_ID else f"the backbone in {row.get('precision', FP32)}"
    return f"{row['id']}, {what}"


def _figures(row: Row, point: Row, front: Front) -> str:
    """Return the accuracy and the cost of a static network against those of ``point``."""
    split = "test" if row["accuracy_test"] is not None and point["accuracy_test"] is not None else "validation"
    column = _SPLITS[split]
    parts = [f"{percent(row[column])} % against {percent(point[column])} % on {split}"]
    name = _names(front)[0]
    speedups, costs, kind = _speedups(name, row, point), _costs(name, row, point), COSTS[name]
    if speedups is not None:
        parts.append(f"{speedups[0]:.2f}x against {speedups[1]:.2f}x as fast as the backbone")
    elif costs is not None:
        parts.append(f"{' against '.join(number(cost / kind.scale) for cost in costs)} {kind.unit}")
    return ", ".join(parts)
