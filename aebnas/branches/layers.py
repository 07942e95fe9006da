"""The layers that branches are made of, each a module that thop counts and ONNX exports.

A factory takes the shape of its input and its options, and returns the module. The shape is that of a map ``(channels,
height, width)`` or of tokens ``(tokens, width)``; the factory raises :class:`BranchError` where the layer does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from aebnas.branches.tokens import TokenAttention, TokenMlp
from aebnas.errors import BranchError
from aebnas.registry import Registry

Shape = tuple[int, ...]
LAYERS: Registry[Callable[..., nn.Module]] = Registry("layer", BranchError)
KERNELS = (1, 3, 5)
POOL_KERNELS = (2, 3, 5)


class LayoutError(BranchError):
    """A layer or head of maps meets tokens, or one of tokens a map."""


def check_is_map(part: str, shape: Shape) -> None:
    """Raise LayoutError unless ``shape`` is that of a map; ``part`` says what it is for."""
    if len(shape) != 3:
        raise LayoutError(f"{part} needs a map (channels, height, width), not a tensor of shape {shape}")


def check_is_tokens(part: str, shape: Shape) -> None:
    """Raise LayoutError unless ``shape`` is that of tokens; ``part`` says what it is for."""
    if len(shape) != 2:
        raise LayoutError(f"{part} needs tokens (tokens, width), not a tensor of shape {shape}")


def scaled_channels(channels: int, multiplier: float) -> int:
    """Return ``channels * multiplier`` rounded to a multiple of 4 (vector width of small cores), at least 4."""
    if not 0 < multiplier <= 8:
        raise BranchError(f"channels must be a multiplier in (0, 8] (got {multiplier})")
    return channels if multiplier == 1 else max(4, 4 * math.floor(channels * multiplier / 4 + 0.5))


def _check_map(kind: str, shape: Shape, kernel: int, stride: int, kernels: tuple[int, ...] = KERNELS) -> None:
    check_is_map(f"layer {kind!r}", shape)
    if kernel not in kernels:
        raise BranchError(f"layer {kind!r}: kernel must be one of {kernels} (got {kernel})")
    if stride not in (1, 2, 3, 4):
        raise BranchError(f"layer {kind!r}: stride must be 1 to 4 (got {stride})")
    side = min(shape[1:])
    if kernel > side or stride > side:
        raise BranchError(f"layer {kind!r} with kernel {kernel} and stride {stride} does not fit a {side}-pixel map")


@LAYERS.add("conv")
def conv(shape: Shape, *, kernel: int = 3, stride: int = 1, channels: float = 1.0) -> nn.Module:
    """Convolution with 'same' padding and no bias (a batch-norm is expected to follow)."""
    _check_map("conv", shape, kernel, stride)
    return nn.Conv2d(shape[0], scaled_channels(shape[0], channels), kernel, stride, kernel // 2, bias=False)


@LAYERS.add("dsconv")
def dsconv(shape: Shape, *, kernel: int = 3, stride: int = 1, channels: float = 1.0) -> nn.Module:
    """Depthwise-separable convolution: depthwise, batch-norm, ReLU, then pointwise."""
    _check_map("dsconv", shape, kernel, stride)
    inside = shape[0]
    return nn.Sequential(
        nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False),
        nn.BatchNorm2d(inside),
        nn.ReLU(),
        nn.Conv2d(inside, scaled_channels(inside, channels), 1, bias=False),
    )


@LAYERS.add("max-pool")
def max_pool(shape: Shape, *, kernel: int = 3, stride: int = 2) -> nn.Module:
    """Max-pooling with 'same' padding."""
    _check_map("max-pool", shape, kernel, stride, POOL_KERNELS)
    return nn.MaxPool2d(kernel, stride, (kernel - 1) // 2)


@LAYERS.add("average-pool")
def average_pool(shape: Shape, *, kernel: int = 3, stride: int = 2) -> nn.Module:
    """Average pooling with 'same' padding; the padding is not counted in the mean."""
    _check_map("average-pool", shape, kernel, stride, POOL_KERNELS)
    return nn.AvgPool2d(kernel, stride, (kernel - 1) // 2, count_include_pad=False)


@LAYERS.add("shrink")
def shrink(shape: Shape, *, factor: int = 2) -> nn.Module:
    """Average over blocks of ``factor`` x ``factor`` pixels: the cheapest way to make the rest of a branch cheap."""
    check_is_map("layer 'shrink'", shape)
    if not 2 <= factor <= min(shape[1:]):
        raise BranchError(f"layer 'shrink' by {factor} does not fit a {min(shape[1:])}-pixel map")
    return nn.AvgPool2d(factor, factor)


@LAYERS.add("batch-norm")
def batch_norm(shape: Shape) -> nn.Module:
    """Batch normalisation over channels."""
    check_is_map("layer 'batch-norm'", shape)
    return nn.BatchNorm2d(shape[0])


@LAYERS.add("relu")
def relu(shape: Shape) -> nn.Module:
    """Rectifier."""
    return nn.ReLU()


@LAYERS.add("hard-swish")
def hard_swish(shape: Shape) -> nn.Module:
    """Hard-swish (arXiv 1905.02244)."""
    return nn.Hardswish()


@LAYERS.add("resize")
def resize(shape: Shape, *, size: int = 8) -> nn.Module:
    """Bicubic resizing to ``size`` x ``size``, as in the stages of AEBNAS's public code (arXiv 2512.10671)."""
    check_is_map("layer 'resize'", shape)
    if not 1 <= size <= 256:
        raise BranchError(f"layer 'resize': size must be 1 to 256 (got {size})")
    return nn.Upsample((size, size), mode="bicubic", align_corners=False)


@LAYERS.add("token-norm")
def token_norm(shape: Shape) -> nn.Module:
    """Layer normalisation of each token."""
    check_is_tokens("layer 'token-norm'", shape)
    return nn.LayerNorm(shape[1])


@LAYERS.add("token-mlp")
def token_mlp(shape: Shape, *, ratio: float = 1.0) -> nn.Module:
    """The half of a transformer's block that works on each token by itself; ``ratio`` is its inner over its width."""
    check_is_tokens("layer 'token-mlp'", shape)
    return TokenMlp(shape[1], scaled_channels(shape[1], ratio))


@LAYERS.add("token-attention")
def token_attention(shape: Shape, *, width: float = 0.25, heads: int = 4) -> nn.Module:
    """The half of a transformer's block that mixes tokens, in ``width`` times as many channels."""
    check_is_tokens("layer 'token-attention'", shape)
    inside = scaled_channels(shape[1], width)
    if heads < 1 or inside % heads:
        raise BranchError(f"layer 'token-attention': {heads} heads do not divide {inside} channels")
    return TokenAttention(shape[0], shape[1], inside, heads)


def output_shape(module: nn.Module, shape: Shape) -> Shape:
    """Return the shape without batch that ``module`` makes of a tensor of ``shape``, computing nothing."""
    if isinstance(module, nn.Upsample) and isinstance(module.size, tuple):
        # On the meta device bicubic resizing is hundreds of small operations, 20 ms in every decoding of a genome.
        return (*shape[:1], *module.size)
    parameter = next(module.parameters(), None)
    if parameter is None or parameter.is_meta:
        with torch.no_grad():
            return tuple(module(torch.empty(2, *shape, device="meta")).shape[1:])
    was_training = module.training
    with torch.no_grad():
        result = tuple(module.eval()(torch.zeros(1, *shape, device=parameter.device)).shape[1:])
    module.train(was_training)
    return result
