"""Accuracy over mean cost of one network: its policies, the budgets, and the oracle above them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aebnas.diagnosing.diagnosis import Diagnosis
from aebnas.diagnosing.subject import SPLITS, SplitName
from aebnas.exits.accuracy import accuracy_name
from aebnas.report.style import BLUE, GREEN, GREY, ORANGE, SKY, SMALL, TEXT, TITLE, VERMILION, new_figure, tidy


def budget_figure(diagnosis: Diagnosis) -> Figure:
    """Return two panels, validation and test: accuracy over mean MACs in % of the backbone's."""
    figure = new_figure(11.0, 5.4)
    figure.suptitle("Accuracy within a budget, and what the oracle could have", fontsize=TITLE)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, name in zip(panels, SPLITS, strict=True):
        _panel(axes, diagnosis, name)
    panels[0].set_ylabel(f"{accuracy_name(diagnosis.subject.accuracy)}, %", fontsize=TEXT)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def _panel(axes: Axes, diagnosis: Diagnosis, name: SplitName) -> None:
    tidy(axes)
    split, unit = diagnosis.splits[name], diagnosis.subject.backbone_macs / 100
    final = 100 * split.network.accuracy_last
    axes.axhline(final, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), label="last exit alone")
    axes.plot(
        [cost / unit for cost in split.oracle.costs],
        [100 * accuracy for accuracy in split.oracle.accuracies],
        color=ORANGE,
        linewidth=1.6,
        marker="*",
        markersize=9,
        label="oracle: leaves at the first exit that is right",
    )
    # More MACs give it nothing more.
    dearest = max([split.macs_mean, *(tuned.points[name].costs[0] for tuned in diagnosis.curve)])
    ends = [split.oracle.costs[-1] / unit, max(split.oracle.costs[-1], dearest) / unit]
    axes.plot(ends, [100 * split.oracle.accuracies[-1]] * 2, color=ORANGE, linewidth=1.6, linestyle=":")
    points = [tuned.points[name] for tuned in diagnosis.curve]
    axes.plot(
        [point.costs[0] / unit for point in points],
        [100 * point.accuracy for point in points],
        color=SKY,
        linewidth=1.4,
        marker=".",
        markersize=5,
        label="policies tuned on validation",
    )
    within = [(budget, tuned.points[name]) for budget, tuned in diagnosis.budgets.items() if tuned is not None]
    axes.plot(
        [point.costs[0] / unit for _, point in within],
        [100 * point.accuracy for _, point in within],
        linestyle="none",
        marker="o",
        markersize=7,
        color=BLUE,
        label="best within 25, 50, 75, 100 %",
    )
    axes.plot(
        split.macs_mean / unit,
        100 * split.network.accuracy,
        linestyle="none",
        marker="D",
        markersize=9,
        color=GREEN,
        markeredgecolor="white",
        label="this policy",
    )
    axes.set_title(
        f"{name}: {100 * split.network.accuracy:.2f} % with {split.macs_mean / unit:.1f} % of the MACs", fontsize=TEXT
    )
    axes.set_xlabel("mean MACs, % of the backbone's", fontsize=TEXT)
    gap = split.gap
    if gap.accuracy_missed > 0:
        top = 100 * split.oracle.accuracy_at(split.macs_mean)
        axes.plot([split.macs_mean / unit] * 2, [100 * split.network.accuracy, top], color=VERMILION, linewidth=1.2)
        axes.annotate(
            f"{100 * gap.accuracy_missed:.2f} points",
            (split.macs_mean / unit, (100 * split.network.accuracy + top) / 2),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=VERMILION,
        )
