"""Where samples leave: exit shares of the finalists."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from aebnas.report.describe import FINAL, percent_share, shorten, shown_exits
from aebnas.report.front import Front
from aebnas.report.style import GREY, SMALL, TEXT, TITLE, new_figure, say_instead, tidy

_MAX_BARS = 16


def shares_figure(front: Front, attach: Sequence[str]) -> Figure:
    """Return one stacked bar per finalist; ``attach`` are the names of the attach points in their order."""
    rows = front.finalists[:_MAX_BARS]
    figure = new_figure(10.0, 1.7 + 0.45 * max(len(rows), 2))
    axes = figure.subplots()
    if not rows:
        say_instead(axes, "This run has no finalists.")
        return figure
    tidy(axes, grid="x")
    used = {exit_.name for row in rows for exit_ in shown_exits(row)} - {FINAL}
    # Points that are not known by their order (no backbone at hand) come in the order in which networks name them.
    ordered = [name for name in attach if name in used] or sorted(used)
    ramp = matplotlib.colormaps["viridis"]
    colors = {name: ramp(0.15 + 0.8 * i / max(len(ordered) - 1, 1)) for i, name in enumerate(ordered)} | {FINAL: GREY}
    left = [0.0] * len(rows)
    for name in [*ordered, FINAL]:
        widths = [100 * sum(exit_.share for exit_ in shown_exits(row) if exit_.name == name) for row in rows]
        label = "final exit" if name == FINAL else shorten(name, 34)
        bars = axes.barh(range(len(rows)), widths, left=left, color=colors[name], edgecolor="white", label=label)
        red, green, blue = to_rgb(colors[name])
        ink = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.6 else "black"
        texts = [f"{percent_share(width / 100)} %" if width >= 5 else "" for width in widths]
        axes.bar_label(bars, texts, label_type="center", color=ink, fontsize=SMALL)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    names = [f"{row['id']} (default pick)" if row is front.pick else row["id"] for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("validation samples that leave at this exit, %", fontsize=TEXT)
    axes.set_title("Where samples leave, finalists", fontsize=TITLE)
    figure.legend(loc="outside lower center", ncols=min(4, len(ordered) + 1), fontsize=SMALL, frameon=False)
    return figure
