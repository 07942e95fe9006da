"""The heads that end a branch: a map or tokens in, logits out."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from aebnas.branches.layers import Shape, check_is_map, check_is_tokens
from aebnas.branches.prototypes import PrototypePooling
from aebnas.branches.tokens import POOLS, TokenPool
from aebnas.errors import BranchError
from aebnas.registry import Registry

HEADS: Registry[Callable[..., nn.Module]] = Registry("head", BranchError)


@HEADS.add("pooled-linear")
def pooled_linear(shape: Shape, num_classes: int) -> nn.Module:
    """Global average pool, then a linear classifier."""
    check_is_map("head 'pooled-linear'", shape)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(shape[0], num_classes))


@HEADS.add("grid-linear")
def grid_linear(shape: Shape, num_classes: int, *, size: int = 2) -> nn.Module:
    """Average over a ``size`` x ``size`` grid of regions, so that *where* is kept, then a linear classifier."""
    check_is_map("head 'grid-linear'", shape)
    height, width = shape[1:]
    if size < 1 or height % size or width % size:
        raise BranchError(f"head 'grid-linear' with size {size} does not divide a {height}x{width} map")
    pool = nn.AvgPool2d((height // size, width // size))
    return nn.Sequential(pool, nn.Flatten(), nn.Linear(shape[0] * size * size, num_classes))


@HEADS.add("expand-mix")
def expand_mix(shape: Shape, num_classes: int, *, expand: int = 6, mix: int = 0) -> nn.Module:
    """Pointwise expansion, pool, pointwise mixing, linear: the exit head of EDANAS and AEBNAS (arXiv 2512.10671).

    ``expand`` multiplies the channels before pooling; ``mix`` is the width after it (0: as wide as the expansion).
    """
    check_is_map("head 'expand-mix'", shape)
    if not 1 <= expand <= 8 or not 0 <= mix <= 4096:
        raise BranchError(f"head 'expand-mix' takes expand 1 to 8 and mix 0 to 4096 (got {expand} and {mix})")
    wide = shape[0] * expand
    mixed = mix or wide
    return nn.Sequential(
        nn.Conv2d(shape[0], wide, 1, bias=False),
        nn.BatchNorm2d(wide),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, mixed, bias=False),
        nn.Hardswish(),
        nn.Linear(mixed, num_classes),
    )


@HEADS.add("prototype-pooling")
def prototype_pooling(shape: Shape, num_classes: int, *, width: int = 32, prototypes: int = 16) -> nn.Module:
    """How much the map looks like learned prototypes, at its best place and on average, beside its average; linear.

    CalexNet's head (arXiv 2509.08318), our variant: see :class:`PrototypePooling`.
    """
    check_is_map("head 'prototype-pooling'", shape)
    if not 1 <= width <= 1024 or not 1 <= prototypes <= 1024:
        raise BranchError(
            f"head 'prototype-pooling' takes width and prototypes of 1 to 1024 (got {width} and {prototypes})"
        )
    pooling = PrototypePooling(shape[0], width, prototypes)
    return nn.Sequential(pooling, nn.Linear(pooling.features, num_classes))


@HEADS.add("token-linear")
def token_linear(shape: Shape, num_classes: int, *, pool: str = "mean") -> nn.Module:
    """Layer normalisation, then the mean of all tokens or the first of them (``class``), then a linear classifier."""
    check_is_tokens("head 'token-linear'", shape)
    if pool not in POOLS:
        raise BranchError(f"head 'token-linear': pool must be one of {', '.join(POOLS)} (got {pool!r})")
    return nn.Sequential(nn.LayerNorm(shape[1]), TokenPool(pool), nn.Linear(shape[1], num_classes))
