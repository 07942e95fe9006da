from __future__ import annotations

import pytest
import torch
from torch import nn

from aebnas.branches.build import build_branch, make_head, make_layer
from aebnas.branches.heads import HEADS
from aebnas.branches.layers import LAYERS, output_shape, scaled_channels
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BranchError

SHAPE = (4, 8, 8)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (PartSpec.of("conv", kernal=3), "layer 'conv': there is no option 'kernal': did you mean 'kernel'"),
        (PartSpec.of("conv", kernel="3"), r"layer 'conv': option 'kernel' must be a whole number \(got '3'\)"),
        (PartSpec.of("conv", stride=True), r"layer 'conv': option 'stride' must be a whole number \(got True\)"),
        (PartSpec.of("conv", stride=1.5), r"layer 'conv': option 'stride' must be a whole number \(got 1\.5\)"),
        (PartSpec.of("conv", channels="x"), r"layer 'conv': option 'channels' must be a number \(got 'x'\)"),
        (PartSpec.of("conv", kernel=7), r"layer 'conv': kernel must be one of \(1, 3, 5\) \(got 7\)"),
        (PartSpec.of("conv", stride=0), r"layer 'conv': stride must be 1 to 4 \(got 0\)"),
        (PartSpec.of("conv", channels=0), r"channels must be a multiplier in \(0, 8\] \(got 0\)"),
        (PartSpec.of("dsconv", channels=9), r"channels must be a multiplier in \(0, 8\] \(got 9\)"),
        (PartSpec.of("dsconv", kernel=2), r"layer 'dsconv': kernel must be one of \(1, 3, 5\) \(got 2\)"),
        (PartSpec.of("max-pool", kernel=1), r"layer 'max-pool': kernel must be one of \(2, 3, 5\) \(got 1\)"),
        (PartSpec.of("average-pool", stride=5), r"layer 'average-pool': stride must be 1 to 4 \(got 5\)"),
        (PartSpec.of("shrink", factor=2.5), r"layer 'shrink': option 'factor' must be a whole number \(got 2\.5\)"),
        (PartSpec.of("shrink", factor=1), "layer 'shrink' by 1 does not fit"),
        (PartSpec.of("resize", size=8.5), r"layer 'resize': option 'size' must be a whole number \(got 8\.5\)"),
        (PartSpec.of("resize", size=0), r"layer 'resize': size must be 1 to 256 \(got 0\)"),
        (PartSpec.of("resize", size=257), r"layer 'resize': size must be 1 to 256 \(got 257\)"),
        (PartSpec.of("relu", inplace=True), "layer 'relu' takes no options: drop 'inplace'"),
        (PartSpec.of("batch-norm", momentum=0.1), "layer 'batch-norm' takes no options: drop 'momentum'"),
        (PartSpec("cnv"), "there is no layer 'cnv': did you mean 'conv'"),
    ],
)
def test_a_wrong_layer_is_one_sentence_that_says_where_it_stands(part, sentence):
    with pytest.raises(BranchError, match=sentence) as caught:
        make_layer(part, SHAPE)
    assert "\n" not in str(caught.value)
    with pytest.raises(BranchError, match=f"layer 1 of the branch at stem: .*{sentence}"):
        build_branch(BranchSpec("stem", (PartSpec("relu"), part)), SHAPE, 3)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (PartSpec.of("grid-linear", sizes=2), "head 'grid-linear': there is no option 'sizes': did you mean 'size'"),
        (PartSpec.of("grid-linear", size="2"), r"head 'grid-linear': option 'size' must be a whole number \(got '2'\)"),
        (PartSpec.of("grid-linear", size=0), "head 'grid-linear' with size 0 does not divide"),
        (PartSpec.of("grid-linear", size=3), "head 'grid-linear' with size 3 does not divide a 8x8 map"),
        (PartSpec.of("expand-mix", expand=9), r"takes expand 1 to 8 and mix 0 to 4096 \(got 9 and 0\)"),
        (PartSpec.of("expand-mix", mix=-1), r"takes expand 1 to 8 and mix 0 to 4096 \(got 6 and -1\)"),
        (PartSpec.of("pooled-linear", bias=False), "head 'pooled-linear' takes no options: drop 'bias'"),
        (PartSpec("pooled"), "there is no head 'pooled': did you mean 'pooled-linear'"),
    ],
)
def test_a_wrong_head_is_one_sentence_that_says_where_it_stands(part, sentence):
    with pytest.raises(BranchError, match=sentence) as caught:
        make_head(part, SHAPE, 3)
    assert "\n" not in str(caught.value)
    with pytest.raises(BranchError, match=f"head of the branch at stem: .*{sentence}"):
        build_branch(BranchSpec("stem", (), part), SHAPE, 3)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (PartSpec.of("token-mlp", ratio=0), r"channels must be a multiplier in \(0, 8\] \(got 0\)"),
        (PartSpec.of("token-attention", heads=3), "layer 'token-attention': 3 heads do not divide 4 channels"),
        (PartSpec.of("token-attention", heads=0), "layer 'token-attention': 0 heads do not divide"),
        (PartSpec.of("token-norm", eps=1.0), "layer 'token-norm' takes no options"),
    ],
)
def test_a_wrong_layer_of_tokens_is_one_sentence(part, sentence):
    with pytest.raises(BranchError, match=sentence):
        make_layer(part, (9, 16))


