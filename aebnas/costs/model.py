"""Exit costs of a network, composed from the costs of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Block, BlockTimer
from aebnas.costs.macs import count_macs

Costs = npt.NDArray[np.float64]  # (n_costs,), in the order of CostModel.names
MACS, LATENCY = "macs", "latency_ms"


@dataclass(frozen=True)
class BranchCosts:
    """Costs of a branch with its gate (softmax, confidence, comparison), and of its layers alone."""

    gated: Costs
    bare: Costs


@dataclass(frozen=True)
class NetworkCosts:
    """Costs of one network, composed.

    Args:
        names: Of the costs.
        points: Attach point of every branch.
        spans: ``spans[a, b]``: from attach point a (-1: the input) to b (``end``: the logits).
        branches: One per branch.
        overhead: Paid once per inference, whatever runs.
    """

    names: tuple[str, ...]
    points: tuple[int, ...]
    end: int
    spans: dict[tuple[int, int], Costs]
    branches: tuple[BranchCosts, ...]
    overhead: Costs

    def exit_costs(self, mask: Sequence[bool]) -> npt.NDArray[np.float64]:
        """Return ``(n_costs, exits)``: all that is executed when leaving at each exit; NaN for exits switched off.

        A branch that is switched off is not executed, and the spans beside it are one span.
        """
        result = np.full((len(self.names), len(self.points) + 1), np.nan)
        passed, here = self.overhead.copy(), -1
        for exit_, (point, on) in enumerate(zip(self.points, mask, strict=True)):
            if on:
                passed = passed + self.spans[here, point] + self.branches[exit_].gated
                result[:, exit_], here = passed, point
        result[:, -1] = passed + self.spans[here, self.end]
        return result

    def truncated(self, exit_: int) -> Costs:
        """Return the costs of the static network that always ends in branch ``exit_``."""
        return self.overhead + self.spans[-1, self.points[exit_]] + self.branches[exit_].bare


class CostModel:
    """Composes the costs of networks on one backbone from blocks that are measured once each.

    A span between two attach points is a block of its own, not the sum of its segments: the runtime fuses across
    their borders. Predicted latency = what starting a graph costs + what every executed block takes beyond that.

    Args:
        backbone: The cut backbone.
        gated: Turns a branch into a module that also gives label and confidence; a gate has no MACs.
        timer: Measures blocks; None where the target cannot be measured: then MACs are the only cost.
    """

    def __init__(
        self, backbone: SegmentedBackbone, gated: Callable[[nn.Module], nn.Module], timer: BlockTimer | None
    ) -> None:
        self._backbone, self._gated, self._timer = backbone, gated, timer
        self.names: tuple[str, ...] = (MACS,) if timer is None else (MACS, LATENCY)
        self._overhead_ms = 0.0 if timer is None else timer.overhead_ms()
        self._branches: dict[str, BranchCosts] = {}
        self._end = len(backbone.segments) - 1
        self._spans = self._measure_spans()
        self.missed_macs = count_macs(backbone.span(0, self._end + 1), backbone.input_shape).missed

    @property
    def overhead(self) -> Costs:
        """Costs of one inference that computes nothing."""
        return np.array([0.0, self._overhead_ms])[: len(self.names)]

    @property
    def backbone(self) -> Costs:
        """Costs of the static backbone."""
        return self.overhead + self._spans[-1, self._end]

    def network(self, specs: Sequence[BranchSpec]) -> NetworkCosts:
        """Return the costs of a network with branches ``specs``, in the order of their attach points.

        Branches that were not seen before are measured now; their weights do not matter, so none are needed.

        Raises:
            BranchError: a branch does not fit. MeasurementError: a block could not be measured.
        """
        self._measure_branches([spec for spec in specs if spec.key not in self._branches])
        names = [point.name for point in self._backbone.attach_points]
        points = tuple(names.index(spec.attach) for spec in specs)
        branches = tuple(self._branches[spec.key] for spec in specs)
        return NetworkCosts(self.names, points, self._end, self._spans, branches, self.overhead)

    def _measure_spans(self) -> dict[tuple[int, int], Costs]:
        shapes = [self._backbone.input_shape, *(point.shape for point in self._backbone.attach_points)]
        macs = [count_macs(segment, shape).macs for segment, shape in zip(self._backbone.segments, shapes, strict=True)]
        ends = [(a, b) for a in range(-1, self._end) for b in range(a + 1, self._end + 1)]
        blocks = {f"span {a} {b}": Block(self._backbone.span(a + 1, b + 1), shapes[a + 1]) for a, b in ends}
        times = self._times(blocks)
        return {(a, b): self._costs(sum(macs[a + 1 : b + 1]), times[f"span {a} {b}"]) for a, b in ends}

    def _measure_branches(self, specs: Sequence[BranchSpec]) -> None:
        shapes = {point.name: point.shape for point in self._backbone.attach_points}
        bare = {
            spec.key: Block(build_branch(spec, shapes[spec.attach], self._backbone.num_classes), shapes[spec.attach])
            for spec in specs
        }
        gated = {f"{key} gated": Block(self._gated(block.module), block.shape) for key, block in bare.items()}
        times = self._times({**bare, **gated})
        for key, block in bare.items():
            macs = count_macs(block.module, block.shape).macs
            # The gate cannot make a branch faster: where it seems to, that is noise.
            slower = max(times[key], times[f"{key} gated"])
            self._branches[key] = BranchCosts(self._costs(macs, slower), self._costs(macs, times[key]))

    def _times(self, blocks: dict[str, Block]) -> dict[str, float]:
        """Return what each block takes beyond the overhead, in ms; zeros where nothing can be measured."""
        if self._timer is None or not blocks:
            return dict.fromkeys(blocks, 0.0)
        return {name: max(0.0, time - self._overhead_ms) for name, time in self._timer.latencies_ms(blocks).items()}

    def _costs(self, macs: float, time_ms: float) -> Costs:
        return np.array([macs, time_ms], dtype=np.float64)[: len(self.names)]
