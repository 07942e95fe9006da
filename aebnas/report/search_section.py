"""How the search went, on the page: progress over trials and time, failures, methods, and which genes mattered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from aebnas.costs.kinds import COSTS
from aebnas.experiment import Experiment
from aebnas.report.chart import stacked_bar, step_chart
from aebnas.report.describe import MISSING, percent, settings_text
from aebnas.report.front import Front
from aebnas.report.importance import MIN_TRIALS, gene_text, importances
from aebnas.report.markup import Markup, bullets, table, tag
from aebnas.searching.choice import TRADE_OFF
from aebnas.searching.study import FAILURE, HYPERVOLUME, SPEC

_GENES = 15
_HEADING = "hypervolume (1 = the backbone's accuracy for free)"


def search_section(
    experiment: Experiment,
    front: Front,
    trials: Sequence[FrozenTrial],
    summary: Mapping[str, Any],
    attach: Sequence[str],
) -> list[Markup]:
    """Return the parts of the section.

    Args:
        trials: Those that came to an end, in their order.
        attach: Names of attach points by the number in a gene's name; may be empty.
    """
    settings = experiment.search
    method = (
        f"Sampler {settings.sampler}, objectives {', '.join(settings.objectives)}, seed {experiment.seed}; branches "
        f"trained by regime {experiment.regime.name}, confidence {experiment.confidence}, where the table says "
        "nothing else."
    )
    return [
        tag("p", method),
        bullets(_story(summary)),
        tag("h3", "Progress"),
        *_progress(trials),
        *_failures(trials),
        tag("h3", "Methods"),
        *_methods(trials, front, settings.objectives),
        tag("h3", "What set the best trials apart"),
        *_importance(trials, settings.objectives, attach),
    ]


def _story(summary: Mapping[str, Any]) -> Iterable[str]:
    for key, label in (("trials", "trials"), ("networks", "networks evaluated"), ("failed", "of them failed")):
        yield f"{label}: {summary.get(key, 'unknown')}"
    if isinstance(summary.get("hypervolume"), (int, float)):
        yield f"hypervolume over {summary.get('cost', 'cost')}: {summary['hypervolume']:.3f}"
    latency = summary.get("latency")
    if latency:
        noise = latency["noise_pct"]
        yield "machine varied by: " + ("unknown, all blocks were known" if noise is None else f"{noise:.1f} %")
        for precision, overhead in latency["overhead"].items():
            yield (
                f"latency beyond blocks in {precision}: scale {overhead['scale']:.3f}, "
                f"{1e3 * overhead['gate_ms']:.1f} us per decision, {1e3 * overhead['switch_ms']:.1f} us per switch, "
                f"fitted on {overhead['paths']} measured graphs, spread {100 * overhead['spread']:.1f} %"
            )
    for label, seconds in summary["seconds"].items():
        yield f"seconds for {label}: {seconds:,.1f}"


def _progress(trials: Sequence[FrozenTrial]) -> list[Markup]:
    known = [trial for trial in trials if HYPERVOLUME in trial.user_attrs]
    if not known:
        return [tag("p", "No trial has finished yet.")]
    # Several workers may write theirs out of order; what was found once stays found.
    best = np.maximum.accumulate([float(trial.user_attrs[HYPERVOLUME]) for trial in known]).tolist()
    failed = [place for place, trial in enumerate(known) if trial.state == TrialState.FAIL]
    numbers = [float(trial.number + 1) for trial in known]
    charts = [step_chart(numbers, best, failed, title="Hypervolume over trials", x_label="trial", y_label=_HEADING)]
    ended = [trial.datetime_complete for trial in known]
    began = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    if began and all(ended):
        # By the clock, so that a search that went on later shows the pause.
        minutes = sorted((end - min(began)).total_seconds() / 60 for end in ended if end is not None)
        order = np.argsort([end.timestamp() for end in ended if end is not None], kind="stable")
        over_time = np.maximum.accumulate([float(known[i].user_attrs[HYPERVOLUME]) for i in order]).tolist()
        late = [place for place, i in enumerate(order) if known[i].state == TrialState.FAIL]
        title, label = "Hypervolume over time", "minutes since the first trial began, pauses included"
        charts.append(step_chart(minutes, over_time, late, title=title, x_label=label, y_label=_HEADING))
    said = "The share of cost and accuracy that the points found so far dominate; it never falls."
    crosses = f" Crosses: {len(failed)} trials that failed." if failed else ""
    return [tag("figure", tag("div", *charts, class_="pair"), tag("figcaption", said + crosses))]


def _failures(trials: Sequence[FrozenTrial]) -> list[Markup]:
    reasons = Counter(
        str(trial.user_attrs.get(FAILURE, "not told")) for trial in trials if trial.state == TrialState.FAIL
    )
    if not reasons:
        return [tag("p", "No trial failed.")]
    return [table("Trials that failed", ("why", "trials"), reasons.most_common())]


def _methods(trials: Sequence[FrozenTrial], front: Front, objectives: Sequence[str]) -> list[Markup]:
    """Return how often networks of each way to train and decide were tried, and what came of it."""
    tried: Counter[str] = Counter()
    best: dict[str, float] = {}
    for trial in trials:
        spec = trial.user_attrs.get(SPEC)
        if not isinstance(spec, dict) or "regime" not in spec:
            continue
        name = _method(spec)
        tried[name] += 1
        if trial.state == TrialState.COMPLETE:
            accuracy = dict(zip(objectives, trial.values, strict=True))["accuracy"]
            best[name] = max(best.get(name, 0.0), accuracy)
    on_front = Counter(_method(row) for row in front.early)
    finalists = Counter(_method(row) for row in front.finalists)
    names = sorted({*tried, *on_front}, key=lambda name: (-finalists[name], -on_front[name], name))
    if not names:
        return [tag("p", "There is no network that leaves early.")]
    rows = [
        (
            name,
            tried[name] or MISSING,
            f"{percent(best[name])} %" if name in best else MISSING,
            on_front[name] + 0,
            finalists[name] + 0,
        )
        for name in names
    ]
    headings = (
        "regime, confidence, precision",
        "trials",
        "best accuracy of a trial",
        "points on the front",
        "finalists",
    )
    return [table("Ways to train and to decide", headings, rows)]


def _method(of: Mapping[str, Any]) -> str:
    precision = of.get("precision")
    return settings_text({"static": False, **of}) + (f", {precision}" if precision else "")


def _importance(trials: Sequence[FrozenTrial], objectives: Sequence[str], attach: Sequence[str]) -> list[Markup]:
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(done) < MIN_TRIALS:
        said = f"Too few finished trials ({len(done)}) to say which genes matter: at least {MIN_TRIALS} are needed."
        return [tag("p", said)]
    said = (
        f"Share of each gene in what tells the best tenth of {len(done)} trials from the others (PED-ANOVA); few "
        "trials make this rough. The trade-off gene, which says nothing of networks, is left out."
    )
    parts = [tag("p", said)]
    for place, name in enumerate(objectives):
        found = importances(done, place, maximise=name == "accuracy")
        found.pop(TRADE_OFF, None)
        label = COSTS[name].label if name in COSTS else name
        if not found:
            parts.append(tag("p", f"For {label}: the same in all trials."))
            continue
        top = sorted(found.items(), key=lambda item: -item[1])[:_GENES]
        end = top[0][1]
        rows = [
            (
                gene_text(gene, attach),
                f"{100 * share:.0f}",
                stacked_bar([("step0", gene, share)], end, f"{100 * share:.0f} %"),
            )
            for gene, share in top
        ]
        parts.append(table(f"Gene importance for {label}", ("gene", "share, %", "as a bar"), rows, class_="bars"))
    return [*parts[:1], tag("div", *parts[1:], class_="pair")]
