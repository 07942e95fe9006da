"""Accuracy against mean cost: the front, its finalists, and the static networks they must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from aebnas.costs.kinds import COSTS, LATENCY, MACS, MEMORY, SIZE
from aebnas.exits.accuracy import accuracy_name
from aebnas.exits.dominance import nondominated
from aebnas.report.describe import number, percent, times
from aebnas.report.front import Front, Row
from aebnas.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    SKY,
    SMALL,
    TEXT,
    TITLE,
    VERMILION,
    new_figure,
    say_instead,
    tidy,
)

# Far less accurate points would squeeze all that matters into a corner.
_DEPTH_PCT = 10.0
_HALO = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
_PICK, _FINALIST, _TRUNCATED, _BACKBONE = "default pick", "finalist", "other static network", "backbone (static)"


@dataclass(frozen=True)
class Mark:
    """How one kind of point looks."""

    shape: str
    color: str
    size: float

    def style(self, *, filled: bool) -> dict[str, Any]:
        """Return it as matplotlib's line properties."""
        face = self.color if filled else "white"
        return {
            "marker": self.shape,
            "color": self.color,
            "markersize": self.size,
            "markerfacecolor": face,
            "markeredgewidth": 1.4,
        }


_MARKS = {
    _PICK: Mark("D", GREEN, 11),
    _FINALIST: Mark("o", BLUE, 10),
    _TRUNCATED: Mark("^", VERMILION, 6),
    _BACKBONE: Mark("s", BLACK, 9),
}


@dataclass(frozen=True)
class CostAxis:
    """A cost as the horizontal axis.

    Args:
        unit: How much of the cost is 1 on the axis.
        measured: Column of what was measured end to end, where there is such a thing.
    """

    label: str
    symbol: str
    predicted: str
    measured: str | None = None
    unit: float = 1.0

    def value(self, row: Row, *, measured: bool) -> float | None:
        """Return the cost of a row on this axis, or None."""
        column = self.measured if measured else self.predicted
        value = None if column is None else row[column]
        return None if value is None else value / self.unit

    def best_known(self, row: Row) -> float | None:
        """Return what was measured, or else what is predicted."""
        value = self.value(row, measured=True)
        return self.value(row, measured=False) if value is None else value


def axis_of(name: str) -> CostAxis:
    """Return the axis of the cost called ``name``."""
    kind = COSTS[name]
    of_what = "of the file" if name in (SIZE, MEMORY) else "per image (batch 1)"
    label = f"{kind.label} {of_what}, {'millions' if name == MACS else kind.unit}"
    return CostAxis(label, kind.unit, kind.column, kind.measured, kind.scale)


def pareto_figure(front: Front, axis: CostAxis) -> Figure:
    """Return two panels, validation and test accuracy over the cost of ``axis``."""
    figure = new_figure(11.0, 5.2)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, split, column in ((left, "validation", "accuracy_val"), (right, "test", "accuracy_test")):
        _panel(axes, front, axis, column)
        axes.set_title(f"{split} {accuracy_name(front.accuracy)}\n", fontsize=TITLE)
        text = _pick_text(front, axis, column)
        axes.text(
            0.5,
            1.02,
            text,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=GREEN,
            in_layout=False,
        )
        axes.set_xlabel(axis.label, fontsize=TEXT)
    left.set_ylabel(f"{accuracy_name(front.accuracy)}, %", fontsize=TEXT)
    _scale(left, front, axis)
    for axes, column in ((left, "accuracy_val"), (right, "accuracy_test")):
        _note_below(axes, front, column)
    if not front.knows("accuracy_test"):
        say_instead(right, "No point was scored on the test split.")
    handles = _legend(front, axis)
    columns = 4 if len(handles) > 5 else 5
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
    return figure


def _legend(front: Front, axis: CostAxis) -> list[Line2D]:
    """Explain marks, and open against filled ones where both are drawn."""
    shown = [
        (_PICK, [front.pick]),
        (_FINALIST, _other_finalists(front)),
        (_TRUNCATED, front.truncated),
        (_BACKBONE, front.statics),
    ]
    handles = [Line2D([], [], color=SKY, marker=".", markersize=8, label="front, predicted")]
    handles += [_key(_MARKS[name], name) for name, rows in shown if rows]
    if any(axis.value(row, measured=True) is not None for row in front.rows):
        grey = Mark("o", GREY, 8)
        handles += [_key(grey, "open: predicted", filled=False), _key(grey, "filled: measured")]
    return handles


def _other_finalists(front: Front) -> list[Row]:
    return [row for row in front.finalists if row is not front.pick]


def _key(mark: Mark, label: str, *, filled: bool = True) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, **mark.style(filled=filled))


