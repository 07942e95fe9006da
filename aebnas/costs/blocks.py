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


class BlockTimer(Protocol):
    """Measures blocks on the target device."""

    def overhead_ms(self) -> float:
        """Return what starting any graph costs, in ms: part of every measured block, paid once per inference."""
        ...

    def latencies_ms(self, blocks: Mapping[str, Block]) -> Mapping[str, float]:
        """Return the wall-clock latency at batch 1 of every block, in ms, the overhead included.

        Raises:
            MeasurementError: a block could not be measured.
        """
        ...
