"""MACs against closed forms, written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.build import build_branch, make_layer
from aebnas.branches.linked import build_exit
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.costs.macs import MacCount, count_macs


@pytest.mark.parametrize(
    ("part", "shape", "macs"),
    [
        (PartSpec.of("conv", kernel=3), (8, 14, 14), 14 * 14 * 8 * 8 * 9),
        (PartSpec.of("conv", kernel=5, stride=2, channels=2), (8, 14, 14), 7 * 7 * 16 * 8 * 25),
        (PartSpec.of("conv", kernel=1, stride=4), (8, 14, 14), 4 * 4 * 8 * 8),
        # depthwise, batch-norm on its output, pointwise
        (
            PartSpec.of("dsconv", kernel=3, stride=2, channels=2),
            (8, 14, 14),
            7 * 7 * 8 * 9 + 4 * 7 * 7 * 8 + 7 * 7 * 16 * 8,
        ),
        (PartSpec("batch-norm"), (8, 14, 14), 4 * 8 * 14 * 14),
        (PartSpec("relu"), (8, 14, 14), 0),
        (PartSpec("max-pool"), (8, 14, 14), 0),
        (PartSpec("average-pool"), (8, 14, 14), 8 * 7 * 7),
        (PartSpec.of("resize", size=10), (8, 14, 14), 259 * 8 * 10 * 10),
    ],
)
def test_layers(part, shape, macs):
    assert count_macs(make_layer(part, shape), shape) == MacCount(macs)


@pytest.mark.parametrize(
    ("head", "macs"),
    [
        # adaptive pooling: one per input element and one per output element
        (PartSpec("pooled-linear"), (36 + 1) * 8 + 8 * 5),
        (PartSpec.of("grid-linear", size=2), 4 * 8 + 4 * 8 * 5),
        (
            PartSpec.of("expand-mix", expand=2, mix=12),
            36 * 8 * 16 + 4 * 36 * 16 + (36 + 1) * 16 + 16 * 12 + 12 * 5,
        ),
    ],
)
def test_heads(head, macs):
    assert count_macs(build_branch(BranchSpec("a", (), head), (8, 6, 6), 5), (8, 6, 6)) == MacCount(macs)


@pytest.mark.parametrize(("cascade", "link"), [("inputs", 5 * 5), ("ensemble", 0), ("both", 5 * 5)])
def test_a_cascaded_branch_hears_through_one_linear_layer(cascade, link):
    spec = BranchSpec("a", (), PartSpec("pooled-linear"))
    linked = build_exit(spec, (8, 6, 6), 5, cascade, first=False)
    assert count_macs(linked, (8, 6, 6), (5,)) == MacCount((36 + 1) * 8 + 8 * 5 + link)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_its_projections_scores_and_mixtures(batch_first):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.attention(x, x, x)[0]

    tokens, width = 5, 8
    macs = 4 * tokens * width * width + 2 * tokens * tokens * width
    assert count_macs(Own(), (tokens, width)) == MacCount(macs)


def test_layers_of_tokens():
    tokens, width = 9, 16
    norm = 4 * tokens * width
    mlp = count_macs(make_layer(PartSpec.of("token-mlp", ratio=2), (tokens, width)), (tokens, width))
    assert mlp == MacCount(norm + 2 * tokens * width * 2 * width)
    attention = count_macs(make_layer(PartSpec("token-attention"), (tokens, width)), (tokens, width))
    inside, softmax = 4, 4 * tokens * (3 * tokens - 1)
    products = tokens * width * 4 * inside + 2 * tokens * tokens * inside
    assert attention.missed == 0
    assert attention.macs == norm + products + softmax


def test_a_single_linear_layer():
    assert count_macs(nn.Linear(30, 7), (30,)) == MacCount(30 * 7)


def resnet20_macs() -> int:
    """ResNet-20 of width 16 with 10 classes on (1, 28, 28), by hand."""
    stem = 28**2 * 16 * 1 * 9
    stage1 = 6 * 28**2 * 16 * 16 * 9
    stage2 = 14**2 * 32 * 16 * 9 + 5 * 14**2 * 32 * 32 * 9 + 14**2 * 32 * 16
    stage3 = 7**2 * 64 * 32 * 9 + 5 * 7**2 * 64 * 64 * 9 + 7**2 * 64 * 32
    batch_norms = 4 * (7 * 28**2 * 16 + 7 * 14**2 * 32 + 7 * 7**2 * 64)
    return stem + stage1 + stage2 + stage3 + batch_norms + (7**2 + 1) * 64 + 64 * 10


@pytest.fixture(scope="module")
def resnet20() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(BackboneSettings(name="resnet"), num_classes=10, input_shape=(1, 28, 28))


def test_the_whole_resnet_20(resnet20):
    assert resnet20_macs() == 31_639_808
    assert count_macs(resnet20, (1, 28, 28)) == MacCount(31_639_808)


def test_the_segments_of_a_backbone_add_up_to_it(resnet20):
    cut = cut_backbone(resnet20, (1, 28, 28), max_points=4)
    shapes = [cut.input_shape, *(point.shape for point in cut.attach_points)]
    counts = [count_macs(segment, shape) for segment, shape in zip(cut.segments, shapes, strict=True)]
    assert len(counts) == 5
    assert sum(count.macs for count in counts) == resnet20_macs()
    assert all(count.missed == 0 for count in counts)
    assert count_macs(cut.span(0, 5), (1, 28, 28)) == MacCount(resnet20_macs())


class Functional(nn.Module):
    """A counted convolution, and what ``call`` does with its output (N, 4, 6, 6), unseen by thop."""

    def __init__(self, call):
        super().__init__()
        self.conv, self.call = nn.Conv2d(2, 4, 3, padding=1), call
        self.weight = nn.Parameter(torch.ones(6, 6))
        self.kernel = nn.Parameter(torch.ones(3, 4, 3, 3))

    def forward(self, x):
        return self.call(self, self.conv(x))


@pytest.mark.parametrize(
    ("call", "missed"),
    [
        (lambda self, x: x, 0),
        (lambda self, x: torch.relu(x) + 1, 0),
        (lambda self, x: F.linear(x, self.weight), 4 * 6 * 6 * 6),
        (lambda self, x: torch.matmul(x, x.transpose(2, 3)), 4 * 6 * 6 * 6),
        (lambda self, x: x @ self.weight, 4 * 6 * 6 * 6),
        (lambda self, x: F.conv2d(x, self.kernel), 4 * 4 * 3 * 4 * 9),
    ],
    ids=["nothing", "elementwise", "linear", "matmul", "operator", "conv2d"],
)
def test_products_that_thop_does_not_see_are_reported(call, missed):
    assert count_macs(Functional(call), (2, 6, 6)) == MacCount(36 * 4 * 2 * 9, missed)


@pytest.mark.parametrize("weights", [False, True])
def test_attention_is_counted_although_it_runs_fused(weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=weights)[0]

    # 5 tokens of width 8: three projections in and one out, then scores and weighted values.
    assert count_macs(Attention(), (5, 8)) == MacCount(4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_macs(module, (2, 6, 6))
    assert all(part.training for part in module.modules())
    assert list(module.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(not part._forward_hooks for part in module.modules())
