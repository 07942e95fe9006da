"""A backbone cut into segments at places through which all data flows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from aebnas.backbones.check import check_forward, example_input
from aebnas.backbones.modes import wrap_calls
from aebnas.backbones.points import Cut, Places
from aebnas.backbones.trace import trace
from aebnas.errors import BackboneError


@dataclass(frozen=True)
class AttachPoint:
    """A tensor of the backbone through which all data flows: ``shape`` without the batch, ``macs`` up to here.

    The shape is that of a map (channels, height, width), or of tokens (tokens, width). Maps whose channels the backbone
    keeps last are handed out with the channels first.
    """

    name: str
    shape: tuple[int, ...]
    macs: int


class SegmentedBackbone(nn.Module):
    """A backbone and its segments, which run one after the other and share all its parameters and buffers.

    Only ``model`` is a registered child: ``parameters()`` and ``state_dict()`` list everything once, under
    ``model.``, and ``model.state_dict()`` is that of the backbone before it was cut. Switch modes with ``train()``
    and ``eval()`` of this module, not with those of ``model``.

    Attributes:
        model: The backbone as it was given.
        attach_points: From the input to the output.
        segments: One more than attach points; the last one ends in the logits (N, num_classes).
        input_shape: Shape of one sample.
        num_classes: Number of logits.
        macs: Multiply-accumulates of the whole backbone for one sample.
    """

    segments: nn.ModuleList

    def __init__(
        self,
        model: nn.Module,
        segments: Sequence[fx.GraphModule],
        attach_points: Sequence[AttachPoint],
        *,
        input_shape: tuple[int, ...],
        num_classes: int,
        macs: int,
    ) -> None:
        super().__init__()
        self.model = model
        # Past nn.Module's registration: the segments hold nothing of their own to save, move or train.
        object.__setattr__(self, "segments", nn.ModuleList(segments))
        self.attach_points = tuple(attach_points)
        self.input_shape = input_shape
        self.num_classes = num_classes
        self.macs = macs
        self.training = self.segments.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """Return the backbone's logits, float (N, num_classes)."""
        for segment in self.segments:
            x = segment(x)
        return x

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the tensor at every attach point, and the logits last; later segments change none of them."""
        features = []
        for segment in self.segments:
            x = segment(x)
            features.append(x)
        return features

    def span(self, start: int, stop: int) -> nn.Module:
        """Return segments ``start`` to ``stop - 1`` as one module.

        Raises:
            BackboneError: the span is empty or reaches beyond the segments.
        """
        if not 0 <= start < stop <= len(self.segments):
            raise BackboneError(f"there is no span {start}:{stop} of {len(self.segments)} segments")
        span = nn.Sequential(*list(self.segments)[start:stop])
        span.training = self.training
        return span

    def train(self, mode: bool = True) -> SegmentedBackbone:
        """Switch the segments, then the backbone, which may keep some of its layers frozen."""
        self.segments.train(mode)
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SegmentedBackbone:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Moving the backbone gives it new buffers; segments that read a tensor of a traced module must follow.
        for segment in self.segments:
            assert isinstance(segment, fx.GraphModule)
            for target in dict.fromkeys(str(node.target) for node in segment.graph.nodes if node.op == "get_attr"):
                _relink(segment, self.model, target, fn)
        return self


def cut_backbone(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    max_points: int = 6,
    modules: Sequence[str] | None = None,
    leaves: Sequence[str] = (),
) -> SegmentedBackbone:
    """Cut ``model`` into segments at single-tensor places; the segments share its parameters.

    Args:
        model: A classifier (N, *input_shape) -> (N, classes); it is kept, not copied or changed.
        input_shape: Shape of one sample.
        max_points: How many attach points at most; they lie at ends of blocks, evenly over the cumulative MACs.
        modules: Names of the places to use instead: paths of modules whose output is one.
        leaves: Paths of modules that tracing keeps in one piece.

    Raises:
        BackboneError: the model is no such classifier.
        TraceError: the model cannot be traced, or cannot be cut there.
    """
    if max_points < 1:
        raise BackboneError(f"attach.max_points must be at least 1 (got {max_points})")
    input_shape = tuple(input_shape)
    num_classes = check_forward(model, input_shape)
    traced = trace(model, input_shape, leaves)
    places = Places(traced, model, example_input(model, input_shape, 1))
    cuts = places.spread(max_points) if modules is None else places.named(modules)
    wrap_calls(traced, places.functions)
    return SegmentedBackbone(
        model,
        _split(traced, cuts, _overwritten(traced, cuts, example_input(model, input_shape, 2))),
        [AttachPoint(cut.name, cut.shape, cut.macs) for cut in cuts],
        input_shape=input_shape,
        num_classes=num_classes,
        macs=places.total_macs,
    )


def _split(traced: fx.GraphModule, cuts: Sequence[Cut], overwritten: set[fx.Node]) -> list[fx.GraphModule]:
    nodes = list(traced.graph.nodes)
    bounds = [0, *(cut.position for cut in cuts), len(nodes) - 2]
    ends = [*((cut.node, cut.channels_last) for cut in cuts), (nodes[-1].args[0], False)]
    segments = []
    entry, was_last = nodes[0], False
    for first, last, (result, is_last) in zip(bounds, bounds[1:], ends, strict=False):
        graph = fx.Graph()
        values = {entry: graph.placeholder("x")}
        if was_last:
            back = graph.call_method("permute", (values[entry], 0, 2, 3, 1))
            values[entry] = graph.call_method("contiguous", (back,))
        if entry in overwritten:
            values[entry] = graph.call_method("clone", (values[entry],))

        def copied(node: fx.Node, graph: fx.Graph = graph, values: dict[fx.Node, fx.Node] = values) -> fx.Node:
            if node not in values:  # a parameter or buffer that was first read in an earlier segment
                values[node] = graph.node_copy(node)
            return values[node]

        for node in nodes[first + 1 : last + 1]:
            if node.op != "get_attr":
                values[node] = graph.node_copy(node, copied)
        output = graph.call_method("permute", (values[result], 0, 3, 1, 2)) if is_last else values[result]
        graph.output(output)
        segments.append(fx.GraphModule(traced, graph, "Segment"))
        entry, was_last = result, is_last
    return segments


def _overwritten(traced: fx.GraphModule, cuts: Sequence[Cut], example: Tensor) -> set[fx.Node]:
    """Return the cuts whose tensor a later operation changes in place, seen by running the network once."""
    nodes = list(traced.graph.nodes)
    at = {nodes[cut.position].name: cut for cut in cuts}
    copied = copy.deepcopy(traced).train()  # in train mode everything that may work in place does, dropout included
    by_name = {node.name: node for node in copied.graph.nodes}
    kept: list[tuple[Cut, Tensor, int]] = []

    class Watching(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            self.env[n] = result
            cut = at.get(n.name)
            if cut is not None:
                tensor = self.env[by_name[cut.node.name]]
                kept.append((cut, tensor, tensor._version))
            return result

    with torch.random.fork_rng([]), torch.no_grad():
        Watching(copied).run(example.clone())
    return {cut.node for cut, tensor, version in kept if tensor._version != version}


def _relink(segment: nn.Module, model: nn.Module, target: str, fn: Callable[[Tensor], Tensor]) -> None:
    path, _, name = target.rpartition(".")
    owner = segment.get_submodule(path)
    source: Any
    try:
        source = reduce(getattr, target.split("."), model)
    except AttributeError:  # a constant that tracing found; it lives in the segments only
        source = fn(owner.get_buffer(name))
    tensors: dict[str, Any] = owner._parameters if isinstance(source, nn.Parameter) else owner._buffers
    tensors[name] = source
