"""Every family that the documentation names is cut, counted and run segment by segment; some are exported as well."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.costs.macs import segment_macs
from benchmarks.families import FAMILIES, onnx_difference, settle

SMALL = {
    "torchvision:resnet18": 32,
    "torchvision:densenet121": 32,
    "torchvision:vgg11_bn": 32,
    "torchvision:inception_v3": 75,
    "torchvision:googlenet": 32,
    "torchvision:mobilenet_v2": 32,
    "torchvision:mobilenet_v3_small": 32,
    "torchvision:efficientnet_b0": 32,
    "torchvision:regnet_y_400mf": 32,
    "torchvision:convnext_tiny": 32,
    "torchvision:mnasnet0_5": 32,
    "torchvision:shufflenet_v2_x0_5": 32,
    "torchvision:squeezenet1_1": 64,
    "torchvision:swin_t": 64,
    "timm:resnet18": 32,
    "timm:mobilenetv3_small_050": 32,
    "timm:convnext_atto": 32,
    "timm:edgenext_xx_small": 64,
    "timm:vit_tiny_patch16_224": 64,
    "timm:deit_tiny_distilled_patch16_224": 64,
    "timm:mixer_s32_224": 64,
    "timm:levit_128s": 224,
}
TOKENS = ("vit", "deit", "mixer", "levit")
EXPORTED = ("torchvision:googlenet", "torchvision:swin_t", "timm:vit_tiny_patch16_224", "timm:edgenext_xx_small")


@cache
def built(name: str, side: int) -> nn.Module:
    pytest.importorskip(name.partition(":")[0])
    torch.manual_seed(0)
    return build_backbone(BackboneSettings(name=name), num_classes=3, input_shape=(3, side, side)).eval()


def test_the_models_tried_here_are_those_of_the_table():
    assert set(SMALL) <= {family.name for family in FAMILIES}


@pytest.mark.parametrize(("name", "side"), SMALL.items())
def test_a_family_is_cut_without_a_word_about_it(name, side):
    model = built(name, side)
    cut = cut_backbone(model, (3, side, side), max_points=4).eval()
    assert len(cut.attach_points) >= 3
    # Behind convolutions, the map of LeViT becomes tokens.
    ranks = {len(point.shape) for point in cut.attach_points} - ({3} if "levit" in name else set())
    assert ranks == ({2} if any(kind in name for kind in TOKENS) else {3})
    images = torch.randn(3, 3, side, side)
    settle(model, images)
    with torch.no_grad():
        assert model(images).abs().max() > 1e-3
        assert torch.equal(cut(images.clone()), model(images.clone()))
    shares = [point.macs / cut.macs for point in cut.attach_points]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] < 1
    if name in EXPORTED:
        assert onnx_difference(cut, model, images) < 1e-3


def test_maps_whose_channels_are_last_are_handed_out_with_the_channels_first():
    model = built("torchvision:swin_t", 64)
    cut = cut_backbone(model, (3, 64, 64), max_points=4)
    widths = {96: 16, 192: 8, 384: 4, 768: 2}
    assert all(point.shape[1:] == (widths[point.shape[0]],) * 2 for point in cut.attach_points)


@pytest.mark.parametrize("name", ["torchvision:swin_t", "timm:vit_tiny_patch16_224"])
def test_attention_is_counted_though_it_is_no_layer(name):
    cut = cut_backbone(built(name, 64), (3, 64, 64), max_points=2)
    # Norms count 4 per element, and pooling something: little beside the products.
    assert cut.macs <= sum(segment_macs(cut)) < 1.03 * cut.macs