def _panel(axes: Axes, front: Front, axis: CostAxis, column: str) -> None:
    tidy(axes)
    if column == "accuracy_val":
        _front_line(axes, front, axis)
    base = front.backbone[column]
    if base is not None:
        axes.axhline(100 * base, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    _points(axes, [front.backbone], axis, column, _BACKBONE)
    _points(axes, _other_finalists(front), axis, column, _FINALIST)
    _points(axes, [front.pick], axis, column, _PICK)
    # Small, and above all else: one that is as good as a finalist must not hide behind it.
    _points(axes, front.truncated, axis, column, _TRUNCATED)


def _front_line(axes: Axes, front: Front, axis: CostAxis) -> None:
    known = [(axis.value(row, measured=False), row["accuracy_val"]) for row in front.early]
    points = np.array([(cost, 100 * accuracy) for cost, accuracy in known if cost is not None])
    if not len(points):
        return
    right = np.round(points[:, 1] * 10_000).astype(np.int64)
    line = points[np.asarray(nondominated(right, points[:, :1].T))]
    line = line[np.argsort(line[:, 0], kind="stable")]
    axes.plot(points[:, 0], points[:, 1], ".", color=SKY, markersize=6 if len(points) < 60 else 4, zorder=2)
    axes.step(line[:, 0], line[:, 1], where="post", color=SKY, linewidth=1.6, zorder=2)


def _points(axes: Axes, rows: Sequence[Row], axis: CostAxis, column: str, name: str) -> None:
    """Draw predicted costs open and measured ones filled, each pair joined; filled alone where nothing is measured."""
    mark = _MARKS[name]
    measurable = any(axis.value(row, measured=True) is not None for row in rows)
    for row in rows:
        if row[column] is None:
            continue
        y = 100 * row[column]
        predicted, measured = axis.value(row, measured=False), axis.value(row, measured=True)
        if predicted is not None and measured is not None:
            axes.plot([predicted, measured], [y, y], color=mark.color, linewidth=1.0, alpha=0.7, zorder=3)
        for value, filled in ((predicted, not measurable), (measured, True)):
            if value is not None:
                style = mark.style(filled=filled)
                axes.plot(value, y, linestyle="none", label=f"_{row['id']}", zorder=4, **style)


def _pick_text(front: Front, axis: CostAxis, column: str) -> str:
    """Return the default pick's figures in one line."""
    pick, cost, base = front.pick, axis.best_known(front.pick), front.backbone[column]
    if pick[column] is None or cost is None:
        return f"{_PICK} {pick['id']}: not known"
    difference = "" if base is None else f" ({100 * (pick[column] - base):+.2f})"
    figures = f"{percent(pick[column])} %{difference}, {number(cost)} {axis.symbol}, {_saving(front, axis)}"
    return f"{_PICK} {pick['id']}: {figures}"


def _saving(front: Front, axis: CostAxis) -> str:
    """Say how much less the pick costs than the backbone, preferring what was measured in turns with it."""
    speedup = front.pick.get("speedup_measured")
    if axis.measured == COSTS[LATENCY].measured and speedup is not None:
        return f"{times(speedup)} as fast"
    own, base = axis.value(front.pick, measured=False), axis.value(front.backbone, measured=False)
    if not own or not base:
        return "saving unknown"
    return f"{times(base / own)} cheaper" if base >= own else f"{times(own / base)} the backbone's"


def _scale(axes: Axes, front: Front, axis: CostAxis) -> None:
    rows = front.rows
    costs = [value for row in rows for m in (False, True) if (value := axis.value(row, measured=m)) is not None]
    positive = [cost for cost in costs if cost > 0]
    if positive and max(positive) / min(positive) > 3:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 1.15, max(positive) * 1.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(f"{axis.label}, log scale")
        axes.figure.axes[1].set_xlabel(f"{axis.label}, log scale")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    low, high = _range(front)
    margin = max(0.06 * (high - low), 0.2)
    axes.set_ylim(low - 1.5 * margin, min(high + margin, 100 + margin))


def _range(front: Front) -> tuple[float, float]:
    """Return the accuracies in % to show: every finalist, and others down to some points below the backbone."""
    found = [
        100 * row[name] for row in front.rows for name in ("accuracy_val", "accuracy_test") if row[name] is not None
    ]
    must = [
        100 * row[name]
        for row in [front.backbone, front.pick, *front.finalists]
        for name in ("accuracy_val", "accuracy_test")
        if row[name] is not None
    ]
    floor = 100 * front.backbone["accuracy_val"] - _DEPTH_PCT
    return min([*must, *(value for value in found if value >= floor)]), max(found)


def _note_below(axes: Axes, front: Front, column: str) -> None:
    low = axes.get_ylim()[0]
    hidden = [row for row in front.rows if row[column] is not None and 100 * row[column] < low]
    if hidden:
        lowest = min(100 * row[column] for row in hidden)
        text = f"↓ {len(hidden)} below, down to {lowest:.0f} %"
        axes.text(0.015, 0.03, text, transform=axes.transAxes, fontsize=SMALL, color=GREY, bbox=_HALO)
