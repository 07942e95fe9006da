from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.exits.curve import Curve, OperatingPoint
from aebnas.searching.choice import CostLimits
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.loop import Archive

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so what they share must be findable


@pytest.fixture(scope="session")
def evaluation():
    """Make an evaluation whose curve has the given (accuracy, macs, latency_ms) points."""

    def make(points, *, attach="a", failure=None, truncated=(), budget="search", weights=None, shares=None):
        spec = NetworkSpec((BranchSpec(attach),))
        shares = shares or [(0.5, 0.5)] * len(points)
        curve = [
            OperatingPoint((0.5 + number / 128,), accuracy, share, (float(macs), float(latency)))
            for number, ((accuracy, macs, latency), share) in enumerate(zip(points, shares, strict=True))
        ]
        weights = weights or {"branches": [f"{attach}-key"]}
        return Evaluation(
            spec, budget, ("macs", "latency_ms"), Curve(tuple(curve)), tuple(truncated), weights, 1.5, failure
        )

    return make


@pytest.fixture
def archive():
    def make(*evaluations, limits=None, cost="macs"):
        made = Archive(
            StaticPoint(0.9, {"macs": 100.0, "latency_ms": 1.0}),
            cost,
            CostLimits(limits or {}),
        )
        for each in evaluations:
            made.add(each)
        return made

    return make


@pytest.fixture(scope="session")
def dominated():
    """Tell by the definition which rows of (accuracy, *costs) some other row dominates."""

    def tell(rows):
        rows = np.asarray(rows, dtype=float) * ([-1] + [1] * (len(rows[0]) - 1))
        return [any((other <= row).all() and (other < row).any() for other in rows) for row in rows]

    return tell
