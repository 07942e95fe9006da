"""What an early-exit graph takes beyond the blocks that it executes, fitted on a few real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Weight of the prior (sums are right as they are) against one path: paths are known to about 0.5 %, the prior to 5 %.
_PRIOR = 0.1
# What lies this many standard deviations out was disturbed while it was measured.
_OUTLIER, _TO_SIGMA = 4.0, 1.4826
# Relative errors below this are all alike.
_TIGHT, _ROUNDS = 0.002, 20
# For nine of ten: 1.645 would do if the spread were known; fitted on a few paths, it tends to be too small.
_WIDTH = 2.0


@dataclass(frozen=True)
class MeasuredPath:
    """A real early-exit graph that was run: always to the same exit, or to several in turn (then all are means).

    Args:
        blocks_ms: Sum over the blocks that were executed, each beyond the empty graph.
        gates: Decisions that were taken (``If`` nodes).
        final: Share of the runs that left at the final exit.
        measured_ms: What a run typically took (median, or mean of the exits' medians).
        switches: How often, per run, it went on behind an exit where the run before had left: the sum over the exits of
            p x (1 - p), p the share of runs that go on behind them.
    """

    blocks_ms: float
    gates: float
    final: float
    measured_ms: float
    switches: float = 0.0


@dataclass(frozen=True)
class Overhead:
    """Latency of a path = base + scale * sum of its blocks + gate * decisions taken + final at the final exit, in ms.

    A mean over runs takes ``switch`` more whenever one goes on behind an exit where the run before had left.

    ``base`` is what starting a session run costs; ``scale`` stands for caches that are fuller in a whole network than
    around one block, and for typical runs being slower than the quick ones that blocks are measured by; ``gate`` is an
    ``If`` with its subgraph and the comparison; softmax and confidence are part of every measured branch.

    Args:
        spread: Relative standard deviation of real graphs around the formula; 0 where nothing was fitted.
        paths: How many real graphs it was fitted on.
        gate_mib: What a decision adds to the size of the file.
        switch_ms: What going on behind an exit takes more when the run before had left there: caches.
    """

    base_ms: float
    scale: float = 1.0
    gate_ms: float = 0.0
    final_ms: float = 0.0
    spread: float = 0.0
    paths: int = 0
    gate_mib: float = 0.0
    switch_ms: float = 0.0

    def latency_ms(self, blocks_ms: float, gates: int, final: bool) -> float:
        """Return the latency of one path."""
        return self.base_ms + self.scale * blocks_ms + self.gate_ms * gates + self.final_ms * final

    @property
    def relative_half(self) -> float:
        """Half the width of the interval of a prediction, as a share of it."""
        return _WIDTH * self.spread

    def interval(self, latency_ms: float) -> tuple[float, float]:
        """Return the range that nine of ten networks with this prediction are expected to lie in."""
        half = self.relative_half * latency_ms
        return max(0.0, latency_ms - half), latency_ms + half


def fit_overhead(empty_ms: float, paths: Sequence[MeasuredPath]) -> Overhead:
    """Fit the overhead to measured paths, by relative least squares with a weak prior at ``empty_ms`` and plain sums.

    Paths that lie far out (a disturbance while they were measured) are left out of a second fit. The spread comes from
    leaving out one path at a time, so that a few paths do not look more certain than they are.
    """
    if not paths:
        return Overhead(base_ms=empty_ms)
    solution = _robust(empty_ms, paths)
    errors = np.abs(_errors(solution, paths))
    near = errors <= max(_OUTLIER * _TO_SIGMA * float(np.median(errors)), _TIGHT)
    kept = [path for path, is_near in zip(paths, near, strict=True) if is_near]
    base, scale, gate, final, switch = _solve(empty_ms, kept, np.ones(len(kept))).tolist()
    spread = _spread(empty_ms, kept)
    return Overhead(base, scale, gate, final, spread, len(kept), switch_ms=max(0.0, switch))


def _robust(empty_ms: float, paths: Sequence[MeasuredPath]) -> npt.NDArray[np.float64]:
    """Fit by the sum of absolute relative errors, so that a path that lies far out does not pull the others along."""
    solution = _solve(empty_ms, paths, np.ones(len(paths)))
    for _ in range(_ROUNDS):
        errors = np.abs(_errors(solution, paths))
        solution = _solve(empty_ms, paths, 1 / np.sqrt(np.maximum(errors, _TIGHT) / _TIGHT))
    return solution


def _spread(empty_ms: float, paths: Sequence[MeasuredPath]) -> float:
    """Return the relative standard deviation of paths around a formula that was fitted on the others."""
    if len(paths) == 1:
        return abs(float(_errors(_solve(empty_ms, paths, np.ones(1)), paths)[0]))
    errors = []
    for number, path in enumerate(paths):
        others = [*paths[:number], *paths[number + 1 :]]
        errors.append(_errors(_solve(empty_ms, others, np.ones(len(others))), [path])[0])
    return float(np.sqrt(np.mean(np.square(errors))))


def _solve(empty_ms: float, paths: Sequence[MeasuredPath], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    measured = np.array([path.measured_ms for path in paths])
    typical = float(np.median(measured))
    # Every deviation counts relative to what it is part of; those from the prior are rows of their own.
    prior = np.diag([1 / typical, 1.0, 1 / typical, 1 / typical, 1 / typical]) * _PRIOR
    system = np.vstack([_design(paths) * (weights / measured)[:, None], prior])
    wanted = np.concatenate([weights, prior @ np.array([empty_ms, 1.0, 0.0, 0.0, 0.0])])
    solution: npt.NDArray[np.float64] = np.linalg.lstsq(system, wanted, rcond=None)[0]
    return solution


def _design(paths: Sequence[MeasuredPath]) -> npt.NDArray[np.float64]:
    return np.array([[1.0, path.blocks_ms, path.gates, path.final, path.switches] for path in paths])


def _errors(solution: npt.NDArray[np.float64], paths: Sequence[MeasuredPath]) -> npt.NDArray[np.float64]:
    measured = np.array([path.measured_ms for path in paths])
    errors: npt.NDArray[np.float64] = _design(paths) @ solution / measured - 1.0
    return errors
