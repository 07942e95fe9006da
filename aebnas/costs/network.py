"""Exit costs of one network, composed from the figures of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aebnas.costs.blocks import Figures
from aebnas.costs.kinds import ENERGY, LATENCY, MACS, MEMORY, SIZE, TAIL
from aebnas.costs.overhead import MeasuredPath, Overhead
from aebnas.exits.costs import TAIL_ONE_IN, Reduction

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A block of a network: its MACs, and the figures of its graph; ``beyond_ms`` is its latency without the start."""

    macs: float
    figures: Figures
    beyond_ms: float = 0.0


@dataclass(frozen=True)
class Path:
    """What is executed when leaving at one exit: the parts in order, a span and a branch per level, then the end."""

    levels: tuple[tuple[Part, ...], ...]
    gates: int
    final: bool

    @property
    def decisions(self) -> int:
        """How often it is decided in a file that ends where the path does: there it is not."""
        return self.gates - (not self.final)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return tuple(part for level in self.levels for part in level)

    @property
    def blocks_ms(self) -> float:
        """Sum of the latencies of the parts, each beyond the empty graph."""
        return sum(part.beyond_ms for part in self.parts)


@dataclass(frozen=True)
class NetworkCosts:
    """Costs of one network, composed.

    Args:
        names: Of the costs, in the order of all arrays.
        points: Attach point of every branch.
        spans: ``spans[a, b]``: from attach point a (-1: the input) to attach point b.
        ends: ``ends[a]``: from attach point a (-1: the input) to the backbone's label and confidence.
        branches: One per branch, its gate (softmax, confidence) included, as it runs when it is the first that is on.
        behind: The same behind another exit, which hands on to it what it hears or carries along.
        cuts: One per branch that can stand alone, all of them or (of cascaded ones) the first: the whole static network
            that ends there, with label and confidence, as one graph.
        overhead: Turns the latencies of parts into that of a graph.
    """

    names: tuple[str, ...]
    points: tuple[int, ...]
    spans: Mapping[tuple[int, int], Part]
    ends: Mapping[int, Part]
    branches: tuple[Part, ...]
    behind: tuple[Part, ...]
    cuts: tuple[Part, ...]
    overhead: Overhead

    def path(self, mask: Sequence[bool], exit_: int) -> Path:
        """Return what is executed when leaving at ``exit_``, which is on, with only the branches in ``mask`` on.

        A branch that is switched off is not executed, and the spans beside it are one span.
        """
        levels: list[tuple[Part, ...]] = []
        here = -1
        for number, (point, on) in enumerate(zip(self.points, mask, strict=True)):
            if on and number <= exit_:
                branch = self.behind[number] if levels else self.branches[number]
                levels.append((self.spans[here, point], branch))
                here = point
        gates, final = len(levels), exit_ == len(self.points)
        if final:
            levels.append((self.ends[here],))
        return Path(tuple(levels), gates, final)

    def exit_costs(self, mask: Sequence[bool], last: int | None = None) -> Costs:
        """Return ``(n_costs, exits)``: all that is executed when leaving at each exit; NaN for exits switched off.

        Size and peak memory are those of the whole file, whichever exit is taken: weights of all parts are loaded, and
        the deepest exit may come any time.

        Args:
            last: An exit that all leave at who come to it: what stands behind is not in the file. None: the final one.
        """
        result = np.full((len(self.names), len(self.points) + 1), np.nan)
        on = [*(number for number, is_on in enumerate(mask) if is_on), len(self.points)]
        whole = self.path(mask, len(self.points) if last is None else last)
        for exit_ in on:
            result[:, exit_] = self._costs(self.path(mask, exit_), whole)
        return result

    def mean(self, mask: Sequence[bool], exit_shares: Sequence[float], last: int | None = None) -> Costs:
        """Return the costs (n_costs,) of a point, reduced as :attr:`reduction` says, from its exit shares.

        Args:
            last: As of :meth:`exit_costs`.
        """
        costs, shares = np.nan_to_num(self.exit_costs(mask, last)), np.array(exit_shares)
        on = np.flatnonzero([*mask, True])
        beyond = 1.0 - shares.cumsum()
        result: Costs = costs @ shares
        for row, extra in self.reduction.switching:
            going_on = beyond[on[:-1]]
            result[row] += extra * float(going_on @ (1 - going_on))
        for row in self.reduction.tails:
            # Shares are fractions of whole samples; the slack is far less than one of them.
            result[row] = costs[row, on[beyond[on] <= 1 / TAIL_ONE_IN + 1e-9][0]]
        return result

    @property
    def reduction(self) -> Reduction:
        """How exit costs become the costs of a point."""
        return Reduction(
            tails=tuple(row for row, name in enumerate(self.names) if name == TAIL),
            switching=tuple(
                (row, self.overhead.switch_ms)
                for row, name in enumerate(self.names)
                if name == LATENCY and self.overhead.switch_ms
            ),
        )

    def mixed_path(self, mask: Sequence[bool], exit_shares: Sequence[float], measured_ms: float) -> MeasuredPath:
        """Return the mean path of a network whose runs left by ``exit_shares`` and took ``measured_ms``."""
        paths = {exit_: self.path(mask, exit_) for exit_ in np.flatnonzero([*mask, True]).tolist()}
        going_on = 1.0 - np.cumsum(exit_shares)[list(paths)[:-1]]
        return MeasuredPath(
            blocks_ms=sum(exit_shares[exit_] * path.blocks_ms for exit_, path in paths.items()),
            gates=sum(exit_shares[exit_] * path.gates for exit_, path in paths.items()),
            final=exit_shares[-1],
            measured_ms=measured_ms,
            switches=float(going_on @ (1 - going_on)),
        )

    def truncated(self, exit_: int) -> Costs:
        """Return the costs of the static network that always ends in branch ``exit_``, with label and confidence.

        Raises:
            IndexError: that branch cannot stand alone, for it hears another.
        """
        return static_costs(self.names, self.cuts[exit_])

    def _costs(self, path: Path, whole: Path) -> Costs:
        return np.array([self._cost(name, path, whole) for name in self.names], dtype=np.float64)

    def _cost(self, name: str, path: Path, whole: Path) -> float:
        if name == MACS:
            return sum(part.macs for part in path.parts)
        if name in (LATENCY, TAIL):
            return self._latency_ms(path)
        if name == ENERGY:
            return energy_mj(path.parts, self._latency_ms(path))
        size = sum(part.figures.size_mib for part in whole.parts) + whole.decisions * self.overhead.gate_mib
        return size if name == SIZE else size + _activations_mib(whole)

    def _latency_ms(self, path: Path) -> float:
        return self.overhead.latency_ms(path.blocks_ms, path.gates, path.final)


