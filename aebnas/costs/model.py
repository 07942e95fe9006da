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
from aebnas.costs.macs import count_macs, segment_macs

Costs = npt.NDArray[np.float64]  # (n_costs,), in the order of CostModel.names
MACS, LATENCY = "macs", "latency_ms"


@dataclass(frozen=True)
class NetworkCosts:
    """Costs of one network, composed.

    Args:
        names: Of the costs.
        points: Attach point of every branch.
        spans: ``spans[a, b]``: from attach point a (-1: the input) to attach point b.
        ends: ``ends[a]``: from attach point a (-1: the input) to the backbone's label and confidence.
        branches: One per branch, its gate (softmax, confidence, comparison) included.
        overhead: Paid once per inference, whatever runs.
    """

    names: tuple[str, ...]
    points: tuple[int, ...]
    spans: dict[tuple[int, int], Costs]
    ends: dict[int, Costs]
    branches: tuple[Costs, ...]
    overhead: Costs

    def exit_costs(self, mask: Sequence[bool]) -> npt.NDArray[np.float64]:
        """Return ``(n_costs, exits)``: all that is executed when leaving at each exit; NaN for exits switched off.

        A branch that is switched off is not executed, and the spans beside it are one span.
        """
        result = np.full((len(self.names), len(self.points) + 1), np.nan)
        passed, here = self.overhead.copy(), -1
        for exit_, (point, on) in enumerate(zip(self.points, mask, strict=True)):
            if on:
                passed = passed + self.spans[here, point] + self.branches[exit_]
                result[:, exit_], here = passed, point
        result[:, -1] = passed + self.ends[here]
        return result

    def truncated(self, exit_: int) -> Costs:
        """Return the costs of the static network that always ends in branch ``exit_``, with label and confidence."""
        return self.overhead + self.spans[-1, self.points[exit_]] + self.branches[exit_]


class CostModel:
    """Composes the costs of networks on one backbone from blocks that are measured once each.

    A span between two attach points is a block of its own, not the sum of its segments: the runtime fuses across
    their borders. Predicted latency = what starting a graph costs + what every executed block takes beyond that.

    Args:
        backbone: The cut backbone.
        gated: Turns an exit into a module that also gives label and confidence; a gate has no MACs.
        timer: Measures blocks; None where the target cannot be measured: then MACs are the only cost.
    """

    def __init__(
        self, backbone: SegmentedBackbone, gated: Callable[[nn.Module], nn.Module], timer: BlockTimer | None
    ) -> None:
        self._backbone, self._gated, self._timer = backbone, gated, timer
        self.names: tuple[str, ...] = (MACS,) if timer is None else (MACS, LATENCY)
        self._overhead_ms = 0.0 if timer is None else timer.overhead_ms()
        self._branches: dict[str, Costs] = {}
        self._end = len(backbone.segments) - 1
        self._spans, self._ends, self.backbone = self._measure_spans()
        self.missed_macs = count_macs(backbone.span(0, self._end + 1), backbone.input_shape).missed

    @property
    def overhead(self) -> Costs:
        """Costs of one inference that computes nothing."""
        return np.array([0.0, self._overhead_ms])[: len(self.names)]

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
        return NetworkCosts(self.names, points, self._spans, self._ends, branches, self.overhead)

    def _measure_spans(self) -> tuple[dict[tuple[int, int], Costs], dict[int, Costs], Costs]:
        """Return the costs between attach points, from each of them to the gated end, and of the static backbone."""
        shapes = [self._backbone.input_shape, *(point.shape for point in self._backbone.attach_points)]
        macs = segment_macs(self._backbone)
        between = [(a, b) for a in range(-1, self._end) for b in range(a + 1, self._end)]
        modules = {f"span {a} {b}": (self._backbone.span(a + 1, b + 1), a) for a, b in between}
        ends = {a: self._backbone.span(a + 1, self._end + 1) for a in range(-1, self._end)}
        modules |= {f"end {a}": (self._gated(module), a) for a, module in ends.items()}
        modules["backbone"] = (ends[-1], -1)
        times = self._times({name: Block(module, shapes[a + 1]) for name, (module, a) in modules.items()})
        return (
            {(a, b): self._costs(sum(macs[a + 1 : b + 1]), times[f"span {a} {b}"]) for a, b in between},
            {a: self._costs(sum(macs[a + 1 :]), times[f"end {a}"]) for a in ends},
            self.overhead + self._costs(sum(macs), times["backbone"]),
        )

    def _measure_branches(self, specs: Sequence[BranchSpec]) -> None:
        shapes = {point.name: point.shape for point in self._backbone.attach_points}
        built = {
            spec.key: (build_branch(spec, shapes[spec.attach], self._backbone.num_classes), shapes[spec.attach])
            for spec in specs
        }
        times = self._times({key: Block(self._gated(branch), shape) for key, (branch, shape) in built.items()})
        for key, (branch, shape) in built.items():
            self._branches[key] = self._costs(count_macs(branch, shape).macs, times[key])

    def _times(self, blocks: dict[str, Block]) -> dict[str, float]:
        """Return what each block takes beyond the overhead, in ms; zeros where nothing can be measured."""
        if self._timer is None or not blocks:
            return dict.fromkeys(blocks, 0.0)
        return {name: max(0.0, time - self._overhead_ms) for name, time in self._timer.latencies_ms(blocks).items()}

    def _costs(self, macs: float, time_ms: float) -> Costs:
        return np.array([macs, time_ms], dtype=np.float64)[: len(self.names)]
