"""Latency of ONNX blocks on the machine this runs on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aebnas.devices.target.session import RUNTIME_ERRORS, open_session, random_feeds

_MIN_ROUNDS = 5


class BlockError(RuntimeError):
    """A block that onnxruntime refuses to load or to run; the message names it."""


@dataclass(frozen=True)
class Measurement:
    """Batch-1 latency of one block: the 20 % quantile, the median and the 95 % quantile over ``runs`` runs."""

    latency_ms: float
    median_ms: float
    p95_ms: float
    runs: int


def measure_blocks(
    models: Mapping[str, bytes],
    *,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    rounds: int = 50,
    runs_per_visit: int = 3,
    warm_up: int = 10,
    budget_s: float = 20.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measurement]:
    """Measure every block with batch 1, profiling off, after a warm-up and in interleaved rounds.

    Each round visits all blocks in a new order and runs each a few times in a row, so that a slow moment of the
    machine falls on all of them. Inputs are random, of the shapes the model declares.

    Args:
        models: Serialised ONNX models by name.
        threads: Threads inside one operator.
        provider: An onnxruntime execution provider.
        rounds: Rounds at most.
        runs_per_visit: Runs of a block in a row. The first finds the caches as the other blocks left them, the next
            ones as a network that runs again and again finds them.
        warm_up: Runs of each block that are not counted.
        budget_s: No round starts after this many seconds of measuring, once a few are done.
        clock: Seconds, monotonic.

    Raises:
        BlockError: onnxruntime cannot load or run a block.
    """
    calls = {name: _prepare(name, model, threads, provider) for name, model in models.items()}
    for name, call in calls.items():
        _warm_up(name, call, warm_up)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = np.random.default_rng(0).shuffle
    end = clock() + budget_s
    for done in range(rounds):
        if done >= _MIN_ROUNDS and clock() > end:
            break
        shuffle(order)
        for name in order:
            call, samples = calls[name], times_s[name]
            for _ in range(runs_per_visit):
                start = clock()
                call()
                samples.append(clock() - start)
    return {name: _summary(samples) for name, samples in times_s.items()}


def _prepare(name: str, model: bytes, threads: int, provider: str) -> Callable[[], Any]:
    try:
        session = open_session(model, threads=threads, provider=provider, batch=1)
    except RUNTIME_ERRORS as error:
        raise BlockError(f"onnxruntime cannot load block {name!r}: {error}") from error
    feeds = random_feeds(session)
    outputs = [output.name for output in session.get_outputs()]
    return lambda: session.run(outputs, feeds)


def _warm_up(name: str, call: Callable[[], Any], runs: int) -> None:
    try:
        for _ in range(max(runs, 1)):
            call()
    except RUNTIME_ERRORS as error:
        raise BlockError(f"onnxruntime cannot run block {name!r}: {error}") from error


def _summary(times_s: list[float]) -> Measurement:
    low, median, high = (float(value) * 1e3 for value in np.quantile(times_s, [0.2, 0.5, 0.95]))
    return Measurement(latency_ms=low, median_ms=median, p95_ms=high, runs=len(times_s))
