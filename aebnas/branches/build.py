"""From a branch specification to its module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from aebnas.branches.heads import HEADS
from aebnas.branches.layers import LAYERS, Shape, output_shape
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BranchError


class Branch(nn.Sequential):
    """An exit branch: ``(N, *shape)`` at its attach point in, logits ``(N, num_classes)`` out."""

    def __init__(self, spec: BranchSpec, parts: list[nn.Module]) -> None:
        super().__init__(*parts)
        self.spec = spec


def build_branch(spec: BranchSpec, shape: Shape, num_classes: int) -> Branch:
    """Build the branch ``spec`` for a tensor of ``shape`` (without batch).

    Raises:
        BranchError: a layer or head is unknown, has an option it does not take, or does not fit its input.
    """
    parts: list[nn.Module] = []
    for index, layer in enumerate(spec.layers):
        module = _make(LAYERS[layer.kind], layer, f"layer {index} of the branch at {spec.attach}", shape)
        parts.append(module)
        shape = output_shape(module, shape)
    parts.append(_make(HEADS[spec.head.kind], spec.head, f"head of the branch at {spec.attach}", shape, num_classes))
    return Branch(spec, parts)


def fits(spec: BranchSpec, shape: Shape, num_classes: int) -> bool:
    """Tell whether ``spec`` can be built at a tensor of ``shape``; allocates no weights."""
    try:
        with torch.device("meta"):
            build_branch(spec, shape, num_classes)
    except BranchError:
        return False
    return True


def _make(factory: Callable[..., nn.Module], part: PartSpec, where: str, *arguments: object) -> nn.Module:
    try:
        return factory(*arguments, **dict(part.options))
    except TypeError as error:
        raise BranchError(f"{where}: {part} has an option that {part.kind!r} does not take ({error})") from None
    except BranchError as error:
        raise BranchError(f"{where}: {error}") from None
