"""Whole networks on real inputs, one input at a time, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NetworkTimes:
    """What one network took and gave: ``times_s`` float64 (repeats, N), and its outputs input by input."""

    times_s: np.ndarray
    outputs: list[Any]

    @property
    def latency_ms(self) -> np.ndarray:
        """Milliseconds per input, float64 (N,): the median over the repeats."""
        median_ms: np.ndarray = np.median(self.times_s, axis=0) * 1e3
        return median_ms


def time_networks(
    runs: Mapping[str, Callable[[np.ndarray], Any]],
    inputs: np.ndarray,
    *,
    repeats: int = 3,
    burst: int = 16,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NetworkTimes]:
    """Run every network on every input, with batch 1, in interleaved bursts.

    The networks take turns, in a new order for each stretch of inputs, so that a slow moment of the machine falls on
    all of them. A turn is one run that is not recorded, because it finds the caches as another network left them, and
    then ``burst`` inputs in a row.

    Args:
        runs: By name, what runs a network on one input, float32 (1, ...).
        inputs: (N, ...).
        repeats: Times that each input is run; its first outputs are kept.
        burst: Inputs in a row.
        clock: Seconds, monotonic.

    Raises:
        Whatever one of ``runs`` raises.
    """
    times_s = {name: np.zeros((repeats, len(inputs))) for name in runs}
    outputs: dict[str, list[Any]] = {name: [None] * len(inputs) for name in runs}
    shuffle = np.random.default_rng(0).shuffle
    order = list(runs)
    for repeat in range(repeats):
        for start in range(0, len(inputs), burst):
            shuffle(order)
            for name in order:
                run = runs[name]
                run(inputs[start : start + 1])
                for number in range(start, min(start + burst, len(inputs))):
                    sample = inputs[number : number + 1]
                    begin = clock()
                    result = run(sample)
                    times_s[name][repeat, number] = clock() - begin
                    if repeat == 0:
                        outputs[name][number] = result
    return {name: NetworkTimes(times_s[name], outputs[name]) for name in runs}
