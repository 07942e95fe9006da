"""How fast thresholds are solved, against trying every combination in a plain Python loop over the samples.

The reference is the procedure of AEBNAS's public code (arXiv 2512.10671): a full grid, {0.1, 0.2, 1}^exits there and
{0.1, 0.2, ..., 1}^exits here beside it, 1 = exit off, score = accuracy% - 0.1 * 100 * |M - T| / T. We are asked for the
best of the same grids, for the best that we find by ourselves, and for our whole curve.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from aebnas.exits.tuning import Curve, OperatingPoint, Target, evaluate_thresholds, solve, tune
from benchmarks.threshold_loop import PUBLIC_GRID, TEN_VALUES, ThresholdLoop, Thresholds

SAMPLES, BRANCHES, GRID = 5_000, 4, 20
QUICK_COMBINATIONS = 25
SEGMENT_MACS_M = (6.0, 5.5, 5.0, 5.5, 9.0)
BRANCH_MACS_M = (0.6, 0.5, 0.5, 0.4)
SEGMENT_LATENCY_MS = (0.21, 0.12, 0.15, 0.11, 0.30)
BRANCH_LATENCY_MS = (0.06, 0.06, 0.05, 0.05)
# Between the first exit and the backbone, where a policy has to mix exits.
TARGET = Target(18.0, rule="two-sided")


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


@dataclass(frozen=True)
class Compared:
    """The best of one grid: the reference's score, whether we find the same winner, seconds of both."""

    score: float
    same_winner: bool
    reference_s: float
    ours_s: float
    combinations: int

    @property
    def speedup(self) -> float:
        """Time of the reference for one combination over ours."""
        return self.reference_s / self.ours_s


def compare(outputs: Outputs, values: Sequence[float], *, quick: bool, repeats: int) -> Compared:
    """Let both find the best combination of ``values`` and "off"; seconds are those of one combination.

    ``quick`` times the reference's loop on a few combinations; all are then scored without a loop over the samples.
    """
    loop = ThresholdLoop(outputs.confidences, outputs.correct, MACS, TARGET.cost)
    combinations = loop.combinations(values)
    timed = random.Random(0).sample(combinations, QUICK_COMBINATIONS) if quick else combinations
    start = time.perf_counter()
    best, winner = loop.best(timed)
    reference_s = (time.perf_counter() - start) / len(timed)
    if quick:
        points = [evaluate_thresholds(outputs.confidences, outputs.correct, MACS, one) for one in combinations]
        best, winner = max(zip(map(score_of, points), combinations, strict=True), key=lambda pair: pair[0])
    grids = [np.array(values)] * len(outputs.confidences)

    def solve_grid() -> OperatingPoint | None:
        return solve(outputs.confidences, outputs.correct, MACS, TARGET, grids=grids)

    ours = _some(solve_grid())
    # Of combinations that score alike, any is the winner: the reference's own loop says what ours is worth. Sums in
    # another order differ in their last digits.
    same = ours.thresholds == winner or abs(loop.score(_plain(ours)) - best) < 1e-9
    ours_s = seconds(solve_grid, repeats) / len(combinations)
    return Compared(best, same, reference_s, ours_s, len(combinations))


def _plain(point: OperatingPoint) -> Thresholds:
    assert all(threshold is None or isinstance(threshold, float) for threshold in point.thresholds)
    return cast(Thresholds, point.thresholds)


def _some(point: OperatingPoint | None) -> OperatingPoint:
    if point is None:
        raise RuntimeError("a two-sided target without a floor always has a best point")
    return point


def benchmark(outputs: Outputs, *, quick: bool) -> tuple[dict[str, float | bool], list[tuple[str, str]]]:
    """Return the figures for the JSON file, and the rows of the table."""
    confidences, correct = outputs.confidences, outputs.correct
    repeats = 5 if quick else 25
    public = compare(outputs, PUBLIC_GRID, quick=quick, repeats=repeats)
    ten = compare(outputs, TEN_VALUES, quick=quick, repeats=repeats)

    def solve_freely() -> OperatingPoint | None:
        return solve(confidences, correct, MACS, TARGET, grid=GRID)

    def curve() -> Curve:
        return tune(confidences, correct, MACS, grid=GRID)

    ours, of_curve = score_of(_some(solve_freely())), score_of(_some(curve().best(TARGET)))
    solve_s, curve_s = seconds(solve_freely, repeats), seconds(curve, repeats)
    two_costs_s = seconds(lambda: tune(confidences, correct, MACS_AND_LATENCY, grid=GRID), repeats)
    descent_s = seconds(lambda: tune(confidences, correct, MACS, grid=GRID, max_cells=1), repeats)
    own_grid = (GRID + 1) ** len(confidences)

    figures: dict[str, float | bool] = {
        "speedup_per_combination": ten.speedup,
        "speedup_per_combination_public_grid": public.speedup,
        "speedup_per_combination_curve": ten.reference_s / (curve_s / own_grid),
        "same_winner": public.same_winner and ten.same_winner,
        "score_reference": ten.score,
        "score_reference_public_grid": public.score,
        "score_ours": ours,
        "score_curve": of_curve,
        "solve_ms": 1e3 * solve_s,
        "curve_ms": 1e3 * curve_s,
    }
    rows = [("reference, one combination", f"{1e6 * ten.reference_s:,.1f} us")]
    for name, grid in (("its grid", public), ("10 values", ten)):
        rows += [
            (f"ours, one of {grid.combinations:,} combinations ({name})", f"{1e6 * grid.ours_s:,.3f} us"),
            (f"speed-up per combination ({name})", f"{grid.speedup:,.0f} x"),
            (f"best score ({name})", f"{grid.score:.4f}"),
            (f"same winner ({name})", "yes" if grid.same_winner else "NO"),
        ]
    rows += [
        (f"ours, one of {own_grid:,} combinations (whole curve)", f"{1e6 * curve_s / own_grid:,.3f} us"),
        ("speed-up per combination (whole curve)", f"{figures['speedup_per_combination_curve']:,.0f} x"),
        ("best score, ours, asked for it", f"{ours:.4f}"),
        ("best score, ours, on the whole curve", f"{of_curve:.4f}"),
        ("asked for the best score", f"{1e3 * solve_s:.1f} ms"),
        (f"whole curve, {GRID}^{len(confidences)}, 1 cost", f"{1e3 * curve_s:.1f} ms"),
        (f"whole curve, {GRID}^{len(confidences)}, 2 costs", f"{1e3 * two_costs_s:.1f} ms"),
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
