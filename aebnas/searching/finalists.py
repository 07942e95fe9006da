"""Finalists: front points that are retrained in full, tuned again, exported, measured and scored once on test."""

from __future__ import annotations

from collections.abc import Sequence

from aebnas.branches.spec import NetworkSpec
from aebnas.experiment import Experiment
from aebnas.progress import Progress
from aebnas.run import best_for_target, cheapest, cost_column, most_accurate
from aebnas.searching.evaluation import Evaluation
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.loop import Archive
from aebnas.searching.rows import (
    Row,
    early_rows,
    front_rows,
    network_key,
    spec_of,
)


def eligible_rows(archive: Archive, experiment: Experiment) -> list[Row]:
    """Return the rows that finalists are chosen from: the front, and what a target may prefer to it.

    The target's cost counts like an objective; a two-sided target may be met best by a point that is dominated.
    """
    target = experiment.search.target
    costs = dict.fromkeys([*experiment.search.cost_objectives, *([target.cost] if target else [])])
    rows = front_rows(archive, archive.limits, list(costs))
    if target is not None and target.rule == "two-sided":
        every = early_rows(archive.evaluations.values(), archive.limits)
        best = best_for_target(every, target)
        if best is not None and all(row["id"] != every[best]["id"] for row in rows):
            rows.append(every[best])
    return rows


def choose_finalists(rows: Sequence[Row], archive: Archive, experiment: Experiment) -> list[int]:
    """Return the indices of eligible rows worth verifying, each of another network.

    First what the user asked for: the best for the target, or the cheapest that keeps the backbone's validation
    accuracy. Then those that add most hypervolume to it and to the static networks.
    """
    settings, column = experiment.search, cost_column(archive.cost)
    points = [(row["accuracy_val"], row[column]) for row in rows]
    if settings.target is not None:
        wanted = best_for_target(rows, settings.target)
    else:
        wanted = cheapest(rows, archive.backbone.accuracy - settings.accuracy_drop, column)
    chosen = archive.reference.spread(
        points,
        settings.finalists,
        [] if wanted is None else [wanted],
        groups=[network_key(row) for row in rows],
        beside=[(static.accuracy, static.costs[archive.cost]) for static in archive.statics()],
    )
    return chosen or list(range(len(rows)))[:1]


def retrain(rows: Sequence[Row], evaluator: Evaluator, progress: Progress) -> list[Evaluation]:
    """Train the networks of ``rows`` with the full budget; a network of several rows is trained once."""
    specs: dict[str, NetworkSpec] = {}
    for row in rows:
        specs.setdefault(network_key(row), spec_of(row))
    with progress.stage("retraining finalists", sum(evaluator.work(spec) for spec in specs.values())) as stage:
        return [evaluator.evaluate(spec, "final", stage) for spec in specs.values()]


def finalist_rows(
    rows: Sequence[Row], finals: Sequence[Evaluation], archive: Archive, experiment: Experiment
) -> list[Row]:
    """Return one row per finalist on the curve of its retrained network.

    Each chosen point becomes the cheapest that is as accurate as it was; beside it stand, for every network, the
    cheapest that keeps the backbone's accuracy and, if there is a target, the best for it. A network whose retraining
    failed has none.
    """
    floor = archive.backbone.accuracy - experiment.search.accuracy_drop
    wishes = {final.spec.key: {floor} for final in finals}
    for row in rows:
        wishes[network_key(row)].add(row["accuracy_val"])
    made: dict[str, Row] = {}
    for final in finals:
        early = [row | {"finalist": True} for row in early_rows([final], archive.limits)]
        found = [_cheapest(early, wish, archive) for wish in sorted(wishes[final.spec.key])]
        if experiment.search.target is not None:
            found.append(best_for_target(early, experiment.search.target))
        made |= {early[i]["id"]: early[i] for i in found if i is not None}
    return list(made.values())


def _cheapest(rows: Sequence[Row], accuracy: float, archive: Archive) -> int | None:
    """Return the index of the cheapest row with ``accuracy``, or of the most accurate one there is."""
    index = cheapest(rows, accuracy, cost_column(archive.cost))
    if index is not None or not rows:
        return index
    return most_accurate(rows)
