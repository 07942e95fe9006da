"""How the search went: its trials, and the hypervolume over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from aebnas.report.style import BLUE, SMALL, TEXT, TITLE, VERMILION, new_figure, say_instead, tidy
from aebnas.run import Run
from aebnas.searching.study import HYPERVOLUME
from aebnas.searching.study import read_trials as read_trials_of


def read_trials(run: Run) -> list[FrozenTrial]:
    """Return the trials of a run that came to an end, in their order.

    Raises:
        RunError: the study is missing or damaged.
    """
    return read_trials_of(run.folder, run.experiment)


def hypervolume_figure(trials: Sequence[FrozenTrial]) -> Figure:
    """Return the hypervolume of all curves found so far over trials; failed ones are marked."""
    figure = new_figure(8.0, 4.2)
    axes = figure.subplots()
    known = [trial for trial in trials if HYPERVOLUME in trial.user_attrs]
    if not known:
        say_instead(axes, "No trial has finished yet.")
        return figure
    tidy(axes)
    numbers = np.array([trial.number + 1 for trial in known])
    # Several workers may write theirs out of order; what was found once stays found.
    best = np.maximum.accumulate([float(trial.user_attrs[HYPERVOLUME]) for trial in known])
    axes.step(numbers, best, where="post", color=BLUE, linewidth=2.0)
    axes.plot(numbers, best, ".", color=BLUE, markersize=5)
    failed = [i for i, trial in enumerate(known) if trial.state == TrialState.FAIL]
    if failed:
        label = f"failed ({len(failed)})"
        axes.plot(numbers[failed], best[failed], "x", color=VERMILION, markersize=9, markeredgewidth=2, label=label)
        axes.legend(loc="lower right", fontsize=SMALL, frameon=False)
    axes.annotate(
        f"{best[-1]:.3f}", (numbers[-1], best[-1]), xytext=(0, 7), textcoords="offset points", ha="right", fontsize=TEXT
    )
    axes.margins(x=0.03, y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial", fontsize=TEXT)
    axes.set_ylabel("hypervolume\n(1 = the backbone's accuracy for free)", fontsize=TEXT)
    axes.set_title("What the search had found after each trial", fontsize=TITLE)
    return figure
