"""Blocks: the pieces of a network that are measured once and then only added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn


@dataclass(frozen=True)
class Block:
    """Modules that run in a row as one graph.

    Args:
        parts: The first takes one input, each other what the one before it gives.
        shape: Of that input, without the batch.
        gated: The last part gives logits, and the graph their label and confidence as well.
        classes_before: Of an exit that stands behind another: the width of that one's logits. Its graph takes what that
            exit hands on: the logits, if the last part is a cascaded branch, and the state of a stateful measure.
        last: An exit behind which none stands, so that its graph hands no state on.
    """

    parts: tuple[nn.Module, ...]
    shape: tuple[int, ...]
    gated: bool = False
    classes_before: int | None = None
    last: bool = False


@dataclass(frozen=True)
class TrialNetwork:
    """A whole early-exit network, to be measured as one graph.

    Args:
        stages: Segment and gated branch of every early exit, in order.
        final: The gated last segment.
        exit: Where it is made to leave, ``len(stages)`` for the final exit; None: where its confidence says.
        leaving: About the share of those samples that come to an exit which leave there, if it is confidence that says.
    """

    stages: tuple[tuple[Block, Block], ...]
    final: Block
    exit: int | None = None
    leaving: float = 0.5


@dataclass(frozen=True)
class MixedRun:
    """A network run on real images, which leave at several exits: their shares, and the mean latency."""

    exit_shares: tuple[float, ...]
    latency_ms: float


@dataclass(frozen=True)
class Figures:
    """What one graph was measured to cost at batch 1.

    Args:
        size_mib: Of its file.
        latency_ms: Low (20 %) quantile of its runs: what it takes when nothing interferes. None: not measured.
        median_ms: What it typically takes.
        memory_mib: Peak of what the runtime's arena holds while it runs; None where the runtime does not tell.
        energy_mj: Of one run; None where neither a sensor nor the profile's power tells.
        energy_source: The sensor's name, or ``profile``.
    """

    size_mib: float
    latency_ms: float | None = None
    median_ms: float | None = None
    memory_mib: float | None = None
    energy_mj: float | None = None
    energy_source: str | None = None


class BlockTimer(Protocol):
    """Measures blocks on the target device; for one that cannot be reached from here, their sizes alone."""

    @property
    def stateful(self) -> bool:
        """Whether exits hand a state on, so that one behind another is a graph other than it alone."""
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

    def forced(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, Figures]:
        """Return the figures of networks that are made to leave at one exit each.

        Raises:
            MeasurementError: a graph could not be measured.
        """
        ...

    def mixed(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, MixedRun]:
        """Run networks on real images, as far as there are any.

        Raises:
            MeasurementError: a graph could not be run.
        """
        ...
