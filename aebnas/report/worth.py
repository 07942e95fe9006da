"""Whether the exits of a point are worth having: the point beside the static networks of its front, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from aebnas.costs.kinds import COSTS, LATENCY, MACS
from aebnas.errors import RunError
from aebnas.report.describe import number, percent
from aebnas.report.front import Front, Row
from aebnas.report.uncertainty import Uncertainty
from aebnas.run import BACKBONE_ID, Run

# Where so many leave at one exit, a network is nearly the one that is cut off there.
NEARLY_ALL = 0.99
# Relative differences of a cost that are none, at least: what a machine varies by may be more.
_SAME_COST = 0.03
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
    standard error, and where it costs no more than the machine varies by. The cost is the one the front is drawn over.
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
    twin = front.backbone if is_final else _cut_at(front, point, place)
    if twin is None:
        return f"{most}: it is nearly a static network, the backbone cut off there."
    return f"{most}: it is nearly the static network {_named(twin)} ({_figures(twin, point, front)})."


def _as_good(front: Front, point: Row, sure: Uncertainty, summary: Mapping[str, Any]) -> Row | None:
    """Return the most accurate static network that is as good as ``point``, the cheapest of several."""
    latency = summary.get("latency")
    noise_pct = latency.get("noise_pct") if isinstance(latency, dict) else None
    slack = max(_SAME_COST, (noise_pct or 0.0) / 100)
    found = [
        (row["accuracy_val"], -cost[0], row)
        for row in front.statics
        if (cost := _costs(row, point, front)) is not None
        and cost[0] <= cost[1] * (1 + slack)
        and _as_accurate(row, point, sure)
    ]
    return max(found, key=lambda one: one[:2])[2] if found else None


def _as_accurate(row: Row, point: Row, sure: Uncertainty) -> bool:
    for split, column in _SPLITS.items():
        accuracy, other = point[column], row[column]
        if accuracy is not None and other is not None:
            half = sure.half(accuracy, split)
            if other < accuracy - (half or 0.0) / _ERRORS:
                return False
    return True


def _costs(row: Row, point: Row, front: Front) -> tuple[float, float] | None:
    """Return what both cost, by the best that is known of both; None where that is nothing."""
    name = front.costs[0] if front.costs else MACS
    if name == LATENCY and row.get("speedup_measured") and point.get("speedup_measured"):
        # Each was measured in turns with the backbone: their ratios compare better than their milliseconds.
        return 1 / row["speedup_measured"], 1 / point["speedup_measured"]
    column = COSTS[name].column
    if row.get(column) is None or point.get(column) is None:
        return None
    return row[column], point[column]


def _cut_at(front: Front, point: Row, place: int) -> Row | None:
    """Return the truncated network that ends in the branch at ``place``, or else in another one that hangs there."""
    branch = point["exits"][place]
    there = [
        row
        for row in front.statics
        if row.get("cut") is not None and row["exits"][row["cut"]]["attach"] == branch["attach"]
    ]
    same = [
        row for row in there if row["exits"][row["cut"]] == branch and row.get("precision") == point.get("precision")
    ]
    return next(iter([*same, *there]), None)


def _named(row: Row) -> str:
    if row.get("cut") is not None:
        return f"{row['id']}, the backbone cut off at {row['exits'][row['cut']]['attach']}"
    return f"{row['id']}, {'as it was' if row['id'] == BACKBONE_ID else 'cut off nowhere'}"


def _figures(row: Row, point: Row, front: Front) -> str:
    """Return the accuracy and the cost of a static network against those of ``point``."""
    split = "test" if row["accuracy_test"] is not None and point["accuracy_test"] is not None else "validation"
    column = _SPLITS[split]
    parts = [f"{percent(row[column])} % against {percent(point[column])} % on {split}"]
    name = front.costs[0] if front.costs else MACS
    kind = COSTS[name]
    if name == LATENCY and row.get("speedup_measured") and point.get("speedup_measured"):
        parts.append(f"{row['speedup_measured']:.2f}x against {point['speedup_measured']:.2f}x as fast as the backbone")
    elif row.get(kind.column) is not None and point.get(kind.column) is not None:
        values = (number(one[kind.column] / kind.scale) for one in (row, point))
        parts.append(f"{' against '.join(values)} {kind.unit}")
    return ", ".join(parts)
