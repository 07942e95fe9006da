"""Calls of functions as modules of a graph: to keep train mode and eval mode apart, or to be counted as layers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.fx.node import map_aggregate


@dataclass(frozen=True)
class _Slot:
    """Stands for the n-th tensor given to the call."""

    index: int


class ByMode(nn.Module):
    """One call whose constant arguments differ between train and eval mode, such as ``F.dropout(x, training=...)``.

    Args:
        function: What is called.
        train_call: Its (args, kwargs) in train mode, with slots for the tensors.
        eval_call: The same in eval mode.
    """

    def __init__(self, function: Callable[..., Any], train_call: Any, eval_call: Any) -> None:
        super().__init__()
        self.function = function
        self.train_call = train_call
        self.eval_call = eval_call

    def forward(self, *values: Any) -> Any:
        """Make the call of the present mode."""

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, _Slot) else leaf

        args, kwargs = map_aggregate(self.train_call if self.training else self.eval_call, fill)
        return self.function(*args, **kwargs)


def first_clash(evaluation: fx.Graph, training: fx.Graph) -> tuple[fx.Node, fx.Node] | None:
    """Return the first pair of nodes that differ by more than constants, or None: then they pair up one to one."""
    number = {node: index for graph in (evaluation, training) for index, node in enumerate(graph.nodes)}

    def same_source(a: Any, b: Any) -> bool:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            return number[a] == number[b]
        return isinstance(a, fx.Node) == isinstance(b, fx.Node)

    for one, other in zip(evaluation.nodes, training.nodes, strict=False):
        same_call = (one.op, one.target) == (other.op, other.target)
        ours, theirs = _leaves(one), _leaves(other)
        same_inputs = len(ours) == len(theirs) and all(map(same_source, ours, theirs))
        if not same_call or not same_inputs or (one.op == "call_module" and _differ(ours, theirs)):
            return one, other
    return None


def merge_modes(evaluation: fx.Graph, training: fx.Graph, training_now: bool) -> dict[str, ByMode]:
    """Let every call of ``evaluation`` with other constants than its partner go by the mode; return the new modules."""
    modules: dict[str, ByMode] = {}
    for node, other in zip(list(evaluation.nodes), list(training.nodes), strict=True):
        if node.op in ("call_function", "call_method") and _differ(_leaves(node), _leaves(other)):
            name = f"by_mode_{len(modules)}"
            modules[name] = _as_module(node, name, _template(other), training_now)
    return modules


def wrap_calls(traced: fx.GraphModule, nodes: Sequence[fx.Node]) -> None:
    """Make calls of functions and methods in ``traced`` modules, so that thop sees them."""
    for number, node in enumerate(nodes):
        name = f"call_{number}"
        traced.add_module(name, _as_module(node, name, _template(node), traced.training))


def _as_module(node: fx.Node, name: str, train_call: Any, training_now: bool) -> ByMode:
    function = _Method(node.target) if isinstance(node.target, str) else node.target
    assert callable(function)
    module = ByMode(function, train_call, _template(node))
    module.training = training_now
    node.op, node.target = "call_module", name
    node.args, node.kwargs = tuple(node.all_input_nodes), {}
    return module


@dataclass(frozen=True)
class _Method:
    name: str

    def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, self.name)(*args, **kwargs)


def _template(node: fx.Node) -> Any:
    slots = {value: _Slot(index) for index, value in enumerate(node.all_input_nodes)}

    def slotted(leaf: Any) -> Any:
        return slots[leaf] if isinstance(leaf, fx.Node) else leaf

    return map_aggregate((node.args, node.kwargs), slotted)


def _leaves(node: fx.Node) -> list[Any]:
    leaves: list[Any] = []
    map_aggregate((node.args, node.kwargs), leaves.append)
    return leaves


def _differ(ours: list[Any], theirs: list[Any]) -> bool:
    return any(not isinstance(a, fx.Node) and a != b for a, b in zip(ours, theirs, strict=True))