def test_a_wrong_pool_of_tokens_names_those_there_are():
    with pytest.raises(BranchError, match=r"pool must be one of mean, class \(got 'max'\)"):
        make_head(PartSpec.of("token-linear", pool="max"), (9, 16), 3)


def test_a_plug_in_of_ones_own_needs_no_annotations(monkeypatch):
    class Own(nn.Conv2d):
        def __init__(self, shape, width=3):
            super().__init__(shape[0], width, 1)

    monkeypatch.setitem(LAYERS._entries, "own", Own)
    monkeypatch.setitem(HEADS._entries, "own", lambda shape, classes, scale=1: nn.Flatten())
    spec = BranchSpec("stem", (PartSpec.of("own", width=7),), PartSpec.of("own", scale=2))
    assert build_branch(spec, SHAPE, 3)(torch.zeros(2, *SHAPE)).shape == (2, 7 * 8 * 8)
    with pytest.raises(BranchError, match="layer 'own': there is no option 'wide'"):
        make_layer(PartSpec.of("own", wide=7), SHAPE)


@pytest.mark.parametrize(
    ("channels", "multiplier", "expected"),
    [(16, 1, 16), (3, 1, 3), (16, 2, 32), (16, 0.5, 8), (3, 2, 8), (3, 0.5, 4), (4, 0.1, 4), (10, 1.5, 16), (5, 2, 12)],
)
def test_scaled_channels_are_multiples_of_four(channels, multiplier, expected):
    assert scaled_channels(channels, multiplier) == expected


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [5, 8])
def test_same_padding_leaves_one_output_per_stride(kernel, stride, side):
    shape = (4, side, side)
    expected = -(-side // stride)
    for kind in ("conv", "dsconv"):
        layer = make_layer(PartSpec.of(kind, kernel=kernel, stride=stride, channels=2), shape)
        assert output_shape(layer, shape) == (8, expected, expected)
    if kernel > 1:
        for kind in ("max-pool", "average-pool"):
            layer = make_layer(PartSpec.of(kind, kernel=kernel, stride=stride), shape)
            assert output_shape(layer, shape) == (4, expected, expected)


def test_the_padding_does_not_count_in_an_average():
    layer = make_layer(PartSpec.of("average-pool", kernel=3, stride=1), SHAPE)
    torch.testing.assert_close(layer(torch.ones(1, *SHAPE)), torch.ones(1, *SHAPE))


def test_shrinking_is_the_mean_over_blocks():
    images = torch.randn(2, *SHAPE)
    blocks = images.reshape(2, 4, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(make_layer(PartSpec("shrink"), SHAPE)(images), blocks)


def test_a_grid_head_keeps_where():
    head = make_head(PartSpec.of("grid-linear", size=2), SHAPE, 3)
    features = head[:2](torch.arange(4.0 * 64).reshape(1, *SHAPE))
    corner = torch.arange(64.0).reshape(8, 8)[:4, :4].mean()
    assert features.shape == (1, 16)
    assert features[0, 0] == corner
