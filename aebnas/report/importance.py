"""Which genes mattered, by PED-ANOVA (arXiv 2304.10255)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from aebnas.costs.kinds import COSTS
from aebnas.report.describe import shorten
from aebnas.report.style import BLUE, GREY, ORANGE, SKY, SMALL, TEXT, TITLE, new_figure, say_instead, tidy
from aebnas.searching.choice import TRADE_OFF

MIN_TRIALS = 20
_SHOWN = 12
# PED-ANOVA compares the best trials with all; its authors advise at least this many of them.
_BEST_TRIALS = 5
_COLORS = {"exit on or off": BLUE, "layers": SKY, "head": ORANGE, "other": GREY}


def importances(trials: Sequence[FrozenTrial], objective: int, *, maximise: bool) -> dict[str, float]:
    """Return the share of each gene in what tells the best trials from the others, by one objective; most first.

    Empty where the objective is the same for all trials.
    """
    sign = -1.0 if maximise else 1.0  # PED-ANOVA looks for low values
    values = [sign * trial.values[objective] for trial in trials]
    if min(values) == max(values):
        return {}
    study = optuna.create_study(directions=["minimize"] * len(trials[0].values))
    study.add_trials(trials)
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _BEST_TRIALS / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna reminds every caller that low values are looked for
        found = get_param_importances(study, evaluator=evaluator, target=lambda trial: sign * trial.values[objective])
    return {name: float(share) for name, share in found.items()}


def importance_figure(trials: Sequence[FrozenTrial], objectives: Sequence[str], attach: Sequence[str]) -> Figure:
    """Return a panel of bars per objective.

    Args:
        objectives: Their names, in the order of the trials' values.
        attach: Names of the attach points by the number in a gene's name; may be empty.
    """
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(done) < MIN_TRIALS:
        figure = new_figure(8.0, 2.5)
        text = f"Too few finished trials ({len(done)}) to say which genes matter: at least {MIN_TRIALS} are needed."
        say_instead(figure.subplots(), text)
        return figure
    found = [importances(done, i, maximise=name == "accuracy") for i, name in enumerate(objectives)]
    # Which point of its curve a trial stands for says nothing of networks, and would dwarf what does.
    trade_offs = [shares.pop(TRADE_OFF, 0.0) for shares in found]
    top: dict[str, float] = {}
    for shares in found:
        for gene, share in shares.items():
            top[gene] = max(share, top.get(gene, 0.0))
    genes = sorted(top, key=lambda gene: -top[gene])[:_SHOWN]
    figure = new_figure(4.2 + 3.2 * len(objectives), 1.8 + 0.32 * max(len(genes), 4))
    panels = figure.subplots(1, len(objectives), sharey=True, sharex=True, squeeze=False)[0]
    for axes, name, shares, trade_off in zip(panels, objectives, found, trade_offs, strict=True):
        aside = f"\n(beside the trade-off gene's {100 * trade_off:.0f} %)" if trade_off >= 0.005 else ""
        axes.set_title(f"for {COSTS[name].label if name in COSTS else name}{aside}", fontsize=TEXT)
        if shares:
            _bars(axes, genes, shares)
        else:
            say_instead(axes, "the same in all trials")
    panels[0].set_yticks(range(len(genes)), [gene_text(gene, attach) for gene in genes], fontsize=SMALL)
    panels[0].invert_yaxis()
    kinds = [kind for kind in _COLORS if kind in {_kind(gene) for gene in genes}]
    handles = [Patch(color=_COLORS[kind], label=kind) for kind in kinds]
    figure.suptitle(f"What set the best of {len(done)} trials apart", fontsize=TITLE)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) or 1, fontsize=SMALL, frameon=False)
    return figure


def gene_text(gene: str, attach: Sequence[str]) -> str:
    """Return a gene's name for people: the attach point instead of its number, and what is decided there."""
    match = re.fullmatch(r"exit(\d+)(?:_(layer)(\d+)|_(head))?", gene)
    if match is None:
        return shorten(gene, 36)
    number = int(match[1])
    where = shorten(attach[number], 26) if number < len(attach) else f"exit {number}"
    if match[2]:
        return f"{where}: layer slot {int(match[3]) + 1}"
    return f"{where}: head" if match[4] else f"{where}: on or off"


def _bars(axes: Axes, genes: Sequence[str], shares: Mapping[str, float]) -> None:
    tidy(axes, grid="x")
    widths = [100 * shares.get(gene, 0.0) for gene in genes]
    bars = axes.barh(range(len(genes)), widths, color=[_COLORS[_kind(gene)] for gene in genes])
    axes.bar_label(bars, [f"{width:.0f}" for width in widths], padding=3, fontsize=SMALL)
    axes.margins(x=0.12)
    axes.set_xlabel("share of importance, %", fontsize=TEXT)


def _kind(gene: str) -> str:
    if "_layer" in gene:
        return "layers"
    if gene.endswith("_head"):
        return "head"
    return "exit on or off" if gene.startswith("exit") else "other"
