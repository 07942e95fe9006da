"""A drawing of one early-exit network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.costs.macs import segment_macs
from aebnas.report.describe import (
    FINAL,
    ShownExit,
    branch_parts,
    number,
    percent,
    shorten,
    shown_exits,
    threshold_text,
)
from aebnas.report.style import BLUE, GREEN, GREY, SKY, SMALL, TEXT, TITLE, new_figure

# Inches.
_MIN_FIGURE = 7.8
_MIN_WIDTH, _WIDTH_BY_SHARE, _GAP, _HEIGHT, _LINE, _MARGIN = 1.6, 1.0, 0.35, 0.95, 0.21, 0.3


def network_figure(row: Mapping[str, Any], macs: Mapping[str, float]) -> Figure:
    """Return the network of a front row: backbone in a row of boxes, branches that are switched on below them.

    A box ends at a branch (or the output); dotted lines in it are attach points that this network does not use.
    ``macs`` are those of the backbone up to each attach point, and of all of it (:func:`cumulative_macs`).
    """
    exits = shown_exits(row)
    ends, total = [macs[exit_.name] for exit_ in exits], macs[FINAL]
    widths = [
        _MIN_WIDTH + _WIDTH_BY_SHARE * (end - start) / max(total, 1)
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    lefts = [_MARGIN + 0.9 + sum(widths[:i]) + _GAP * i for i in range(len(widths))]
    deepest = max((len(branch_parts(exit_.branch)) for exit_ in exits if exit_.branch), default=0)
    width, height = (
        max(lefts[-1] + widths[-1] + 1.35 + _MARGIN, _MIN_FIGURE),
        2.4 + (1.35 + deepest * _LINE if deepest else 0.0),
    )
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    middle = height - 1.55
    _title(axes, row, exits, height)
    _arrow(axes, (_MARGIN + 0.55, middle), (lefts[0], middle), 1.0)
    axes.text(_MARGIN, middle, "image", va="center", fontsize=TEXT)
    left_over, start = 1.0, 0.0
    for exit_, left, box_width, end in zip(exits, lefts, widths, ends, strict=True):
        inside = [point for point in macs.values() if start < point < end]
        _backbone_box(axes, exit_, (left, middle, box_width), (start, end, total), inside)
        right = left + box_width
        left_over = max(0.0, left_over - exit_.share)
        if exit_.name == FINAL:
            _arrow(axes, (right, middle), (right + 0.45, middle), exit_.share)
            axes.text(right + 0.5, middle, f"{100 * exit_.share:.1f} %\nleave at\nthe end", va="center", fontsize=TEXT)
        else:
            if exit_ is not exits[-1]:
                _arrow(axes, (right, middle), (right + _GAP, middle), left_over)
            _branch(axes, exit_, right - 0.75, middle - _HEIGHT / 2, str(row["confidence"]))
        start = end
    return figure


def cumulative_macs(backbone: SegmentedBackbone) -> dict[str, float]:
    """Return the MACs up to each attach point by its name, and of the whole backbone, counted as costs are."""
    names = [*(point.name for point in backbone.attach_points), FINAL]
    return dict(zip(names, itertools.accumulate(segment_macs(backbone)), strict=True))


def _title(axes: Axes, row: Mapping[str, Any], exits: Sequence[ShownExit], height: float) -> None:
    branches = sum(exit_.branch is not None for exit_ in exits)
    off = len(row["exits"]) - branches
    text = f"Network {row['id']}: {branches} early exit{'s' if branches != 1 else ''}"
    text += f" ({off} more switched off)" if off else ""
    axes.text(_MARGIN, height - 0.28, text, va="center", fontsize=TITLE, weight="bold")
    parts = [f"{percent(row['accuracy_val'])} % on validation", f"{number(row['macs_mean'] / 1e6)} M MACs on average"]
    if row["latency_ms_mean"] is not None:
        parts.append(f"{number(row['latency_ms_mean'])} ms predicted")
    if row["latency_ms_measured"] is not None:
        parts.append(f"{number(row['latency_ms_measured'])} ms measured")
    axes.text(_MARGIN, height - 0.56, ", ".join(parts), va="center", fontsize=TEXT, color=GREY)
    note = "MACs in a box: of the backbone, from the image to its end. Dotted lines: attach points that are not used."
    axes.text(_MARGIN, height - 0.8, note, va="center", fontsize=SMALL, color=GREY)


def _backbone_box(
    axes: Axes,
    exit_: ShownExit,
    place: tuple[float, float, float],
    macs: tuple[float, float, float],
    unused: Sequence[float],
) -> None:
    (left, middle, width), (start, end, total) = place, macs
    bottom = middle - _HEIGHT / 2
    axes.add_patch(_rounded(left, bottom, width, _HEIGHT, face="#DCEBF7", edge=BLUE))
    for point in unused:
        x = left + width * (point - start) / (end - start)
        axes.plot([x, x], [bottom + 0.03, bottom + _HEIGHT - 0.03], color=SKY, linewidth=1.0, linestyle=":")
    name = "output" if exit_.name == FINAL else shorten(exit_.name, 19)
    share = 100 * end / total if total else 100.0
    lines = f"{name}\n{number(end / 1e6)} M MACs\n{share:.0f} % of backbone"
    halo = {"facecolor": "#DCEBF7", "edgecolor": "none", "pad": 1.0}
    axes.text(left + width / 2, middle, lines, ha="center", va="center", fontsize=9.5, bbox=halo)


def _branch(axes: Axes, exit_: ShownExit, center: float, top: float, confidence: str) -> None:
    assert exit_.branch is not None
    parts = [shorten(part, 18) for part in branch_parts(exit_.branch)]
    height = 0.2 + _LINE * len(parts)
    box_top = top - 0.3
    _arrow(axes, (center, top), (center, box_top), 0.0)
    axes.add_patch(_rounded(center - 0.8, box_top - height, 1.6, height, face="#FFF3D6", edge="#B07A00"))
    lines = "\n".join(parts)
    axes.text(center, box_top - height / 2, lines, ha="center", va="center", fontsize=TEXT, linespacing=1.25)
    tip = box_top - height - 0.75
    _arrow(axes, (center, box_top - height), (center, tip), exit_.share, color=GREEN)
    said = "always" if exit_.threshold is None else threshold_text(exit_.threshold).replace(" by class", "\nby class")
    rule = said if said in ("always", "never") else f"if {_short(confidence)}\n{said}"
    axes.text(center + 0.12, (box_top - height + tip) / 2, rule, va="center", fontsize=TEXT)
    axes.text(
        center, tip - 0.04, f"{100 * exit_.share:.1f} % leave", ha="center", va="top", fontsize=TEXT, weight="bold"
    )


def _short(confidence: str) -> str:
    return {"max-probability": "max prob."}.get(confidence, shorten(confidence, 14))


def _rounded(left: float, bottom: float, width: float, height: float, *, face: str, edge: str) -> FancyBboxPatch:
    style = "round,pad=0,rounding_size=0.08"
    return FancyBboxPatch((left, bottom), width, height, boxstyle=style, facecolor=face, edgecolor=edge, linewidth=1.2)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], share: float, *, color: str = GREY
) -> None:
    """Draw an arrow that is the thicker the more samples go this way."""
    tail = 1.0 + 5.0 * share
    style = f"simple,tail_width={tail:.2f},head_width={tail + 6:.2f},head_length=7"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, linewidth=0, color=color, shrinkA=0, shrinkB=0))