def static_costs(names: Sequence[str], network: Part) -> Costs:
    """Return the costs (n_costs,) of a static network that was measured whole."""
    figures = network.figures
    latency_ms = figures.median_ms or 0.0
    values = {
        MACS: network.macs,
        LATENCY: latency_ms,
        TAIL: latency_ms,
        ENERGY: energy_mj([network], latency_ms),
        SIZE: figures.size_mib,
        MEMORY: figures.size_mib + (figures.memory_mib or 0.0),
    }
    return np.array([values[name] for name in names], dtype=np.float64)


def energy_mj(parts: Sequence[Part], latency_ms: float) -> float:
    """Return the energy of one run that executes ``parts`` in ``latency_ms``.

    The energies of the parts add up; what the graph takes beyond its parts draws their mean power, and so does a part
    whose energy is not known, for a sensor may have failed just then.
    """
    known = [part.figures for part in parts if part.figures.energy_mj is not None]
    energy = sum(figures.energy_mj or 0.0 for figures in known)
    time_ms = sum(figures.latency_ms or 0.0 for figures in known)
    return energy * latency_ms / time_ms if time_ms > 0 else 0.0


def _activations_mib(whole: Path) -> float:
    """Return what the arena holds at the last exit: every level keeps its own while those inside it run."""
    return sum(max(part.figures.memory_mib or 0.0 for part in level) for level in whole.levels)
