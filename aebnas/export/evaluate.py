"""Accuracy, exit shares and latency of an exported network, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aebnas.errors import InputError
from aebnas.export.session import EarlyExitSession


@dataclass(frozen=True)
class Latency:
    """Milliseconds per sample, batch 1."""

    mean: float
    p50: float
    p95: float


@dataclass(frozen=True)
class EvaluationResult:
    """What ``aebnas evaluate`` reports; accuracies and shares are fractions, ``speedup`` is the ratio of the means."""

    samples: int
    accuracy: float
    exit_shares: tuple[float, ...]
    latency_ms: Latency
    backbone_accuracy: float
    backbone_latency_ms: Latency
    speedup: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {**asdict(self), "exit_shares": list(self.exit_shares)}


def evaluate_export(
    folder: str | Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    threads: int | None = None,
    provider: str | None = None,
    limit: int | None = None,
    warm_up: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> EvaluationResult:
    """Run the exported network in ``folder`` and its static backbone on ``images``, one sample at a time.

    The two take turns sample by sample, and turns at going first, so that a slow moment of the machine falls on both.
    Profiling is off; preprocessing is not timed, and neither is picking the backbone's label from its logits. Samples
    come in one fixed random order, so that the first few hold all classes even where the data are sorted by class.

    Args:
        folder: What ``aebnas export`` wrote.
        images: (N, C, H, W), uint8 (raw) or float32 (preprocessed).
        labels: Integers (N,).
        threads: Threads inside one operator; the manifest's number when None.
        provider: An onnxruntime execution provider; the manifest's when None.
        limit: Only so many samples, drawn over all of them and the same in every call.
        warm_up: Runs of both before the clock counts.
        clock: Seconds, monotonic.

    Raises:
        InputError: images or labels have the wrong dtype or shape, there are none, or the limit is below 1.
        RunError: a file of the export is missing or damaged.
    """
    session = EarlyExitSession(folder, threads=threads, provider=provider)
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype} {labels.shape}: give one integer for each of {len(images)} images")
    if not len(images):
        raise InputError("there are no images to evaluate: give at least one")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}")
    order = np.random.default_rng(0).permutation(len(images))[:limit]
    count, labels = len(order), labels[order]
    runs = (session.run_single, session.backbone_single)
    for index in range(warm_up):
        # Different samples, so that what lies behind the exits gets warm, too.
        sample = session.prepare(images[order[index % count]][None])
        for run in runs:
            run(sample)

    times_s = np.empty((count, 2))
    outputs: list[list[Any]] = [[], []]
    for turn, index in enumerate(order):
        # One at a time, for all of them as float32 may not fit in memory.
        sample = session.prepare(images[index][None])
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            start = clock()
            output = runs[which](sample)
            times_s[turn, which] = clock() - start
            outputs[which].append(output)
    predicted = np.concatenate([prediction.labels for prediction in outputs[0]])
    exits = np.concatenate([prediction.exits for prediction in outputs[0]])
    static = np.concatenate(outputs[1]).argmax(axis=1)
    means_s = times_s.mean(axis=0)
    return EvaluationResult(
        samples=count,
        accuracy=float((predicted == labels).mean()),
        exit_shares=tuple(float((exits == number).mean()) for number in range(session.num_exits)),
        latency_ms=_latency(times_s[:, 0]),
        backbone_accuracy=float((static == labels).mean()),
        backbone_latency_ms=_latency(times_s[:, 1]),
        speedup=float(means_s[1] / means_s[0]),
    )


def _latency(times_s: np.ndarray) -> Latency:
    median, high = np.quantile(times_s, [0.5, 0.95])
    return Latency(mean=float(times_s.mean()) * 1e3, p50=float(median) * 1e3, p95=float(high) * 1e3)
