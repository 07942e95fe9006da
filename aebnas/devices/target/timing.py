"""The protocol: blocks that run warm, in shuffled interleaved rounds, until each is known well enough."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from aebnas.devices.target.quantiles import interval

_QUANTILE = 0.2
GROUP_SIZE = 24
_MIN_VISITS = 15
_RUNS_PER_VISIT = 3
_CHECK_EVERY = 5
_WARM_UP_MIN, _WARM_UP_MAX, _WARM_UP_S = 5, 50, 1.0
_WARM_UP_SHARE = 0.25  # of the time limit, so that slow blocks still get rounds
_STABLE = 0.05


@dataclass(frozen=True)
class Timing:
    """Batch-1 latency of one block.

    Attributes:
        latency_ms: What a visit takes when nothing interferes: the 20 % quantile over the visits' medians.
        low_ms: Lower end of its 95 % confidence interval.
        high_ms: Upper end of it.
        median_ms: Median over all recorded runs.
        p95_ms: 95 % quantile over all recorded runs.
        runs: Recorded runs.
        steady: Whether half the interval is within the precision that was asked for.
        yardstick_ms: What the yardstick took in the same rounds, as ``latency_ms``.
        yardstick_spread_pct: Width of the middle 80 % of the yardstick's visits in these rounds, in per cent of their
            median: by how much this machine varies.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    median_ms: float
    p95_ms: float
    runs: int
    steady: bool
    yardstick_ms: float
    yardstick_spread_pct: float


class BlockFailed(Exception):
    """A block's call raised while it was timed; ``name`` says which, ``__cause__`` what."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def groups(names: Sequence[str], size: int = GROUP_SIZE) -> list[list[str]]:
    """Split ``names``, in order, into as few lists of nearly equal length as hold at most ``size`` each.

    More blocks than that in one round would find their weights gone from the last cache at every visit, and would all
    wait for the slowest to become steady.
    """
    count = -(-len(names) // size)
    return [list(names[len(names) * k // count : len(names) * (k + 1) // count]) for k in range(count)]


def time_blocks(
    calls: Mapping[str, Callable[[], object]],
    *,
    yardstick: Callable[[], object],
    precision_pct: float,
    time_limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time one group of blocks, which should be at most ``GROUP_SIZE``.

    Every block is warmed up until it is stable. Then each round visits the yardstick and all blocks that are not
    known well enough in a new order, so that a slow moment of the machine falls on all of them. A visit is one run
    that is not recorded, because it finds the caches as the other blocks left them, and three that are; its median is
    one observation.

    Args:
        calls: By name, what runs a block once.
        yardstick: Runs a fixed network once; it tells slow days and noisy machines apart from slow blocks.
        precision_pct: A block is known well enough when half its confidence interval is at most this many per cent of
            its latency, after at least 15 visits.
        time_limit_s: No visit starts after this many seconds once the first round is done, warm-up included.
        clock: Seconds, monotonic.

    Raises:
        BlockFailed: a call raised.
    """
    end = clock() + time_limit_s
    standard = _Record("the yardstick", yardstick)
    records = [_Record(name, call) for name, call in calls.items()]
    with _no_collection():
        for record in (standard, *records):
            record.warm_up(min(_WARM_UP_S, _WARM_UP_SHARE * time_limit_s / (1 + len(records))), clock)
        _visit_all(records, standard, precision_pct, end, clock)
    return {record.name: _timing(record, standard, precision_pct) for record in records}


@dataclass
class _Record:
    """One block's call and what it took: seconds per recorded run, in visits."""

    name: str
    call: Callable[[], object]
    visits_s: list[list[float]] = field(default_factory=list)

    def warm_up(self, limit_s: float, clock: Callable[[], float]) -> None:
        """Run until the last three runs take as long as the three before them, for about ``limit_s`` at most."""
        end = clock() + limit_s
        taken_s: list[float] = []
        while len(taken_s) < _WARM_UP_MAX and (clock() <= end or not taken_s):
            taken_s.append(self._run(clock))
            before, last = np.median(taken_s[-6:-3] or taken_s), np.median(taken_s[-3:])
            if len(taken_s) >= _WARM_UP_MIN and abs(last - before) <= _STABLE * before:
                return

    def visit(self, clock: Callable[[], float]) -> None:
        """Run once to fill the caches and then record a few runs."""
        self._run(clock)
        self.visits_s.append([self._run(clock) for _ in range(_RUNS_PER_VISIT)])

    def observations(self, visits: int | None = None) -> np.ndarray:
        """Return the sorted medians, in seconds, of the first ``visits`` visits, or of all."""
        return np.sort(np.median(np.array(self.visits_s[:visits]), axis=1))

    def steady(self, precision_pct: float) -> bool:
        """Whether half the confidence interval is at most ``precision_pct`` per cent of the latency."""
        if len(self.visits_s) < _MIN_VISITS:
            return False
        latency, low, high = _estimate(self.observations())
        return (high - low) / 2 <= precision_pct / 100 * latency

    def _run(self, clock: Callable[[], float]) -> float:
        start = clock()
        try:
            self.call()
        except Exception as error:  # whatever a call raises is the block's failure, and the caller's to judge
            raise BlockFailed(self.name) from error
        return clock() - start


def _estimate(ordered: np.ndarray) -> tuple[float, float, float]:
    """Return the 20 % quantile of ``ordered``, which is sorted, and the ends of its 95 % confidence interval."""
    first, last = interval(len(ordered), _QUANTILE)
    return float(np.quantile(ordered, _QUANTILE)), float(ordered[first]), float(ordered[last])


def _visit_all(
    records: Sequence[_Record],
    standard: _Record,
    precision_pct: float,
    end: float,
    clock: Callable[[], float],
) -> None:
    shuffle = np.random.default_rng(0).shuffle
    waiting = list(records)
    for number in itertools.count(1):
        turns = [standard, *waiting]
        shuffle(turns)
        for record in turns:
            if number > 1 and clock() > end:
                return
            record.visit(clock)
        if number % _CHECK_EVERY == 0:
            waiting = [record for record in waiting if not record.steady(precision_pct)]
        if not waiting:
            return


def _timing(record: _Record, standard: _Record, precision_pct: float) -> Timing:
    latency_s, low_s, high_s = _estimate(record.observations())
    recorded_s = np.concatenate(record.visits_s)
    # A block that left the rounds early is compared with the yardstick of its own rounds only.
    yard_s = standard.observations(len(record.visits_s))
    low, middle, high = np.quantile(yard_s, [0.1, 0.5, 0.9])
    return Timing(
        latency_ms=latency_s * 1e3,
        low_ms=low_s * 1e3,
        high_ms=high_s * 1e3,
        median_ms=float(np.median(recorded_s)) * 1e3,
        p95_ms=float(np.quantile(recorded_s, 0.95)) * 1e3,
        runs=len(recorded_s),
        steady=record.steady(precision_pct),
        yardstick_ms=_estimate(yard_s)[0] * 1e3,
        yardstick_spread_pct=float((high - low) / middle) * 100,
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector from running in the middle of a block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
