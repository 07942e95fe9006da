"""The costs of networks on one backbone, composed from blocks that are measured once each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Block, BlockTimer, Figures, ForcedPath
from aebnas.costs.kinds import ENERGY, LATENCY, MACS, MEMORY, SIZE, TAIL
from aebnas.costs.macs import count_macs, segment_macs
from aebnas.costs.network import Costs, NetworkCosts, Part
from aebnas.costs.overhead import MeasuredPath, Overhead, fit_overhead


class CostModel:
    """Composes the costs of networks on one backbone from blocks that are measured once each.

    A span between two attach points is a block of its own, not the sum of its segments: the runtime fuses across
    their borders. Predicted latency = what every executed block takes beyond the empty graph, and the overhead of a
    graph that decides, fitted on the real graphs of a few networks.

    Args:
        backbone: The cut backbone.
        gated: Turns an exit into a module that also gives label and confidence; a gate has no MACs.
        timer: Measures blocks; without a device that can be measured, latency is no cost. None: only MACs are.
        calibration: Branches of the networks that the overhead is fitted on; none: plain sums.
    """

    def __init__(
        self,
        backbone: SegmentedBackbone,
        gated: Callable[[nn.Module], nn.Module],
        timer: BlockTimer | None,
        calibration: Sequence[Sequence[BranchSpec]] = (),
    ) -> None:
        self._backbone, self._gated, self._timer = backbone, gated, timer
        self._shapes = [backbone.input_shape, *(point.shape for point in backbone.attach_points)]
        self._end = len(backbone.segments) - 1
        self._empty_ms = None if timer is None else timer.overhead_ms()
        self._branches: dict[str, Part] = {}
        self._spans, self._ends, self._static = self._measure_spans()
        self.names = self._known_names()
        self.overhead = Overhead(self._empty_ms or 0.0)
        if self._empty_ms is not None:
            self.overhead = fit_overhead(self._empty_ms, self._measure_paths(calibration))
        self.missed_macs = count_macs(backbone.span(0, self._end + 1), backbone.input_shape).missed

    @property
    def backbone(self) -> Costs:
        """Costs (n_costs,) of the static backbone, a graph of its own that was measured whole."""
        figures = self._static.figures
        latency_ms = figures.median_ms if figures.median_ms is not None else figures.latency_ms or 0.0
        energy = figures.energy_mj if figures.energy_mj is not None else (self._active_w or 0.0) * latency_ms
        values = {
            MACS: self._static.macs,
            LATENCY: latency_ms,
            TAIL: latency_ms,
            ENERGY: energy,
            SIZE: figures.size_mib,
            MEMORY: figures.size_mib + (figures.memory_mib or 0.0),
        }
        return np.array([values[name] for name in self.names], dtype=np.float64)

    def network(self, specs: Sequence[BranchSpec]) -> NetworkCosts:
        """Return the costs of a network with branches ``specs``, in the order of their attach points.

        Branches that were not seen before are measured now; their weights do not matter, so none are needed.

        Raises:
            BranchError: a branch does not fit. MeasurementError: a block could not be measured.
        """
        self._measure_branches([spec for spec in specs if spec.key not in self._branches])
        return NetworkCosts(
            self.names,
            tuple(self._point(spec) for spec in specs),
            self._spans,
            self._ends,
            tuple(self._branches[spec.key] for spec in specs),
            self.overhead,
            self._active_w,
        )

    def _point(self, spec: BranchSpec) -> int:
        return [point.name for point in self._backbone.attach_points].index(spec.attach)

    def _known_names(self) -> tuple[str, ...]:
        figures, known = self._static.figures, [MACS]
        if self._empty_ms is not None:
            known += [LATENCY, TAIL]
        if self._timer is not None:
            known.append(SIZE)
        if figures.memory_mib is not None:
            known.append(MEMORY)
        if figures.energy_mj is not None or self._active_w is not None:
            known.append(ENERGY)
        return tuple(known)

    @property
    def _active_w(self) -> float | None:
        return None if self._timer is None else self._timer.active_w

    def _figures(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        if self._timer is None or not blocks:
            return dict.fromkeys(blocks, Figures(size_mib=0.0))
        return self._timer.blocks(blocks)

    def _measure_spans(self) -> tuple[dict[tuple[int, int], Part], dict[int, Part], Part]:
        """Return the parts between attach points, from each of them to the gated end, and the static backbone."""
        macs = segment_macs(self._backbone)
        between = [(a, b) for a in range(-1, self._end) for b in range(a + 1, self._end)]
        blocks = {f"span {a} {b}": self._span(a, b) for a, b in between}
        blocks |= {f"end {a}": self._gated_end(a) for a in range(-1, self._end)}
        blocks["backbone"] = self._span(-1, self._end)
        figures = self._figures(blocks)
        return (
            {(a, b): self._part(sum(macs[a + 1 : b + 1]), figures[f"span {a} {b}"]) for a, b in between},
            {a: self._part(sum(macs[a + 1 :]), figures[f"end {a}"]) for a in range(-1, self._end)},
            self._part(sum(macs), figures["backbone"]),
        )

    def _measure_branches(self, specs: Sequence[BranchSpec]) -> None:
        blocks = {spec.key: self._branch(spec) for spec in specs}
        figures = self._figures({key: self._as_gated(block) for key, block in blocks.items()})
        for key, block in blocks.items():
            self._branches[key] = self._part(count_macs(block.module, block.shape).macs, figures[key])

    def _measure_paths(self, networks: Sequence[Sequence[BranchSpec]]) -> list[MeasuredPath]:
        """Measure real graphs of ``networks``, each forced to every one of its exits."""
        if self._timer is None or not networks:
            return []
        composed = [self.network(specs) for specs in networks]
        cases = [
            (number, costs, specs, exit_)
            for number, (costs, specs) in enumerate(zip(composed, networks, strict=True))
            for exit_ in range(len(specs) + 1)
        ]
        figures = self._timer.paths({f"{n} {exit_}": self._forced(specs, exit_) for n, _, specs, exit_ in cases})
        found = []
        for number, costs, specs, exit_ in cases:
            path = costs.path([True] * len(specs), exit_)
            typical_ms = figures[f"{number} {exit_}"].median_ms
            if typical_ms is not None:
                found.append(MeasuredPath(path.blocks_ms, path.gates, path.final, typical_ms))
        return found

    def _forced(self, specs: Sequence[BranchSpec], exit_: int) -> ForcedPath:
        stages, here = [], -1
        for spec in specs:
            point = self._point(spec)
            stages.append((self._span(here, point), self._as_gated(self._branch(spec))))
            here = point
        return ForcedPath(tuple(stages), self._gated_end(here), exit_)

    def _span(self, start: int, stop: int) -> Block:
        return Block(self._backbone.span(start + 1, stop + 1), self._shapes[start + 1])

    def _gated_end(self, start: int) -> Block:
        return self._as_gated(self._span(start, self._end))

    def _branch(self, spec: BranchSpec) -> Block:
        shape = self._shapes[self._point(spec) + 1]
        return Block(build_branch(spec, shape, self._backbone.num_classes), shape)

    def _as_gated(self, block: Block) -> Block:
        return Block(self._gated(block.module), block.shape)

    def _part(self, macs: float, figures: Figures) -> Part:
        beyond_ms = max(0.0, (figures.latency_ms or 0.0) - (self._empty_ms or 0.0))
        return Part(macs, figures, beyond_ms)
