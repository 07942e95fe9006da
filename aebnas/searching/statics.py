"""Static networks that an early-exit network has to be better than: the backbone, and it cut off at one branch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aebnas.branches.spec import FP32, NO_CASCADE, NetworkSpec
from aebnas.exits.dominance import nondominated
from aebnas.progress import Progress
from aebnas.run import BACKBONE_ID
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.loop import Archive
from aebnas.searching.rows import Row, scaled, static_row

# More would hardly change the picture, and each is trained in full.
MOST_TRUNCATED = 4


def retrain_truncated(archive: Archive, evaluator: Evaluator, progress: Progress) -> None:
    """Train the best truncated networks with the full budget, as the finalists that they stand beside.

    Only where the backbone is frozen: there a branch can be trained alone, which is what a static network would be,
    also where branches were trained with regard to those before them. Where the backbone moves, a truncated network is
    part of the network that it was trained with.
    """
    found: dict[NetworkSpec, StaticPoint] = {}
    for evaluation in archive.evaluations.values():
        if "network" not in evaluation.weights:
            for branch, static in zip(evaluation.spec.branches, evaluation.truncated, strict=False):
                alone = replace(evaluation.spec, branches=(branch,), cascade=NO_CASCADE)
                if alone not in found or found[alone].accuracy < static.accuracy:
                    found[alone] = static
    specs = list(found)
    networks = [specs[i] for i in _best(list(found.values()), archive)]
    with progress.stage("retraining truncated networks", sum(evaluator.work(spec) for spec in networks)) as stage:
        for spec in networks:
            final = evaluator.evaluate(spec, "final", stage)
            if final.failure is None:
                archive.replace(final)


def backbone_rows(archive: Archive) -> list[Row]:
    """Return the rows of the static backbone: the reference, and what other precisions alone make of it."""
    converted = [
        static_row(f"{BACKBONE_ID}-{precision}", static, precision=precision)
        for precision, static in archive.converted.items()
    ]
    return [static_row(BACKBONE_ID, archive.backbone), *converted]


def truncated_rows(archive: Archive) -> list[Row]:
    """Return the rows of the truncated networks that were trained in full and that no other of them beats."""
    found: dict[str, tuple[Evaluation, int]] = {}
    for evaluation in archive.evaluations.values():
        if evaluation.budget == "final":
            for number in range(len(evaluation.truncated)):
                moved = "network" in evaluation.weights
                precision = evaluation.spec.precision
                alone = "" if moved else f"cut-{evaluation.weights['branches'][number][:8]}"
                alone += "" if precision == FP32 else f"-{precision}"
                name = f"cut-{evaluation.id}-{number}" if moved else alone
                found.setdefault(name, (evaluation, number))
    names = list(found)
    best = _best([evaluation.truncated[number] for evaluation, number in found.values()], archive)
    return [_row(names[i], *found[names[i]]) for i in best]


def _row(name: str, evaluation: Evaluation, number: int) -> Row:
    static, spec = evaluation.truncated[number], evaluation.spec
    if "network" in evaluation.weights:
        return static_row(
            name,
            static,
            spec.branches,
            evaluation.weights,
            cut=number,
            precision=spec.precision,
            cascade=spec.cascade,
        )
    weights = {"branches": [evaluation.weights["branches"][number]]}
    return static_row(name, static, [spec.branches[number]], weights, cut=0, precision=spec.precision)


def _best(points: list[StaticPoint], archive: Archive) -> list[int]:
    """Return the indices of up to ``MOST_TRUNCATED`` non-dominated points, spread by hypervolume."""
    if not points:
        return []
    pairs = [(point.accuracy, point.costs[archive.cost]) for point in points]
    rows = nondominated(scaled([accuracy for accuracy, _ in pairs]), np.array([[cost for _, cost in pairs]]))
    chosen = archive.reference.spread([pairs[i] for i in rows], MOST_TRUNCATED)
    return sorted(int(rows[i]) for i in chosen)
