"""Whether a tensor of a traced backbone holds its channels first, as maps do, or last, as in Swin transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

_LAST = (nn.LayerNorm, nn.Linear)
_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)
_LAST_CALLS = (F.layer_norm, F.linear)
_FIRST_CALLS = (F.conv2d, F.batch_norm, F.group_norm, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)


def channels_last(node: fx.Node, traced: fx.GraphModule, image: tuple[int, ...]) -> bool:
    """Tell whether ``node``, of shape (N, a, b, c), is (N, H, W, C) rather than (N, C, H, W).

    The first operation behind it that treats the two differently says so; where there is none, the shape does, compared
    with that of ``image``, (C, H, W).
    """
    for user in _behind(node):
        said = _says(user, traced)
        if said is not None:
            return said
    first, second, third = node.meta["shapes"][0][1:]
    _, height, width = image
    return bool(second * width != third * height and first * width == second * height)


def _behind(node: fx.Node) -> Iterator[fx.Node]:
    """Give the operations behind ``node``, nearest first, as far as the shape stays."""
    queue, seen = [node], {node}
    for one in queue:
        for user in one.users:
            if user in seen or user.op == "output":
                continue
            seen.add(user)
            yield user
            if user.meta.get("shapes") == node.meta["shapes"]:
                queue.append(user)


def _says(node: fx.Node, traced: fx.GraphModule) -> bool | None:
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return True if isinstance(module, _LAST) else False if isinstance(module, _FIRST) else None
    if node.target in _LAST_CALLS or node.target in _FIRST_CALLS:
        return node.target in _LAST_CALLS
    if node.target in ("permute", torch.permute):
        order = _numbers(node.args[1:])
        return True if order == [0, 3, 1, 2] else False if order == [0, 2, 3, 1] else None
    if node.target in ("mean", torch.mean, "flatten", torch.flatten):
        dims = _numbers([*node.args[1:2], *node.kwargs.values()] if "mean" in str(node.target) else node.args[1:])
        sides = [dim % 4 for dim in dims if dim >= -4][:2]
        return True if sides == [1, 2] else False if sides in ([2, 3], [2]) else None
    return None


def _numbers(values: Any) -> list[int]:
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in _numbers(value)]
    return [values] if type(values) is int else []
