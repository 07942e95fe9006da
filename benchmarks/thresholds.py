"""How fast thresholds are solved, against trying every combination in a plain Python loop over the samples.

The reference is the procedure of AEBNAS's public code (arXiv 2512.10671): the full grid {0.1, 0.2, ..., 1}^exits,
1 = exit off, score = accuracy% - 0.1 * 100 * |M - T| / T.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from aebnas.exits.tuning import OperatingPoint, Target, evaluate_thresholds, solve, tune

SAMPLES, BRANCHES, GRID = 5_000, 4, 20
REFERENCE_VALUES = tuple(float(np.float32(step / 10)) for step in range(1, 10))
QUICK_COMBINATIONS = 25
SEGMENT_MACS_M = (6.0, 5.5, 5.0, 5.5, 9.0)
BRANCH_MACS_M = (0.6, 0.5, 0.5, 0.4)
SEGMENT_LATENCY_MS = (0.21, 0.12, 0.15, 0.11, 0.30)
BRANCH_LATENCY_MS = (0.06, 0.06, 0.05, 0.05)
# Between the first exit and the backbone, where a policy has to mix exits.
TARGET = Target(18.0, rule="two-sided")

Thresholds = tuple[float | None, ...]


@dataclass(frozen=True)
class Outputs:
    """What a network's exits say about every sample: ``confidences`` (K, N) float32 and ``correct`` (K+1, N) bool."""

    confidences: NDArray[np.float32]
    correct: NDArray[np.bool_]


def simulate(samples: int, branches: int, *, classes: int = 10, seed: int = 0) -> Outputs:
    """Draw logits whose noise is shared between exits and larger for hard samples; later exits see more signal."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    shared = generator.normal(size=(samples, classes)) * generator.exponential(0.9, samples)[:, None]
    confidences, correct = [], []
    for step in range(1, branches + 2):
        logits = shared + generator.normal(size=(samples, classes)) * 0.5
        logits[np.arange(samples), labels] += 2.0 + 3.0 * step / (branches + 1)
        scaled = np.exp(1.5 * (logits - logits.max(axis=1, keepdims=True)))
        top = np.sort(scaled / scaled.sum(axis=1, keepdims=True), axis=1)
        confidences.append(top[:, -1] - top[:, -2])
        correct.append(logits.argmax(axis=1) == labels)
    return Outputs(np.array(confidences[:-1], dtype=np.float32), np.array(correct))


def costs_of(*kinds: tuple[tuple[float, ...], tuple[float, ...]]) -> Callable[[tuple[bool, ...]], NDArray[np.float64]]:
    """Return mask -> exit costs (n_costs, K+1) for (segment costs, branch costs) of each kind of cost."""

    def cost_of(mask: tuple[bool, ...]) -> NDArray[np.float64]:
        on = np.array([*mask, False])
        return np.array([np.cumsum(segments) + np.cumsum([*heads, 0.0] * on) for segments, heads in kinds])

    return cost_of


MACS = costs_of((SEGMENT_MACS_M, BRANCH_MACS_M))
MACS_AND_LATENCY = costs_of((SEGMENT_MACS_M, BRANCH_MACS_M), (SEGMENT_LATENCY_MS, BRANCH_LATENCY_MS))


class Reference:
    """The reference's procedure: for one combination, a loop over the samples and, in it, over the exits."""

    def __init__(self, outputs: Outputs) -> None:
        self._rows = list(zip(outputs.confidences.T.tolist(), outputs.correct.T.tolist(), strict=True))

    def score(self, thresholds: Thresholds) -> float:
        """Return accuracy% - 0.1 * 100 * |M - T| / T of one combination."""
        costs = MACS(tuple(threshold is not None for threshold in thresholds))[0].tolist()
        right, macs_m = 0, 0.0
        for confidences, correct in self._rows:
            leave = len(thresholds)
            for exit_index, threshold in enumerate(thresholds):
                if threshold is not None and confidences[exit_index] >= threshold:
                    leave = exit_index
                    break
            right += correct[leave]
            macs_m += costs[leave]
        mean = macs_m / len(self._rows)
        return 100.0 * right / len(self._rows) - 0.1 * 100.0 * abs(mean - TARGET.cost) / TARGET.cost


