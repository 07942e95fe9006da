"""Where a traced backbone can be cut, and which of these places are worth a branch."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from aebnas.backbones.flops import counting_flops
from aebnas.backbones.layout import channels_last
from aebnas.backbones.modes import ByMode
from aebnas.errors import TraceError
from aebnas.registry import unknown_name

_LATEST_SHARE = 0.98  # a branch behind this share of the MACs has nothing left to save
_DROPOUT = (nn.modules.dropout._DropoutNd, ByMode)


@dataclass(frozen=True)
class Cut:
    """A place where ``node`` is the only value that is still needed: behind the graph's node number ``position``."""

    node: fx.Node
    position: int
    name: str
    shape: tuple[int, ...]  # without the batch, of a map with the channels first
    macs: int  # of everything up to here, for one sample
    channels_last: bool = False  # the value is a map (N, H, W, C)


def find_cuts(graph: fx.Graph) -> dict[fx.Node, int]:
    """Return every value through which all data flows, with the last position at which it is the only one needed."""
    return {next(iter(live)): position for position, live in enumerate(_live_values(graph)) if len(live) == 1}


class Places:
    """The single-tensor cuts of a traced backbone, with their names and costs.

    Args:
        traced: What ``trace`` returned.
        model: The backbone itself.
        example: Input for one sample, (1, ...).
    """

    def __init__(self, traced: fx.GraphModule, model: nn.Module, example: Tensor) -> None:
        nodes = list(traced.graph.nodes)
        self._traced = traced
        self._model = model
        self._rank = example.ndim
        self._macs = _cumulative_macs(traced, example)
        self._compute = self._compute_per_module(nodes)
        self._aliases = self._name_nodes(nodes)
        self._lives = [len(live) for live in _live_values(traced.graph)]
        logits = nodes[-1].args[0]
        self.total_macs = self._macs[logits]
        self.cuts = [
            self._cut(node, position, shape[1:], tuple(example.shape[1:]))
            for node, position in find_cuts(traced.graph).items()
            if node is not logits and node.op != "placeholder" and (shape := _rows_shape(node)) is not None
        ]
        self._stages = self._find_stages()

    def named(self, names: Sequence[str]) -> list[Cut]:
        """Return the cuts called ``names`` (a module path, or a node's name), from the input to the output.

        Raises:
            TraceError: a name is unknown, given twice, ambiguous, or no cut.
        """
        by_node = {cut.node: cut for cut in self.cuts}
        found: dict[fx.Node, Cut] = {}
        for name in names:
            matches = [by_node[node] for node in self._aliases.get(name, []) if node in by_node]
            if len(matches) != 1:
                raise TraceError(self._why_not(name, matches))
            cut = matches[0]
            if cut.node in found:
                raise TraceError(f"attach.modules: {name!r} and {found[cut.node].name!r} are the same place: drop one")
            found[cut.node] = replace(cut, name=name)
        return sorted(found.values(), key=lambda cut: cut.position)

    def spread(self, count: int) -> list[Cut]:
        """Return at most ``count`` ends of blocks, spread evenly over the cumulative MACs.

        Raises:
            TraceError: no cut between the first and the last layer holds a map of the input's rank, or tokens.
        """
        useful = [cut for cut in self.cuts if 0 < cut.macs < self.total_macs and self._is_useful(cut)]
        useful = [cut for cut in useful if cut.macs <= _LATEST_SHARE * self.total_macs] or useful
        if not useful:
            names = [cut.name for cut in self.cuts]
            fix = f"name single-tensor modules under attach.modules ({_some(names)})" if names else "take another model"
            raise TraceError(
                f"{type(self._model).__name__} has no place inside it through which all data flows as one map or as "
                f"tokens: {fix}"
            )
        ranked = [(self._rank_of(cut), cut) for cut in self._one_per_cost(useful)]
        pool: list[Cut] = []
        for rank in (0, 1, 2):
            # The inside of a block is offered only where there is nothing else.
            if len(pool) < (count if rank < 2 else 1):
                pool += [cut for own, cut in ranked if own == rank]
        pool.sort(key=lambda cut: cut.position)
        shares = [cut.macs / self.total_macs for cut in pool]
        return [pool[index] for index in nearest_to_even(shares, min(count, len(pool)))]

    @property
    def functions(self) -> list[fx.Node]:
        """The calls of functions and methods that multiply and accumulate, such as attention or ``F.linear``."""
        nodes = list(self._traced.graph.nodes)
        pairs = ((node, self._macs[node] - self._macs[before]) for before, node in itertools.pairwise(nodes))
        return [node for node, macs in pairs if macs and node.op in ("call_function", "call_method")]

    def _cut(self, node: fx.Node, position: int, shape: tuple[int, ...], image: tuple[int, ...]) -> Cut:
        last = len(shape) == len(image) == 3 and channels_last(node, self._traced, image)
        return Cut(node, position, self._name(node), (shape[2], *shape[:2]) if last else shape, self._macs[node], last)

    def _one_per_cost(self, cuts: list[Cut]) -> Iterator[Cut]:
        """Of neighbours with no MACs between them keep the best: no dropout, before pooling, behind the activation."""
        for macs in dict.fromkeys(cut.macs for cut in cuts):
            group = [cut for cut in cuts if cut.macs == macs]

            def badness(cut: Cut, first: Cut = group[0]) -> tuple[float, ...]:
                shape_changed = cut.shape != first.shape
                return (
                    self._rank_of(cut),
                    not self._ends_block(cut),
                    self._is_dropout(cut),
                    shape_changed,
                    -cut.position,
                )

            yield min(group, key=badness)

    def _rank_of(self, cut: Cut) -> int:
        """0: the end of a block, or where parallel paths have met; 1: between plain layers; 2: inside a block."""
        ends, scope = cut.node.meta["ends"], cut.node.meta["scope"]
        if any(path not in ends and path not in self._stages and not self._is_container(path) for path in scope):
            return 2
        if self._ends_block(cut):
            return 0
        same_cost = [other.position for other in self.cuts if other.macs == cut.macs]
        before = max((other.position for other in self.cuts if other.macs < cut.macs), default=0)
        return 0 if any(lives > 1 for lives in self._lives[before + 1 : same_cost[0]]) else 1

    def _ends_block(self, cut: Cut) -> bool:
        return any(self._compute[path] > 1 for path in cut.node.meta["ends"])

    def _is_useful(self, cut: Cut) -> bool:
        """A map as the input is one, or tokens that were made of it."""
        if self._rank == 4 and len(cut.shape) == 2:
            return min(cut.shape) > 1
        return len(cut.shape) + 1 == self._rank and (self._rank == 2 or any(side > 1 for side in cut.shape[1:]))

    def _is_dropout(self, cut: Cut) -> bool:
        return cut.node.op == "call_module" and isinstance(self._traced.get_submodule(str(cut.node.target)), _DROPOUT)

    def _find_stages(self) -> set[str]:
        """Return the modules that are made of several blocks, and so are no block themselves."""
        blocks: Counter[str] = Counter()
        for cut in self.cuts:
            ended = [path for path in cut.node.meta["ends"] if self._compute[path] > 1 and not self._is_container(path)]
            blocks.update(
                path for path in cut.node.meta["scope"] if any(block.startswith(f"{path}.") for block in ended)
            )
        return {path for path, count in blocks.items() if count > 1}

    def _is_container(self, path: str) -> bool:
        return type(self._model.get_submodule(path)).__module__.startswith("torch.")

    def _compute_per_module(self, nodes: list[fx.Node]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for before, node in itertools.pairwise(nodes):
            if self._macs[node] > self._macs[before]:
                counts.update(node.meta.get("scope", ()))
        return counts

    def _name_nodes(self, nodes: list[fx.Node]) -> dict[str, list[fx.Node]]:
        aliases: dict[str, list[fx.Node]] = {}
        for node in nodes:
            for name in _names(node):
                aliases.setdefault(name, []).append(node)
        for name, owners in list(aliases.items()):
            for call, node in enumerate(owners, start=1):
                aliases.setdefault(f"{name}@{call}", [node])
        return aliases

    def _name(self, node: fx.Node) -> str:
        names = _names(node)
        paths = node.meta["ends"]
        own = [path for path in paths if not self._is_container(path)]
        blocks = [path for path in own if self._compute[path] > 1]
        name: str = (blocks or own or paths or names)[0]
        owners = self._aliases[name]
        return name if len(owners) == 1 else f"{name}@{owners.index(node) + 1}"

    def _why_not(self, name: str, matches: list[Cut]) -> str:
        if matches:
            calls = [f"{name}@{self._aliases[name].index(cut.node) + 1}" for cut in matches]
            return f"attach.modules: {name!r} is passed {len(matches)} times: name one of {', '.join(calls)}"
        valid = [cut.name for cut in self.cuts]
        if name not in self._aliases:
            return f"attach.modules: {unknown_name('single-tensor cut', name, valid)}"
        here = list(self._traced.graph.nodes).index(self._aliases[name][-1])
        nearest = sorted(self.cuts, key=lambda cut: abs(cut.position - here))[:4]
        return (
            f"attach.modules: {name!r} is no place inside the backbone through which all data flows: "
            f"the nearest such places are {', '.join(cut.name for cut in sorted(nearest, key=lambda c: c.position))}"
        )


def nearest_to_even(shares: Sequence[float], count: int) -> list[int]:
    """Return the indices of the ``count`` rising ``shares`` nearest to 1, 2, ... over ``count + 1``, in sum."""
    best: list[tuple[float, list[int]]] = [(0.0, []), *((float("inf"), []) for _ in range(count))]
    for index, share in enumerate(shares):
        for taken in range(count, 0, -1):
            distance = best[taken - 1][0] + abs(share - taken / (count + 1))
            if distance < best[taken][0]:
                best[taken] = (distance, [*best[taken - 1][1], index])
    return best[count][1]


def _live_values(graph: fx.Graph) -> Iterator[set[fx.Node]]:
    """Give, behind each node, the values that later nodes need; parameters and buffers are at hand everywhere."""
    last_use = {used: user for user in graph.nodes for used in user.all_input_nodes}
    live: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "get_attr" and node in last_use:
            live.add(node)
        live -= {used for used in node.all_input_nodes if last_use[used] is node}
        yield set(live)


def _cumulative_macs(traced: fx.GraphModule, example: Tensor) -> dict[fx.Node, int]:
    """Return the multiply-accumulates for one sample up to and with each node."""
    macs: dict[str, int] = {}

    class Counting(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            macs[n.name] = counter.get_total_flops() // 2
            return result

    with torch.random.fork_rng([]), torch.no_grad(), counting_flops() as counter:
        Counting(copy.deepcopy(traced).eval()).run(example)
    return {node: macs[node.name] for node in traced.graph.nodes}


def _rows_shape(node: fx.Node) -> tuple[int, ...] | None:
    """Return the shape for one sample, with the batch, if the value is a tensor with one row per sample."""
    shapes = node.meta.get("shapes")
    if not shapes or not shapes[0] or [shape[0] for shape in shapes] != [1, 2] or shapes[0][1:] != shapes[1][1:]:
        return None
    shape: tuple[int, ...] = shapes[0]
    return shape


def _names(node: fx.Node) -> list[str]:
    own = str(node.target) if node.op == "call_module" else ".".join([*node.meta.get("scope", ())[-1:], node.name])
    return [*node.meta.get("ends", ()), *dict.fromkeys([own, node.name])]


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
