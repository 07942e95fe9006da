"""Multiply-accumulates of a module, by thop, and what thop does not see.

thop counts leaf modules, as in the figures that the field reports: convolutions and linear layers exactly, batch-norm
as 4 per element, average pooling as 1 per output element (adaptive: 1 per input and output element), bicubic resizing
as 259 per output element, activations and max-pooling as nothing. Functional calls in a user's model
(``torch.matmul``, ``F.linear``) escape it; PyTorch's own counter sees those, so the two are compared.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import thop
import torch
from torch import nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.backbones.flops import counting_flops


@dataclass(frozen=True)
class MacCount:
    """MACs of one forward pass at batch 1.

    Args:
        macs: By thop.
        missed: MACs of matrix products and convolutions that were executed but not counted by thop.
    """

    macs: int
    missed: int = 0


@torch.no_grad()
def count_macs(module: nn.Module, shape: tuple[int, ...], *more: tuple[int, ...]) -> MacCount:
    """Count a module's MACs for one sample of ``shape`` (without batch), and one of each of ``more`` inputs."""
    # thop hangs buffers on every layer, so it works on a copy.
    probe = copy.deepcopy(module).cpu().eval()
    samples = tuple(torch.zeros(1, *each) for each in (shape, *more))
    with counting_flops() as counter:
        probe(*samples)
    executed = counter.get_total_flops() // 2
    by_kind = _by_kind(probe, samples)
    return MacCount(int(by_kind["all"]), max(0, int(executed - by_kind["products"])))


def segment_macs(backbone: SegmentedBackbone) -> list[int]:
    """Return the MACs of every segment of ``backbone``, in order."""
    shapes = [backbone.input_shape, *(point.shape for point in backbone.attach_points)]
    return [count_macs(segment, shape).macs for segment, shape in zip(backbone.segments, shapes, strict=True)]


def _by_kind(probe: nn.Module, samples: tuple[torch.Tensor, ...]) -> dict[str, float]:
    """Return thop's total, and its total over the layers that are products (convolutions and linear layers)."""
    total, _, tree = thop.profile(probe, samples, verbose=False, ret_layer_info=True)
    products = (nn.Linear, nn.modules.conv._ConvNd)
    names = {name: isinstance(part, products) for name, part in probe.named_modules()}

    def walk(layers: dict[str, tuple[float, float, dict]], prefix: str) -> float:  # type: ignore[type-arg]
        found = 0.0
        for name, (macs, _, inner) in layers.items():
            path = f"{prefix}{name}"
            found += macs if names.get(path) else walk(inner, f"{path}.")
        return found

    alone = total if isinstance(probe, products) else walk(tree, "")
    return {"all": total, "products": alone}
