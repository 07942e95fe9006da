"""A diagnosis as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aebnas.diagnosing.diagnosis import Diagnosis
from aebnas.diagnosing.split import SplitDiagnosis
from aebnas.diagnosing.subject import SPLITS
from aebnas.exits.calibration import BINS, reliability
from aebnas.exits.ranking import Ranking
from aebnas.report.describe import MISSING, percent, shorten
from aebnas.report.diagnosis_budget import budget_figure
from aebnas.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    SKY,
    SMALL,
    TEXT,
    TITLE,
    VERMILION,
    new_figure,
    save,
    tidy,
)

_SPLIT_COLORS = {"validation": BLUE, "test": VERMILION}
_SPLIT_MARKS = {"validation": "o", "test": "s"}
_EXIT_COLORS = (BLUE, VERMILION, GREEN, ORANGE, SKY, "#CC79A7", GREY)
# What becomes of samples at an exit: right to leave and left, right and went on, wrong to leave and went on, and left.
_DECISIONS = (
    ("left, rightly", GREEN),
    ("left too early (premature)", VERMILION),
    ("went on in vain (futile)", ORANGE),
    ("went on, rightly", SKY),
)
_ACROSS = 4


def draw_diagnosis(diagnosis: Diagnosis, folder: Path) -> list[Path]:
    """Draw every picture of ``diagnosis`` as a PNG file in ``folder``, and return their paths.

    Raises:
        RunError: the folder cannot be written.
    """
    figures = {
        "reliability": reliability_figure(diagnosis),
        "failure_prediction": failure_figure(diagnosis),
        "accuracy_at_budget": budget_figure(diagnosis),
        "decisions": decisions_figure(diagnosis),
    }
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def reliability_figure(diagnosis: Diagnosis) -> Figure:
    """Return, for every exit, accuracy over probability in 15 bins, and below it how many samples each bin has."""
    names = diagnosis.subject.names
    across = min(_ACROSS, len(names))
    down = -(-len(names) // across)
    figure = new_figure(max(3.1 * across, 6.2) + 0.4, 4.1 * down + 1.1)
    validation, test = (f"{diagnosis.splits[name].network.samples:,}" for name in SPLITS)
    figure.suptitle(
        "Reliability: accuracy of predictions by their probability\n"
        f"{validation} validation and {test} test samples; ECE on validation / test",
        fontsize=TITLE,
    )
    grid = figure.subplots(2 * down, across, squeeze=False, height_ratios=[3, 1] * down, sharex=True)
    for exit_ in range(across * down):
        row, column = divmod(exit_, across)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        if exit_ >= len(names):
            above.set_axis_off()
            below.set_axis_off()
            continue
        _reliability(above, below, diagnosis, exit_)
        if column == 0:
            above.set_ylabel("accuracy, %", fontsize=TEXT)
            below.set_ylabel("samples, %", fontsize=TEXT)
        below.set_xlabel("probability of the predicted class, %", fontsize=SMALL)
        below.tick_params(labelbottom=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def _reliability(above: Axes, below: Axes, diagnosis: Diagnosis, exit_: int) -> None:
    tidy(above)
    tidy(below, grid="y")
    above.plot([0, 100], [0, 100], color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), label="perfectly calibrated")
    eces = []
    for place, name in enumerate(SPLITS):
        split = diagnosis.splits[name]
        found = reliability(split.outcomes.probabilities[exit_], split.outcomes.correct[exit_])
        filled = found.counts > 0
        # Bins of few samples say little: the area of a mark is its share of the samples, up to a point.
        sizes = 8 + 60 * np.sqrt(found.counts[filled] / found.counts.sum())
        color = _SPLIT_COLORS[name]
        x, y = 100 * found.probability[filled], 100 * found.accuracy[filled]
        above.plot(x, y, color=color, linewidth=1.2, alpha=0.6)
        above.scatter(x, y, s=sizes, color=color, marker=_SPLIT_MARKS[name], label=name, zorder=3)
        middle = 100 * (np.arange(BINS) + 0.3 + 0.4 * place) / BINS
        below.bar(middle, 100 * found.counts / found.counts.sum(), width=38 / BINS, color=color)
        eces.append(split.network.exits[exit_].every.ece)
    above.set_xlim(-2, 102)
    above.set_ylim(-2, 102)
    below.set_ylim(0, None)
    texts = " / ".join(MISSING if ece is None else f"{ece:.3f}" for ece in eces)
    above.set_title(f"exit {exit_}: {shorten(diagnosis.subject.names[exit_], 22)}\nECE {texts}", fontsize=TEXT)


def failure_figure(diagnosis: Diagnosis) -> Figure:
    """Return risk-coverage curves, and the ROC of the confidence for being right to leave, on both splits."""
    figure = new_figure(11.0, 9.4)
    figure.suptitle("How well confidences rank samples", fontsize=TITLE)
    panels = figure.subplots(2, 2)
    for (left, right), name in zip(panels, SPLITS, strict=True):
        split = diagnosis.splits[name]
        _risk_coverage(left, split, diagnosis.subject.names)
        left.set_title(f"{name}, all samples: are predictions right?", fontsize=TEXT)
        _leaving_roc(right, split, diagnosis.subject.names)
        right.set_title(f"{name}, who reaches the exit: is leaving right?", fontsize=TEXT)
    return figure


def _risk_coverage(axes: Axes, split: SplitDiagnosis, names: Sequence[str]) -> None:
    tidy(axes)
    for exit_, name in enumerate(names):
        coverage, risk = Ranking(split.outcomes.confidences[exit_]).risk_coverage(split.outcomes.correct[exit_])
        aurc = split.network.exits[exit_].every.aurc
        color, style = _look(exit_, len(names))
        label = f"exit {exit_}: {shorten(name, 20)}, AURC {percent(aurc)} %"
        axes.plot(100 * coverage, 100 * risk, color=color, linestyle=style, linewidth=1.6, label=label)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, None)
    axes.set_xlabel("coverage: surest samples accepted, %", fontsize=TEXT)
    axes.set_ylabel("risk: errors among them, %", fontsize=TEXT)
    axes.legend(loc="upper left", fontsize=SMALL, framealpha=0.9, edgecolor="none")


def _leaving_roc(axes: Axes, split: SplitDiagnosis, names: Sequence[str]) -> None:
    tidy(axes)
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), label="chance, EEFP 0.5")
    for exit_, name in enumerate(names[:-1]):
        reach = split.outcomes.survivors(exit_)
        worth, leave = split.outcomes.worth_leaving[exit_, reach], split.outcomes.exits[reach] == exit_
        rates = Ranking(split.outcomes.confidences[exit_, reach]).roc(worth)
        title = f"exit {exit_}: {shorten(name, 20)}"
        color, style = _look(exit_, len(names))
        if rates is None:
            axes.plot([], [], color=color, linestyle=style, label=f"{title}, EEFP not defined")
            continue
        eefp = split.network.exits[exit_].survivors.eefp
        axes.plot(
            100 * rates[0],
            100 * rates[1],
            color=color,
            linestyle=style,
            linewidth=1.6,
            label=f"{title}, EEFP {eefp:.3f}",
        )
        here = (100 * leave[~worth].mean(), 100 * leave[worth].mean())
        axes.plot(*here, marker="o", markersize=9, color=color, markeredgecolor=BLACK, linestyle="none", zorder=4)
    axes.plot([], [], marker="o", color="white", markeredgecolor=BLACK, linestyle="none", label="this policy")
    axes.set_xlim(-1, 101)
    axes.set_ylim(-1, 101)
    axes.set_xlabel("let go of those who should go on, %", fontsize=TEXT)
    axes.set_ylabel("let go of those who should leave, %", fontsize=TEXT)
    axes.legend(loc="lower right", fontsize=SMALL, framealpha=0.9, edgecolor="none")


def decisions_figure(diagnosis: Diagnosis) -> Figure:
    """Return, for every early exit and both splits, what becomes of the samples that reach it."""
    names = diagnosis.subject.names[:-1]
    figure = new_figure(10.5, 1.9 + 0.95 * len(names))
    axes = figure.subplots()
    tidy(axes, grid="x")
    rows = [(exit_, split) for exit_ in range(len(names)) for split in SPLITS]
    places = [1.15 * exit_ + 0.45 * SPLITS.index(split) for exit_, split in rows]
    left = np.zeros(len(rows))
    found = [_decisions(diagnosis.splits[split], exit_) for exit_, split in rows]
    for number, (label, color) in enumerate(_DECISIONS):
        widths = np.array([100 * one[number] for one in found])
        bars = axes.barh(places, widths, 0.4, left=left, color=color, edgecolor="white", label=label)
        texts = [f"{width:.1f}" if width >= 3.5 else "" for width in widths]
        axes.bar_label(
            bars, texts, label_type="center", fontsize=SMALL, color=BLACK if color in (ORANGE, SKY) else "white"
        )
        left += widths
    for place, reached, one in zip(places, left, found, strict=True):
        axes.barh(place, 100 - reached, 0.4, left=reached, color=PALE, zorder=0)
        # What is too narrow to be read in its bar is the figure that matters most.
        text = f"{100 * one[1]:.2f} % early\n{100 * one[2]:.2f} % in vain"
        axes.annotate(text, (100, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=SMALL)
    labels = [
        f"exit {exit_}: {shorten(names[exit_], 22)}, {split}" if split == SPLITS[0] else split for exit_, split in rows
    ]
    axes.set_yticks(places, labels, fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of all samples; grey: left at an exit before", fontsize=TEXT)
    axes.set_title("Who leaves, and who should", fontsize=TITLE)
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL, frameon=False)
    return figure


def _decisions(split: SplitDiagnosis, exit_: int) -> list[float]:
    """Return the fractions of all samples, in the order of ``_DECISIONS``."""
    worth, exits = split.outcomes.worth_leaving[exit_], split.outcomes.exits
    leave, go_on = exits == exit_, exits > exit_
    return [float(part.mean()) for part in (leave & worth, leave & ~worth, go_on & worth, go_on & ~worth)]


def _look(exit_: int, exits: int) -> tuple[str, str]:
    """Return colour and line style of an exit; the final one is black and dotted."""
    return (BLACK, ":") if exit_ == exits - 1 else (_EXIT_COLORS[exit_ % len(_EXIT_COLORS)], "-")
