"""Multiply-accumulates of a module, by thop, and what thop does not see.

thop counts leaf modules, as in the figures that the field reports: convolutions and linear layers exactly, batch-norm
as 4 per element, average pooling as 1 per output element (adaptive: 1 per input and output element), bicubic resizing
as 259 per output element, activations and max-pooling as nothing. It is told of attention, of the products of our
layers, and of the functional calls (``torch.matmul``, ``F.linear``) that a cut backbone makes as modules. Those inside
a module that is kept whole escape it; PyTorch's own counter sees them, so the two are compared.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import thop
import torch
from torch import nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.backbones.flops import counting_flops
from aebnas.backbones.modes import ByMode
from aebnas.branches.tokens import Product


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
    told = {Product: _count_call, ByMode: _count_call, nn.MultiheadAttention: _count_attention}
    total, _, tree = thop.profile(probe, samples, custom_ops=told, verbose=False, ret_layer_info=True)
    products = (nn.Linear, nn.modules.conv._ConvNd, *told)
    names = {name: isinstance(part, products) for name, part in probe.named_modules()}

    def walk(layers: dict[str, tuple[float, float, dict]], prefix: str) -> float:  # type: ignore[type-arg]
        found = 0.0
        for name, (macs, _, inner) in layers.items():
            path = f"{prefix}{name}"
            found += macs if names.get(path) else walk(inner, f"{path}.")
        return found

    alone = total if isinstance(probe, products) else walk(tree, "")
    return {"all": total, "products": alone}


def _count_call(module: Any, inputs: tuple[Any, ...], _: Any) -> None:
    with counting_flops() as counter:
        module.forward(*inputs)
    module.total_ops += counter.get_total_flops() // 2


def _count_attention(module: Any, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
    """Count projections, scores and mixtures, from the shapes; its fast path calls no layer that could be counted."""
    if len(inputs) < 3:
        return  # given by name, which hooks do not see: it is reported as missed
    query, key, value = (given if module.batch_first else given.transpose(0, 1) for given in inputs[:3])
    width = module.embed_dim
    batch, asking, hearing = *query.shape[:2], key.shape[1]
    projections = asking * query.shape[2] + hearing * (key.shape[2] + value.shape[2]) + asking * width
    module.total_ops += batch * width * (projections + 2 * asking * hearing)
