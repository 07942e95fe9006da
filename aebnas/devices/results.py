"""What a device answers: measurements of blocks, times of their nodes, runs of whole networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """What one block takes at batch 1, with warm caches.

    ``latency_ms`` is the 20 % quantile over visits (what it takes when nothing interferes), ``low_ms`` and ``high_ms``
    its 95 % confidence interval; ``median_ms`` and ``p95_ms`` are over the same visits. ``steady`` says that the
    interval became as narrow as the profile asks for. ``yardstick_ms`` is what a fixed small network took in the same
    rounds: the speed of the machine at that time. ``peak_memory_mib`` is the arena's. ``energy_mj`` is per run, and
    ``energy_source`` says where it comes from: the name of a sensor, or ``profile`` for active power x time.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    median_ms: float
    p95_ms: float
    runs: int
    steady: bool
    yardstick_ms: float
    peak_memory_mib: float | None = None
    energy_mj: float | None = None
    energy_source: str | None = None

    def at_speed(self, yardstick_ms: float) -> Measurement:
        """Return what the block takes when the machine is as fast as when the yardstick took ``yardstick_ms``."""
        factor = yardstick_ms / self.yardstick_ms
        return replace(
            self,
            latency_ms=self.latency_ms * factor,
            low_ms=self.low_ms * factor,
            high_ms=self.high_ms * factor,
            median_ms=self.median_ms * factor,
            p95_ms=self.p95_ms * factor,
            yardstick_ms=yardstick_ms,
            energy_mj=None if self.energy_mj is None else self.energy_mj * factor,
        )


@dataclass(frozen=True)
class NodeTime:
    """One node of a model, in microseconds: the mean of the middle half of its profiled runs.

    Shapes are as onnxruntime reports them.
    """

    name: str
    op: str
    us: float
    provider: str
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class NodeProfile:
    """Where the time of one model goes.

    Profiling slows a model down, so ``nodes`` only say how its time is shared out; ``wall_us`` is what it takes with
    profiling off.
    """

    nodes: tuple[NodeTime, ...]
    wall_us: float
    peak_memory_mib: float | None

    @property
    def inflation(self) -> float:
        """The sum of the profiled node times over the wall-clock time without profiling."""
        return sum(node.us for node in self.nodes) / self.wall_us

    def us_by_operator(self) -> dict[str, float]:
        """Return the microseconds of each operator type, scaled to the wall-clock time, the largest first."""
        total: dict[str, float] = defaultdict(float)
        for node in self.nodes:
            total[node.op] += node.us
        factor = self.wall_us / (sum(total.values()) or 1.0)
        return {op: us * factor for op, us in sorted(total.items(), key=lambda item: -item[1])}


@dataclass(frozen=True)
class RunResult:
    """A network run on many inputs: ``latency_ms`` float64 (N,), and the outputs that were asked for, (N, ...)."""

    latency_ms: np.ndarray
    outputs: dict[str, np.ndarray]

    def slower(self, factors: np.ndarray) -> RunResult:
        """Return the result of a machine on which every input takes ``factors`` (N,) times as long."""
        return replace(self, latency_ms=self.latency_ms * factors)


def node_profile(event: Mapping[str, Any]) -> NodeProfile:
    """Return what an agent answers to ``nodes``."""
    nodes = tuple(
        NodeTime(
            name=node["name"],
            op=node["op"],
            us=float(node["us"]),
            provider=node["provider"],
            input_shapes=tuple(map(tuple, node["input_shapes"])),
            output_shapes=tuple(map(tuple, node["output_shapes"])),
        )
        for node in event["nodes"]
    )
    return NodeProfile(nodes, wall_us=float(event["wall_us"]), peak_memory_mib=event["peak_memory_mib"])


def run_result(event: Mapping[str, Any]) -> RunResult:
    """Return what an agent answers to ``run``."""
    outputs = {name: np.asarray(values) for name, values in event["outputs"].items()}
    return RunResult(np.asarray(event["latency_ms"], dtype=np.float64), outputs)


@dataclass(frozen=True)
class Facts:
    """What a target says about itself; None is what is not there.

    ``runtime_problem`` says why numpy or onnxruntime cannot be used.
    """

    python: str
    numpy: str | None
    onnxruntime: str | None
    runtime_problem: str | None
    providers: tuple[str, ...]
    machine: str
    cores: int
    memory_mib: float | None
    free_disk_mib: float | None
    governor: str | None
    sensor: str | None


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at on a target: whether it will do, what was found, and what to do about it."""

    what: str
    ok: bool
    text: str
    fix: str = ""
