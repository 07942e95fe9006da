"""Results that nobody trained."""

from __future__ import annotations

from pathlib import Path

from aebnas.comparing.compare import Comparison
from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.pricing import Prices
from aebnas.comparing.results import Point, Result, StaticResult
from aebnas.exits.costs import Reduction
from aebnas.experiment import Experiment

# What the comparisons of the tests train.
VARIANTS = ("disjoint", "joint", "mixed", "joint:confidence=margin", "cgt-soft", "calex", "sequential:protection=ewc")
# One branch: leaving there costs 40, going on 110, the backbone alone 100.
PRICES = Prices({(False,): (float("nan"), 100.0), (True,): (40.0, 110.0)}, 100.0, (40.0,), Reduction())


def point(accuracy: float, cost: float, *, test: float | None = None, test_cost: float | None = None) -> Point:
    """A policy that does on test what it does on validation, unless told otherwise."""
    return Point((0.5,), accuracy, cost, accuracy if test is None else test, cost if test_cost is None else test_cost)


def result(
    name: str,
    seed: int,
    points: list[Point],
    *,
    eefp: float = 0.8,
    ece: float = 0.1,
    forgetting: tuple[tuple[float, float], ...] | None = None,
) -> Result:
    """A result with these points."""
    diagnostics = {"eefp": eefp, "ece": ece, "auroc": 0.9, "eaurc": 0.01}
    return Result(name, seed, 6, 6, 1.0, (0.8, 0.9), (0.79, 0.89), tuple(points), diagnostics, forgetting)


def comparison(
    results: dict[str, dict[int, Result]], folder: Path, failures: dict[str, str] | None = None
) -> Comparison:
    """A comparison of these results, with static networks of accuracy 0.9 and 0.8 (validation 0.9)."""
    seeds = sorted({seed for found in results.values() for seed in found})
    return Comparison(
        Experiment(),
        (),
        dict.fromkeys(results, PRICES),
        results,
        {
            None: {seed: StaticResult(None, seed, 12, 1.0, 0.9, 0.9) for seed in seeds},
            0: {seed: StaticResult(0, seed, 12, 1.0, 0.8, 0.8) for seed in seeds},
        },
        failures or {},
        ComparisonFolder(folder),
    )
