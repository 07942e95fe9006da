"""Blocks: the pieces of a network that are measured once and then only added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn


@dataclass(frozen=True)
class Block:
    """A module with one input, and the shape (without batch) of that input."""

    module: nn.Module
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ForcedPath:
    """An early-exit network that always leaves at the same exit, to be measured as one graph.

    Args:
        stages: Segment and gated branch of every early exit, in order.
        final: The gated last segment.
        exit: Where it leaves: ``len(stages)`` is the final exit.
    """

    stages: tuple[tuple[Block, Block], ...]
    final: Block
    exit: int


@dataclass(frozen=True)
class Figures:
    """What one graph was measured to cost at batch 1.

    Args:
        size_mib: Of its file.
        latency_ms: Low (20 %) quantile of its runs: what it takes when nothing interferes. None: not measured.
        half_ms: Half the width of that quantile's 95 % confidence interval.
        median_ms: What it typically takes.
        memory_mib: Peak of what the runtime's arena holds while it runs; None where the runtime does not tell.
        energy_mj: Of one run; None where nothing measures it.
    """

    size_mib: float
    latency_ms: float | None = None
    half_ms: float = 0.0
    median_ms: float | None = None
    memory_mib: float | None = None
    energy_mj: float | None = None


class BlockTimer(Protocol):
    """Measures blocks on the target device; for one that cannot be reached from here, their sizes alone."""

    @property
    def active_w(self) -> float | None:
        """Power that the device draws while it computes, in W, from its profile; None where it does not say."""
        ...

    def overhead_ms(self) -> float | None:
        """Return what starting any graph costs, in ms: part of every measured block. None: cannot be measured."""
        ...

    def blocks(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        """Return the figures of every block; those that are not known yet are measured interleaved.

        Raises:
            MeasurementError: a block could not be measured.
        """
        ...

    def paths(self, paths: Mapping[str, ForcedPath]) -> Mapping[str, Figures]:
        """Return the figures of whole early-exit graphs, each forced to one of its exits.

        Raises:
            MeasurementError: a graph could not be measured.
        """
        ...
