"""Peak memory of a whole search, all its processes together, beyond its budget for features."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aebnas.experiment import Experiment
from benchmarks.launch import run_search, start_run
from benchmarks.section import Section

LIMIT_GIB = 1.5


@dataclass(frozen=True)
class MemoryPlan:
    """What is searched.

    Args:
        backbone: The folder with the trained backbone of ``experiment``.
        budgets_gib: Values of ``cache_gib``.
        options: Keys of the experiment that make it short: memory does not depend on how long a search is.
    """

    experiment: Experiment
    backbone: Path
    budgets_gib: tuple[float, ...]
    options: Mapping[str, Any]
    workers: int


def measure_memory(plan: MemoryPlan, home: Path) -> Section:
    """Search with every budget and say what all processes took beyond it."""
    beyond: dict[float, float] = {}
    rows = []
    for budget in plan.budgets_gib:
        folder = home / f"memory-{budget:g}"
        chosen = plan.experiment.override({**plan.options, "cache_gib": budget})
        start_run(chosen, folder, plan.backbone)
        found = run_search(chosen, folder, workers=plan.workers, threads=plan.workers, memory=True)
        assert found.peak_gib is not None
        beyond[budget] = found.peak_gib - budget
        rows.append(
            (f"peak memory at cache_gib {budget:g}, {plan.workers} workers", f"{found.peak_gib:.2f} GiB in all")
        )
        shutil.rmtree(folder)  # gigabytes of features
    worst = max(beyond.values())
    rows.append(("most beyond a budget", f"{worst:+.2f} GiB (allowed: {LIMIT_GIB})"))
    return Section(
        {
            "peak_memory_over_budget_gib": worst,
            **{f"peak_memory_over_budget_gib_at_{budget:g}": value for budget, value in beyond.items()},
        },
        rows,
    )
