"""Candidates per hour, ours against the reference's way, and the quality that each reaches."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aebnas.branches.spec import FP32, NetworkSpec
from aebnas.exits.curve import Target
from aebnas.experiment import Experiment
from aebnas.files import write_text
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.searching.evaluation import Evaluation
from aebnas.searching.genes import network_genes
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import OFF, ON, Genome, build_genome
from benchmarks.launch import Searched, run_search, start_run
from benchmarks.reference import Candidate, run_candidates
from benchmarks.section import Figure, Section
from benchmarks.threshold_loop import score_of

EXITS = 4
# Costs are MACs, as the reference's are: nothing is measured.
PROFILE = """\
name: paper
description: A device that is not measured
connection: none
"""


@dataclass(frozen=True)
class RatePlan:
    """What is held against each other.

    Args:
        experiment: The search; regimes and costs are set here.
        options: Keys of all searches of ours, such as how long they last.
        joint: Keys of the search whose candidates train as whole networks.
        measured: Keys of the search that measures latency, too; None: there is none.
        samples: Training images of the reference; None = all.
        epochs: Of the reference.
        candidates: Of the reference, one after the other on each core.
        processes: At a time, of one thread each; also the workers of ours.
    """

    experiment: Experiment
    options: Mapping[str, Any]
    joint: Mapping[str, Any]
    measured: Mapping[str, Any] | None
    samples: int | None
    epochs: int
    candidates: int
    processes: int


def measure_rate(plan: RatePlan, home: Path, backbone: Path, progress: Progress) -> Section:
    """Run the reference's candidates, then our searches, on the same trained backbone."""
    home.mkdir(parents=True, exist_ok=True)
    profile = home / "device.yaml"
    write_text(profile, PROFILE)
    base = plan.experiment.override({**plan.options, "search.objectives": ("accuracy", "macs"), "device": str(profile)})
    prepared = prepare(base, RunFolder(backbone), device=torch.device("cpu"), progress=progress)
    target = prepared.backbone.macs / 2
    specs = reference_networks(base, prepared, plan.candidates)
    progress.say(f"the reference's way: {len(specs)} candidates")
    theirs, theirs_s = run_candidates(
        base, backbone, specs, target=target, samples=plan.samples, epochs=plan.epochs, processes=plan.processes
    )
    per_hour = 3600 * len(theirs) / theirs_s
    best = max(theirs, key=lambda candidate: candidate.score)
    figures: dict[str, Figure] = {
        "candidates_per_hour_reference": per_hour,
        "reference_train_s": sum(each.train_s for each in theirs) / len(theirs),
        "reference_tune_s": sum(each.tune_s for each in theirs) / len(theirs),
        **_quality("reference", best.score, best.accuracy, best.macs),
    }
    rows = [
        ("reference, candidates per hour", f"{per_hour:.1f} ({_seconds(theirs)})"),
        ("reference, best of its candidates", _said(best.score, best.accuracy, best.macs)),
    ]
    searches: dict[str, Mapping[str, Any]] = {"ours": {}, "joint": plan.joint}
    if plan.measured is not None:
        searches["measured"] = {**plan.measured, "device": plan.experiment.device}
    for name, options in searches.items():
        progress.say(f"our search: {name}")
        folder = home / name
        experiment = base.override(options)
        start_run(experiment, folder, backbone)
        found = run_search(experiment, folder, workers=plan.processes, threads=plan.processes)
        score, accuracy, macs = best_point(RunFolder(folder), target)
        ratio = found.per_hour / per_hour
        figures |= {
            f"candidates_per_hour_{name}": found.per_hour,
            "candidates_per_hour_ratio" + ("" if name == "ours" else f"_{name}"): ratio,
            f"candidates_{name}": len(found.trials),
            **_quality(name, score, accuracy, macs),
        }
        rows += [
            (f"{_TITLES[name]}, candidates per hour", f"{found.per_hour:.0f} ({_spent(found)})"),
            (f"{_TITLES[name]}, times the reference", f"{ratio:.1f}"),
            (f"{_TITLES[name]}, best of its candidates", _said(score, accuracy, macs)),
        ]
        shutil.rmtree(folder / "features", ignore_errors=True)
    return Section(figures, rows)


_TITLES = {
    "ours": "ours, disjoint",
    "joint": "ours, whole networks (joint)",
    "measured": "ours, disjoint, with latencies measured",
}


def reference_networks(experiment: Experiment, prepared: Prepared, count: int) -> list[NetworkSpec]:
    """Return random networks of the space with exits at even cost, as many as a network may have up to four."""
    genome = build_genome(
        load_space(experiment.space),
        prepared.backbone.attach_points,
        prepared.data.num_classes,
        network_genes(experiment, (FP32,)),
    )
    draw, on = random.Random(0), _at_even_cost(genome)
    networks = []
    for _ in range(count):
        genes = {name: draw.choice(choices) for name, choices in genome.genes.items()}
        genes |= {f"exit{number}": ON if number in on else OFF for number in range(len(genome.points))}
        networks.append(genome.decode(genes))
    return networks


def _at_even_cost(genome: Genome) -> set[int]:
    exits = min(EXITS, genome.max_exits, len(genome.points))
    whole = genome.points[-1].macs
    wanted = [whole * (number + 1) / (exits + 1) for number in range(exits)]
    return {min(range(len(genome.points)), key=lambda i: abs(genome.points[i].macs - macs)) for macs in wanted}


def best_point(folder: RunFolder, target: float) -> tuple[float, float, float]:
    """Return score, accuracy and MACs of the point that the reference's score likes best, of all evaluations.

    Raises:
        RuntimeError: no candidate could be evaluated; the message says why the last one failed.
    """
    found, failure = list[tuple[float, float, float]](), None
    for path in sorted(folder.evaluations.glob("*.json")):
        record = folder.read_evaluation(path.stem)
        evaluation = None if record is None else Evaluation.from_json(record)
        if evaluation is None or evaluation.budget != "search" or not evaluation.curve.points:
            failure = failure if evaluation is None else evaluation.failure or failure
            continue
        index = evaluation.cost_names.index("macs")
        best = evaluation.curve.best(Target(target, "two-sided", index))
        if best is not None:
            found.append((score_of(best.accuracy, best.costs[index], target), best.accuracy, best.costs[index]))
    if not found:
        raise RuntimeError(f"no candidate in {folder.path} could be evaluated: {failure}")
    return max(found)


def _quality(name: str, score: float, accuracy: float, macs: float) -> dict[str, Figure]:
    return {f"score_{name}": score, f"accuracy_{name}": accuracy, f"macs_m_{name}": macs / 1e6}


def _said(score: float, accuracy: float, macs: float) -> str:
    return f"score {score:.2f}: {100 * accuracy:.2f} % on validation at {macs / 1e6:.2f} M MACs"


def _seconds(theirs: Sequence[Candidate]) -> str:
    train, tune = (sum(getattr(each, name) for each in theirs) / len(theirs) for name in ("train_s", "tune_s"))
    return f"{train:.0f} s of training and {tune:.0f} s of thresholds each"


def _spent(found: Searched) -> str:
    return f"{len(found.trials)} in {found.trials_s:.0f} s; the whole search {found.total_s:.0f} s"