def score_of(point: OperatingPoint) -> float:
    """Return the reference's score of one operating point."""
    return float(TARGET.scores(np.array([point.accuracy]), np.array(point.costs)[:, None])[0])


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median wall-clock time of ``work`` after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def run_reference(outputs: Outputs, *, quick: bool) -> tuple[float, float]:
    """Return the reference's best score and its seconds per combination.

    ``quick`` times a few combinations; the rest of the grid is then scored one by one without the loop over samples.
    """
    reference = Reference(outputs)
    combinations = list(itertools.product((*REFERENCE_VALUES, None), repeat=len(outputs.confidences)))
    timed = random.Random(0).sample(combinations, QUICK_COMBINATIONS) if quick else combinations
    start = time.perf_counter()
    scores = [reference.score(combination) for combination in timed]
    per_combination = (time.perf_counter() - start) / len(timed)
    if quick:
        points = (evaluate_thresholds(outputs.confidences, outputs.correct, MACS, one) for one in combinations)
        scores += [score_of(point) for point in points]
    return max(scores), per_combination


def benchmark(outputs: Outputs, *, quick: bool) -> tuple[dict[str, float | bool], list[tuple[str, str]]]:
    """Return the figures for the JSON file, and the rows of the table."""
    confidences, correct = outputs.confidences, outputs.correct
    branches = len(confidences)
    repeats = 5 if quick else 25
    grids = [np.array(REFERENCE_VALUES)] * branches
    combinations = (len(REFERENCE_VALUES) + 1) ** branches

    best, per_combination = run_reference(outputs, quick=quick)
    ours = solve(confidences, correct, MACS, TARGET, grids=grids)
    finer = solve(confidences, correct, MACS, TARGET, grid=GRID)
    if ours is None or finer is None:
        raise RuntimeError("a two-sided target without a floor always has a best point")
    ours_s = seconds(lambda: solve(confidences, correct, MACS, TARGET, grids=grids), repeats)
    curve_s = seconds(lambda: tune(confidences, correct, MACS, grid=GRID), repeats)
    two_costs_s = seconds(lambda: tune(confidences, correct, MACS_AND_LATENCY, grid=GRID), repeats)
    descent_s = seconds(lambda: tune(confidences, correct, MACS, grid=GRID, max_cells=1), repeats)

    figures: dict[str, float | bool] = {
        "speedup_per_combination": per_combination / (ours_s / combinations),
        # Sums in another order differ in their last digits.
        "same_winner": abs(best - score_of(ours)) < 1e-9,
        "score_reference": best,
        "score_ours": score_of(ours),
        "curve_ms": 1e3 * curve_s,
    }
    rows = [
        ("reference, one combination", f"{1e6 * per_combination:,.1f} us"),
        (f"ours, one of {combinations:,} combinations", f"{1e6 * ours_s / combinations:,.3f} us"),
        ("speed-up per combination", f"{figures['speedup_per_combination']:,.0f} x"),
        ("best score, reference", f"{best:.4f}"),
        ("best score, ours, same grid", f"{score_of(ours):.4f}"),
        ("same winner by that score", "yes" if figures["same_winner"] else "NO"),
        (f"best score, ours, {GRID} quantiles", f"{score_of(finer):.4f}"),
        (f"whole curve, {GRID}^{branches}, 1 cost", f"{1e3 * curve_s:.1f} ms"),
        (f"whole curve, {GRID}^{branches}, 2 costs", f"{1e3 * two_costs_s:.1f} ms"),
        ("whole curve, coordinate descent, 1 cost", f"{1e3 * descent_s:.1f} ms"),
    ]
    return figures, rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="time the reference on a few combinations only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    arguments = parser.parse_args()
    figures, rows = benchmark(simulate(SAMPLES, BRANCHES), quick=arguments.quick)
    table = Table("figure", "value", title=f"thresholds: {SAMPLES:,} samples, {BRANCHES} branches")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
