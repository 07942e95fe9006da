"""Finalists: front points that are retrained in full, tuned again, exported, measured and scored once on test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aebnas.branches.spec import NetworkSpec
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import OperatingPoint
from aebnas.exits.dominance import nondominated
from aebnas.exits.policy import Policy
from aebnas.experiment import Experiment
from aebnas.export.evaluate import EvaluationResult, evaluate_export
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.rebuild import export_row, rebuild
from aebnas.run_folder import RunFolder
from aebnas.searching.evaluation import Evaluation
from aebnas.searching.evaluator import Evaluator
from aebnas.searching.loop import Archive
from aebnas.searching.rows import (
    Row,
    cost_column,
    exits_early,
    lossless,
    network_key,
    point_row,
    scaled,
    spec_of,
    static_row,
)
from aebnas.training.fit import logits_of

# Test samples whose latency is measured, one at a time; the mean over more would hardly be steadier.
MEASURED_SAMPLES = 1000
MOST_TRUNCATED = 6


def choose_finalists(rows: Sequence[Row], archive: Archive, experiment: Experiment) -> list[int]:
    """Return the indices of front rows worth verifying, each of another network.

    First the cheapest that keeps the backbone's validation accuracy, then those that add most hypervolume.
    """
    column = cost_column(archive.cost)
    points = [(row["accuracy_val"], row[column]) for row in rows]
    keep = lossless(rows, archive.backbone.accuracy - experiment.search.accuracy_drop, column)
    first = [] if keep is None else [keep]
    networks = [network_key(row) for row in rows]
    chosen = archive.reference.spread(points, experiment.search.finalists, first, groups=networks)
    return chosen or list(range(len(rows)))[:1]


def retrain(rows: Sequence[Row], evaluator: Evaluator, progress: Progress) -> list[Evaluation]:
    """Train the networks of ``rows`` with the full budget; a network of several rows is trained once."""
    specs: dict[str, NetworkSpec] = {}
    for row in rows:
        specs.setdefault(network_key(row), spec_of(row))
    finals = []
    with progress.stage("retraining finalists", len(specs)) as stage:
        for spec in specs.values():
            finals.append(evaluator.evaluate(spec, "final"))
            stage.advance()
    return finals


def finalist_rows(
    rows: Sequence[Row], finals: Sequence[Evaluation], archive: Archive, experiment: Experiment
) -> list[Row]:
    """Return one row per finalist on the curve of its retrained network.

    Each chosen point becomes the cheapest that is as accurate as it was; beside it stands, for every network, the
    cheapest that keeps the backbone's accuracy. A network whose retraining failed has none.
    """
    floor = archive.backbone.accuracy - experiment.search.accuracy_drop
    wishes = {final.spec.key: {floor} for final in finals}
    for row in rows:
        wishes[network_key(row)].add(row["accuracy_val"])
    made: dict[str, Row] = {}
    for final in finals:
        for wish in sorted(wishes[final.spec.key]):
            index = _cheapest(final, wish, archive)
            if index is not None:
                row = point_row(final, index, final.curve.points[index]) | {"finalist": True}
                made.setdefault(row["id"], row)
    return list(made.values())


def truncated_rows(archive: Archive) -> list[Row]:
    """Return the static networks that end in a branch of any candidate: those that no other of them beats.

    They are what an early-exit network has to be better than. At most ``MOST_TRUNCATED``, spread by hypervolume.
    """
    made: dict[str, Row] = {}
    for evaluation in archive.evaluations.values():
        moved = "network" in evaluation.weights
        for number, static in enumerate(evaluation.truncated):
            if moved:
                row = static_row(
                    f"cut-{evaluation.id}-{number}", static, evaluation.spec.branches, evaluation.weights, cut=number
                )
            else:
                # A branch on a frozen backbone is the same network whoever else it stands with.
                branch, key = evaluation.spec.branches[number], evaluation.weights["branches"][number]
                row = static_row(f"cut-{key[:6]}", static, [branch], {"branches": [key]}, cut=0)
            made.setdefault(row["id"], row)
    rows = list(made.values())
    if not rows:
        return []
    points = [(row["accuracy_val"], row[cost_column(archive.cost)]) for row in rows]
    best = nondominated(scaled([accuracy for accuracy, _ in points]), np.array([[cost for _, cost in points]]))
    front = [rows[i] for i in best]
    spread = archive.reference.spread([points[i] for i in best], MOST_TRUNCATED)
    return [front[i] for i in sorted(spread)]


def verify(
    rows: Sequence[Row],
    prepared: Prepared,
    folder: RunFolder,
    *,
    device: torch.device,
    threads: int,
    measured_here: bool,
    progress: Progress,
) -> list[Row]:
    """Score ``rows`` (finalists and static networks) once on the test split, export them, and measure them here.

    Args:
        measured_here: Whether this machine is the target; if not, nothing is measured and the columns stay None.
    """
    test = prepared.data.test
    inputs, labels = _first(prepared, MEASURED_SAMPLES)
    cache: dict[str, list[Tensor]] = {}
    done: list[Row] = []
    with progress.stage("verifying finalists", len(rows)) as stage:
        for row in rows:
            network = rebuild(row, prepared, folder).to(device)
            key = str(sorted(row["weights"].items()))
            if key not in cache:
                cache[key] = logits_of(network, test, device)
            accuracy = _accuracy(row, cache[key], test.labels)
            out = export_row(row, network.cpu(), prepared, folder.exports / row["id"], threads=threads)
            measured = evaluate_export(out, inputs, labels) if measured_here else None
            done.append({**row, "accuracy_test": accuracy, **_measured(measured)})
            stage.advance()
    return done


def _accuracy(row: Row, logits: list[Tensor], labels: Tensor) -> float:
    if row["static"]:
        chosen = logits[-1] if row["cut"] is None else logits[row["cut"]]
        return float((chosen.argmax(1) == labels).float().mean())
    policy = Policy(row["confidence"], tuple(row["thresholds"]))
    measure = build_confidence(row["confidence"])
    exits = policy.leave_at(np.stack([measure(z).numpy() for z in logits[:-1]]))
    correct = np.stack([(z.argmax(1) == labels).numpy() for z in logits])
    return float(correct[exits, np.arange(len(exits))].mean())


def _measured(result: EvaluationResult | None) -> Row:
    if result is None:
        return {}
    return {
        "latency_ms_measured": result.latency_ms.mean,
        "backbone_ms_measured": result.backbone_latency_ms.mean,
        "speedup_measured": result.speedup,
    }


def _cheapest(final: Evaluation, accuracy: float, archive: Archive) -> int | None:
    """Return the index of the cheapest early-exit point with ``accuracy``, or of the most accurate one there is."""
    points: list[tuple[int, OperatingPoint]] = [
        (i, point)
        for i, point in enumerate(final.curve.points)
        if exits_early(point) and archive.limits.allowed(final, point)
    ]
    enough = [(i, point) for i, point in points if point.accuracy >= accuracy]
    if enough:
        return min(enough, key=lambda pair: final.cost(pair[1], archive.cost))[0]
    return max(points, key=lambda pair: pair[1].accuracy)[0] if points else None


def _first(prepared: Prepared, count: int) -> tuple[np.ndarray, np.ndarray]:
    test = prepared.data.test
    rows = torch.arange(min(count, len(test)))
    batches = list(test.subset(rows).batches(256))
    images = torch.cat([batch.images for batch in batches])
    return images.numpy(), test.labels[rows].numpy()
