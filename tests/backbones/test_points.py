from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.points import find_cuts, nearest_to_even
from aebnas.backbones.settings import BackboneSettings

SHAPE = (2, 8, 8)


@st.composite
def graphs(draw):
    graph = fx.Graph()
    nodes = [graph.placeholder("x")]
    for _ in range(draw(st.integers(1, 10))):
        inputs = draw(st.lists(st.integers(max(0, len(nodes) - 3), len(nodes) - 1), min_size=1, max_size=2))
        nodes.append(graph.call_function(torch.add, tuple(nodes[i] for i in inputs)))
    loose = tuple(node for node in nodes if not node.users)
    graph.output(graph.call_function(torch.cat, (loose,)))
    return graph


def reaches_output(graph, without):
    """Follow every path from the input that avoids one node."""
    seen, todo = set(), [node for node in graph.nodes if node.op == "placeholder" and node is not without]
    while todo:
        node = todo.pop()
        seen.add(node)
        todo += [user for user in node.users if user is not without and user not in seen]
    return any(node.op == "output" for node in seen)


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_cuts_are_the_nodes_without_which_the_output_cannot_be_reached(graph):
    separating = {node for node in graph.nodes if node.op != "output" and not reaches_output(graph, node)}
    assert set(find_cuts(graph)) == separating


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_even_spread_against_every_choice(shares, data):
    shares.sort()
    count = data.draw(st.integers(1, len(shares)))

    def distance(choice):
        return sum(abs(shares[i] - (k + 1) / (count + 1)) for k, i in enumerate(choice))

    chosen = nearest_to_even(shares, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    assert distance(chosen) == pytest.approx(min(map(distance, itertools.combinations(range(len(shares)), count))))


def macs_by_hooks(model):
    """Count the MACs of convolutions and linear layers from their shapes, the textbook way."""
    total = []

    def count(module, args, out):
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            total.append(out[0].numel() * kernel * module.in_channels // module.groups)
        else:
            total.append(module.in_features * module.out_features)

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, *SHAPE))
    for handle in handles:
        handle.remove()
    return sum(total)


@pytest.mark.parametrize("name", ["residual", "staged", "dense", "inception", "depthwise", "plain", "shared"])
def test_macs_against_the_textbook(make, name):
    net = make(name)
    cut = cut_backbone(net, SHAPE)
    assert cut.macs == macs_by_hooks(net)
    macs = [point.macs for point in cut.attach_points]
    assert macs == sorted(set(macs))
    assert macs[0] > 0
    assert macs[-1] < cut.macs


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("residual", ["stem", "blocks.0", "blocks.1"]),
        ("pre-activation", ["stem", "blocks.0", "blocks.1"]),
        ("staged", ["stem", "blocks.0.first", "blocks.0.second", "blocks.1.first"]),
        ("dense", ["stem", "blocks.0", "blocks.1"]),
        ("inception", ["stem", "blocks.0"]),
        ("depthwise", ["stem", "blocks.0", "blocks.1", "blocks.2"]),
        ("plain", ["features.1", "features.4"]),
        ("shared", ["act@1", "act@2"]),
        ("modes", ["stem", "blocks.0"]),
    ],
)
def test_points_are_ends_of_blocks(make, name, points):
    assert [p.name for p in cut_backbone(make(name), SHAPE, max_points=9).attach_points] == points


@pytest.mark.parametrize("name", ["resnet", "inverted-residual", "convnet"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_points_are_spread_and_no_more_than_asked(name, count):
    model = build_backbone(BackboneSettings(name=name), num_classes=10, input_shape=(1, 12, 12))
    cut = cut_backbone(model, (1, 12, 12), max_points=count)
    shares = [point.macs / cut.macs for point in cut.attach_points]
    assert len(shares) == count
    assert all(abs(share - (k + 1) / (count + 1)) < 0.17 for k, share in enumerate(shares))


def test_the_same_backbone_gives_the_same_points(net):
    first, second = (cut_backbone(net, SHAPE).attach_points for _ in range(2))
    assert first == second
