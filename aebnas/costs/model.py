"""The costs of networks on one backbone, composed from blocks that are measured once each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.linked import Cascade, LinkedBranch, build_exit
from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Block, BlockTimer, Figures, TrialNetwork
from aebnas.costs.kinds import ENERGY, LATENCY, MACS, MEMORY, SIZE, TAIL
from aebnas.costs.macs import count_macs, segment_macs
from aebnas.costs.network import Costs, NetworkCosts, Part, static_costs
from aebnas.costs.overhead import MeasuredPath, Overhead, fit_overhead
from aebnas.locks import held

# Shares of the images that are let go at every exit of the networks that run on real ones, in turns.
_LEAVING = (0.3, 0.6, 0.85)


class CostModel:
    """Composes the costs of networks on one backbone from blocks that are measured once each.

    A span between two attach points is a block of its own, not the sum of its segments: the runtime fuses across
    their borders. Predicted latency = what every executed block takes beyond the empty graph, and the overhead of a
    graph that decides, fitted on the real graphs of a few networks.

    Args:
        backbone: The cut backbone.
        timer: Measures blocks; without a device that can be measured, latency is no cost. None: only MACs are.
        calibration: Branches of the networks that the overhead is fitted on; none: plain sums.
        overhead: What it was found to be before, instead of a calibration.
        resting: Entered while another thread measures, so that this one keeps nobody from it.
    """

    def __init__(
        self,
        backbone: SegmentedBackbone,
        timer: BlockTimer | None,
        calibration: Sequence[Sequence[BranchSpec]] = (),
        overhead: Overhead | None = None,
        resting: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._backbone, self._timer, self._resting = backbone, timer, resting
        self._shapes = [backbone.input_shape, *(point.shape for point in backbone.attach_points)]
        self._last = len(backbone.segments) - 1
        self._segment_macs = segment_macs(backbone)
        self._empty_ms = None if timer is None else timer.overhead_ms()
        self._branches: dict[str, Part] = {}
        # A search that measures for others does so beside its own trials.
        self._measuring = threading.Lock()
        self._spans, self._ends, self._static = self._measure_spans()
        self.names = self._known_names()
        self.overhead = overhead or self._fit(calibration)
        self.missed_macs = count_macs(backbone.span(0, self._last + 1), backbone.input_shape).missed

    @property
    def empty_ms(self) -> float | None:
        """What a graph that does nothing takes, in ms; None: nothing is measured."""
        return self._empty_ms

    @property
    def backbone(self) -> Costs:
        """Costs (n_costs,) of the static backbone, a graph of its own that was measured whole."""
        return static_costs(self.names, self._static)

    @property
    def energy_source(self) -> str | None:
        """Where energies come from: the name of a sensor, ``profile`` for active power x time, None: no energies."""
        return self._static.figures.energy_source

    def network(self, specs: Sequence[BranchSpec], cascade: Cascade = "none") -> NetworkCosts:
        """Return the costs of a network with branches ``specs``, in the order of their attach points.

        Branches that were not seen before are measured now; their weights do not matter, so none are needed.

        Args:
            cascade: What a branch hears of the exit before it.

        Raises:
            BranchError: a branch does not fit. MeasurementError: a block could not be measured.
            BackboneError: a block cannot be written, or not in this precision.
        """
        self._obtain(specs, cascade)
        return self._compose(specs, self.overhead, cascade)

    def static_figures(self) -> dict[str, Figures]:
        """Return the figures of all blocks of the backbone, by the names that a timer is asked for them by."""
        spans = {f"span {a} {b}": part.figures for (a, b), part in self._spans.items()}
        ends = {f"end {a}": part.figures for a, part in self._ends.items()}
        return {**spans, **ends, "backbone": self._static.figures}

    def figures(self, specs: Sequence[BranchSpec], cascade: Cascade = "none") -> dict[str, Figures]:
        """Return the figures of the blocks of these branches by name; those not seen before are measured now.

        Raises:
            What :meth:`network` raises.
        """
        self._obtain(specs, cascade)
        return {name: self._branches[name].figures for name, *_ in self._wanted(specs, cascade)}

    def lacks(self, specs: Sequence[BranchSpec], cascade: Cascade = "none") -> bool:
        """Tell whether a block of these branches has not been seen before."""
        return any(name not in self._branches for name, *_ in self._wanted(specs, cascade))

    def adopt(self, specs: Sequence[BranchSpec], cascade: Cascade, figures: Mapping[str, Figures]) -> None:
        """Take what another process measured of these branches instead of measuring them here.

        Args:
            figures: What :meth:`figures` of its cost model says.

        Raises:
            BranchError: a branch does not fit. KeyError: a block is missing in ``figures``.
        """
        self._keep(self._unseen([(specs, cascade)]), figures)

    def _compose(self, specs: Sequence[BranchSpec], overhead: Overhead, cascade: Cascade = "none") -> NetworkCosts:
        alone = [self._alone(number, cascade) for number in range(len(specs))]
        behind = tuple(self._branches[f"{self._kind(number, cascade)} {spec.key}"] for number, spec in enumerate(specs))
        return NetworkCosts(
            self.names,
            tuple(self._point(spec) for spec in specs),
            self._spans,
            self._ends,
            tuple(
                self._branches[f"branch {spec.key}"] if can else heard
                for spec, can, heard in zip(specs, alone, behind, strict=True)
            ),
            behind,
            tuple(self._branches[f"cut {spec.key}"] for spec, can in zip(specs, alone, strict=True) if can),
            overhead,
        )

    def _alone(self, number: int, cascade: Cascade) -> bool:
        """Tell whether branch ``number`` of a network can stand without those before it."""
        return number == 0 or cascade == "none"

    def _kind(self, number: int, cascade: Cascade) -> str:
        """Return the kind of block that branch ``number`` of a network is behind another exit, if there is one."""
        if not self._alone(number, cascade):
            return f"cascaded-{cascade}"
        # Without a state to carry along, a branch is the same graph wherever it stands.
        return "behind" if number and self._timer is not None and self._timer.stateful else "branch"

    def _point(self, spec: BranchSpec) -> int:
        return self._points().index(spec.attach)

    def _points(self) -> list[str]:
        return [point.name for point in self._backbone.attach_points]

    def _known_names(self) -> tuple[str, ...]:
        figures, known = self._static.figures, [MACS]
        if self._empty_ms is not None:
            known += [LATENCY, TAIL]
        if self._timer is not None:
            known.append(SIZE)
        if figures.memory_mib is not None:
            known.append(MEMORY)
        if figures.energy_mj is not None:
            known.append(ENERGY)
        return tuple(known)

    def _figures(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        if self._timer is None or not blocks:
            return dict.fromkeys(blocks, Figures(size_mib=0.0))
        return self._timer.blocks(blocks)

    def _measure_spans(self) -> tuple[dict[tuple[int, int], Part], dict[int, Part], Part]:
        """Return the parts between attach points, from each of them to the gated end, and the static backbone."""
        macs = self._segment_macs
        between = [(a, b) for a in range(-1, self._last) for b in range(a + 1, self._last)]
        blocks = {f"span {a} {b}": self._span(a, b) for a, b in between}
        blocks |= {f"end {a}": self._end(a) for a in range(-1, self._last)}
        blocks["backbone"] = self._span(-1, self._last)
        figures = self._figures(blocks)
        return (
            {(a, b): self._part(sum(macs[a + 1 : b + 1]), figures[f"span {a} {b}"]) for a, b in between},
            {a: self._part(sum(macs[a + 1 :]), figures[f"end {a}"]) for a in range(-1, self._last)},
            self._part(sum(macs), figures["backbone"]),
        )

    def _obtain(self, specs: Sequence[BranchSpec], cascade: Cascade) -> None:
        if self.lacks(specs, cascade):
            with held(self._measuring, self._resting):
                self._measure_branches([(specs, cascade)])

    def _measure_branches(self, networks: Sequence[tuple[Sequence[BranchSpec], Cascade]]) -> None:
        """Measure every branch of ``networks``, and the static network that ends in it where it can stand alone."""
        blocks = self._unseen(networks)
        self._keep(blocks, self._figures(blocks))

    def _unseen(self, networks: Sequence[tuple[Sequence[BranchSpec], Cascade]]) -> dict[str, Block]:
        return {
            name: self._block(kind, spec, cascade)
            for specs, cascade in networks
            for name, kind, spec in self._wanted(specs, cascade)
            if name not in self._branches
        }

    def _wanted(self, specs: Sequence[BranchSpec], cascade: Cascade) -> list[tuple[str, str, BranchSpec]]:
        """Return name, kind and branch of every block that branches ``specs`` are priced by."""
        found = []
        for number, spec in enumerate(specs):
            kinds = {"branch", "cut"} if self._alone(number, cascade) else set()
            kinds.add(self._kind(number, cascade))
            found += [(f"{kind} {spec.key}", kind, spec) for kind in sorted(kinds)]
        return found

    def _keep(self, blocks: Mapping[str, Block], figures: Mapping[str, Figures]) -> None:
        for name, block in blocks.items():
            self._branches[name] = self._part(self._branch_macs(block), figures[name])

    def _block(self, kind: str, spec: BranchSpec, cascade: Cascade) -> Block:
        if kind == "cut":
            parts = (*self._span(-1, self._point(spec)).parts, *self._branch(spec).parts)
            return Block(parts, self._backbone.input_shape, gated=True, last=True)
        return self._branch(spec) if kind == "branch" else self._branch(spec, cascade, first=False)

    def _branch_macs(self, block: Block) -> float:
        """Return the MACs of a branch and of the segments before it in ``block``, which are whole ones of the input."""
        *segments, branch = block.parts
        shape = self._shapes[len(segments)] if segments else block.shape
        heard = [(self._backbone.num_classes,)] if isinstance(branch, LinkedBranch) else []
        return sum(self._segment_macs[: len(segments)]) + count_macs(branch, shape, *heard).macs

    def _fit(self, networks: Sequence[Sequence[BranchSpec]]) -> Overhead:
        """Fit the overhead on real graphs of ``networks``: forced to each of their exits, and on real images."""
        if self._timer is None or not any(networks):
            return Overhead(self._empty_ms or 0.0)
        # All in one go, so that they are measured interleaved.
        self._measure_branches([(specs, "none") for specs in networks])
        composed = [self._compose(specs, Overhead(0.0)) for specs in networks if specs]
        trials = [self._trial(specs) for specs in networks if specs]
        forced = {
            (number, exit_): replace(trial, exit=exit_)
            for number, trial in enumerate(trials)
            for exit_ in range(len(trial.stages) + 1)
        }
        figures = self._timer.forced({f"{number} {exit_}": trial for (number, exit_), trial in forced.items()})
        paths, beyond_mib = [], []
        for number, exit_ in forced:
            path, found = composed[number].path(_all_on(trials[number]), exit_), figures[f"{number} {exit_}"]
            if found.median_ms is not None:
                paths.append(MeasuredPath(path.blocks_ms, path.gates, path.final, found.median_ms))
            if path.final:
                # A whole file is larger than its parts by its decisions.
                beyond_mib.append((found.size_mib - sum(part.figures.size_mib for part in path.parts)) / path.gates)
        paths += self._mixed(trials, composed)
        return replace(fit_overhead(self._empty_ms or 0.0, paths), gate_mib=fmean(beyond_mib))

    def _mixed(self, trials: Sequence[TrialNetwork], composed: Sequence[NetworkCosts]) -> list[MeasuredPath]:
        if self._timer is None or self._empty_ms is None:
            return []
        networks = {
            str(number): replace(trial, leaving=_LEAVING[(number + number // len(_LEAVING)) % len(_LEAVING)])
            for number, trial in enumerate(trials)
        }
        runs = self._timer.mixed(networks)
        return [
            composed[int(name)].mixed_path(_all_on(networks[name]), run.exit_shares, run.latency_ms)
            for name, run in runs.items()
        ]

    def _trial(self, specs: Sequence[BranchSpec]) -> TrialNetwork:
        stages: list[tuple[Block, Block]] = []
        here = -1
        for spec in specs:
            point = self._point(spec)
            stages.append((self._span(here, point), self._branch(spec, first=not stages)))
            here = point
        return TrialNetwork(tuple(stages), self._end(here))

    def _span(self, start: int, stop: int) -> Block:
        return Block(tuple(self._backbone.segments[start + 1 : stop + 1]), self._shapes[start + 1])

    def _end(self, start: int) -> Block:
        before = None if start < 0 else self._backbone.num_classes
        return replace(self._span(start, self._last), gated=True, classes_before=before, last=True)

    def _branch(self, spec: BranchSpec, cascade: Cascade = "none", *, first: bool = True) -> Block:
        shape, classes = self._shapes[self._point(spec) + 1], self._backbone.num_classes
        made = build_exit(spec, shape, classes, cascade, first=first)
        return Block((made,), shape, gated=True, classes_before=None if first else classes)

    def _part(self, macs: float, figures: Figures) -> Part:
        beyond_ms = max(0.0, (figures.latency_ms or 0.0) - (self._empty_ms or 0.0))
        return Part(macs, figures, beyond_ms)


def _all_on(trial: TrialNetwork) -> list[bool]:
    return [True] * len(trial.stages)
