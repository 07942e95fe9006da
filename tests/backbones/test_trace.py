from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.trace import trace
from aebnas.errors import TraceError

SHAPE = (2, 8, 8)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        if x.mean() > 0:  # the offending line
            return self.conv(x)
        return x


def classifier(*layers):
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Conv2d(4, 3, 8), nn.Flatten())


def line_of(text):
    """The line number, in this file, of the first line that contains ``text``."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_data_dependent_control_flow_names_the_line_and_the_way_out():
    with pytest.raises(TraceError) as caught:
        cut_backbone(classifier(nn.Sequential(Router())), SHAPE)
    message = str(caught.value)
    assert f"{__file__}:{line_of('# the offending line')} " in message
    assert "depends on the data" in message
    assert "module '1.0'" in message
    assert "backbone.leaves" in message
    assert "\n" not in message


def test_a_leaf_is_kept_whole():
    model = classifier(Router(), nn.ReLU()).eval()
    images = torch.randn(3, *SHAPE)
    cut = cut_backbone(model, SHAPE, leaves=["1"], modules=["1"])
    for sign in (1, -1):
        nn.init.constant_(model[0].bias, sign * 10.0)
        assert torch.equal(cut(images), model(images))
    assert {id(p) for s in cut.segments for p in s.parameters()} == {id(p) for p in model.parameters()}


def test_an_unknown_leaf_suggests_the_right_name():
    with pytest.raises(TraceError, match=r"backbone\.leaves.*did you mean '1'"):
        trace(classifier(Router()), SHAPE, leaves=["1."])


class Rows(nn.Module):
    def forward(self, x):
        if x.shape[0] % 2 == 0:
            return x
        return x * 2


class PerRow(nn.Module):
    def forward(self, x):
        return torch.stack([row + 1 for row in x])


class Measuring(nn.Module):
    def forward(self, x):
        for _ in range(int(x.sum())):
            x = x + 1
        return x


class Assigning(nn.Module):
    def forward(self, x):
        x = x.clone()
        x[:, 0] = 0
        return x


@pytest.mark.parametrize(
    ("layer", "line", "reason"),
    [
        (Rows(), "if x.shape[0] % 2 == 0", "batch size"),
        (PerRow(), "torch.stack([row + 1 for row in x])", "batch size"),
        (Measuring(), "range(int(x.sum()))", "the data"),
    ],
)
def test_what_else_cannot_be_recorded(layer, line, reason):
    with pytest.raises(TraceError, match=f":{line_of(line)} .*{reason}.*backbone.leaves"):
        trace(classifier(layer), SHAPE)


def test_what_cannot_be_recorded_but_decides_nothing_is_kept_whole_by_itself():
    model = classifier(Assigning(), nn.ReLU()).eval()
    images = torch.randn(3, *SHAPE)
    cut = cut_backbone(model, SHAPE, modules=["1"])
    assert torch.equal(cut(images), model(images))
    assert not cut.segments[0](images)[:, 0].any()


def test_what_is_most_of_the_model_is_not_kept_whole_by_itself():
    class Body(nn.Conv2d):
        def forward(self, x):
            x = super().forward(x)
            x[:, 0] = 0
            return x

    # There would be nowhere left to cut.
    with pytest.raises(TraceError, match=r"item assignment; .*'0'.*backbone\.leaves"):
        trace(nn.Sequential(Body(2, 3, 8), nn.Flatten()), SHAPE)


def test_a_line_in_the_backbone_itself_is_named_too():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(128, 3)

        def forward(self, x):
            return self.fc(x.flatten(1)) if x.sum() > 1e9 else self.fc(-x.flatten(1))

    with pytest.raises(TraceError, match=re.escape(f":{line_of('1e9 else')} ") + ".*into a submodule"):
        trace(Whole(), SHAPE)


def test_auxiliary_outputs_in_train_mode_are_refused():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc, self.aux = nn.Conv2d(2, 3, 8), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            x = self.conv(x).flatten(1)
            return (self.fc(x), self.aux(x)) if self.training else self.fc(x)

    with pytest.raises(TraceError, match="another path in train mode"):
        trace(Auxiliary(), SHAPE)


def test_numbers_from_shapes_are_folded_and_the_batch_is_not(make):
    graph = trace(make("plain"), SHAPE).graph
    numbers = [node for node in graph.nodes if node.op == "call_method" and node.target == "size"]
    assert [node.args[1] for node in numbers] == [0]
    assert all(node.target not in (getattr, torch.Size) for node in graph.nodes)


def test_the_graph_shares_modules_and_runs_any_batch(net, images):
    traced = trace(net.eval(), SHAPE)
    assert {id(p) for p in traced.parameters()} == {id(p) for p in net.parameters()}
    for batch in (1, 4):
        assert torch.equal(traced(images[:batch].clone()), net(images[:batch].clone()))


def test_further_arguments_of_forward_keep_their_defaults():
    class Scaled(nn.Sequential):
        def forward(self, x, scale=2.0, mask=None):
            return super().forward(x if mask is None else x * mask) * scale

    model, images = Scaled(nn.Flatten(), nn.Linear(128, 3)), torch.randn(2, *SHAPE)
    assert torch.equal(trace(model, SHAPE)(images), model(images))
