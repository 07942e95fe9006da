"""Accuracy against mean cost of all variants of a comparison, with bands for the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from aebnas.comparing.summary import Summary, VariantSummary
from aebnas.costs.kinds import COSTS
from aebnas.exits.accuracy import accuracy_name
from aebnas.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    SMALL,
    TEXT,
    VERMILION,
    new_figure,
    say_instead,
    tidy,
)

Floats = NDArray[np.float64]
_PURPLE = "#CC79A7"
# Neighbours in the list differ in colour and in line; the eighth variant begins the colours again with other lines.
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, _PURPLE, SKY, BLACK)
_LINES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
_BAND = 0.10
# Far less accurate points would squeeze all that matters into a corner; a part of every curve should be seen, though.
_DEPTH_PCT, _LARGEST_DEPTH_PCT = 5.0, 15.0
_LABEL_LENGTH = 44


def comparison_figure(summary: Summary) -> Figure:
    """Return the curves on test, a legend beside them from the best to the worst area under the curve."""
    shown = [variant for variant in summary.variants if any(variant.curves.values())]
    figure = new_figure(10.5, max(5.0, 1.6 + 0.33 * (len(shown) + 3)))
    axes = figure.subplots()
    if not shown:
        say_instead(axes, "No variant could be trained.")
        return figure
    looks = {variant.name: _look(place) for place, variant in enumerate(shown)}
    for variant in shown:
        _draw(axes, variant, *looks[variant.name])
    _draw_statics(axes, summary)
    _scale(axes, summary, shown)
    ranked = sorted(shown, key=lambda variant: -_area(variant))
    handles = [_handle(variant, *looks[variant.name]) for variant in ranked]
    figure.legend(
        handles=[*handles, *_static_handles(summary)],
        loc="outside right upper",
        fontsize=SMALL,
        frameon=False,
        title="by falling area under the curve",
        title_fontsize=SMALL,
        alignment="left",
        handlelength=3.2,
    )
    kind = COSTS[summary.cost]
    backbone = kind.text(summary.scale.backbone)
    axes.set_xlabel(f"{kind.label} on test, % of the static backbone's ({backbone})", fontsize=TEXT)
    accuracy = accuracy_name(summary.accuracy)
    axes.set_ylabel(f"test {accuracy}, %", fontsize=TEXT)
    seeds = max(len(variant.curves) for variant in shown)
    spread = f"bands: standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    axes.set_title(f"{accuracy} against mean cost, {summary.epochs} epochs each\n{spread}", fontsize=TEXT, loc="left")
    return figure


def _look(place: int) -> tuple[str, object]:
    turn, colour = divmod(place, len(_COLOURS))
    return _COLOURS[colour], _LINES[(turn + colour) % len(_LINES)]


def band(variant: VariantSummary) -> tuple[Floats, Floats, Floats]:
    """Return mean costs and accuracies in per cent, and the accuracies' spread, by rising cost.

    Taken budget by budget over the seeds that meet it; budgets that change nothing are one point.
    """
    rows = []
    for points in zip(*variant.curves.values(), strict=True):
        known = [point for point in points if point is not None]
        if known:
            costs, accuracies = np.array(known).T
            spread = accuracies.std(ddof=1) if len(known) > 1 else 0.0
            rows.append((costs.mean(), accuracies.mean(), spread))
    costs, accuracies, spreads = 100 * np.array(sorted(dict.fromkeys(rows))).T
    return costs, accuracies, spreads


def _draw(axes: Axes, variant: VariantSummary, colour: str, line: object) -> None:
    costs, accuracies, spreads = band(variant)
    axes.fill_between(costs, accuracies - spreads, accuracies + spreads, color=colour, alpha=_BAND, linewidth=0)
    axes.plot(costs, accuracies, color=colour, linestyle=line, linewidth=1.7)
    axes.plot(costs[-1:], accuracies[-1:], color=colour, marker="o", markersize=4)


def _draw_statics(axes: Axes, summary: Summary) -> None:
    for static in summary.statics:
        whole = static.cost >= 1.0
        axes.errorbar(
            100 * static.cost,
            100 * static.accuracy.mean,
            yerr=100 * (static.accuracy.spread or 0.0),
            color=BLACK if whole else GREY,
            marker="s" if whole else "^",
            markersize=8 if whole else 7,
            markerfacecolor=BLACK if whole else "white",
            capsize=2,
            linestyle="none",
            zorder=5,
        )


def _scale(axes: Axes, summary: Summary, shown: Sequence[VariantSummary]) -> None:
    tidy(axes)
    bands = [band(variant) for variant in shown]
    tops = [float((accuracies + spreads).max()) for _, accuracies, spreads in bands]
    tops += [100 * (static.accuracy.mean + (static.accuracy.spread or 0.0)) for static in summary.statics]
    lows = [float((accuracies - spreads).min()) for _, accuracies, spreads in bands]
    lows += [100 * (static.accuracy.mean - (static.accuracy.spread or 0.0)) for static in summary.statics]
    top, areas = max(tops), [100 * _area(variant) for variant in shown]
    low = max(min(lows), min(top - _DEPTH_PCT, *areas), top - _LARGEST_DEPTH_PCT)
    room = 0.04 * (top - low) or 0.5
    axes.set_ylim(low - room, min(100.0, top + room))
    axes.set_xlim(right=max(103.0, axes.get_xlim()[1]))


def _area(variant: VariantSummary) -> float:
    estimate = variant.mean("area")
    return -1.0 if estimate is None else estimate.mean


def _handle(variant: VariantSummary, colour: str, line: object) -> Line2D:
    area = variant.mean("area")
    name = variant.name if len(variant.name) <= _LABEL_LENGTH else f"{variant.name[: _LABEL_LENGTH - 1]}…"
    label = name if area is None else f"{name}  {100 * area.mean:.2f}"
    return Line2D([], [], color=colour, linestyle=line, linewidth=1.7, label=label)  # type: ignore[arg-type]


def _static_handles(summary: Summary) -> list[Line2D]:
    whole = Line2D([], [], color=BLACK, marker="s", markersize=8, linestyle="none", label="static backbone")
    cut = Line2D(
        [],
        [],
        color=GREY,
        marker="^",
        markersize=7,
        markerfacecolor="white",
        linestyle="none",
        label="truncated, static",
    )
    known = {static.cost >= 1.0 for static in summary.statics}
    return [handle for handle, is_whole in ((whole, True), (cut, False)) if is_whole in known]
