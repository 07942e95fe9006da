"""From a branch specification to its module."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from aebnas.branches.heads import HEADS
from aebnas.branches.layers import LAYERS, Shape, output_shape
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BranchError
from aebnas.registry import unknown_name

_TYPES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


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
        module = _located(f"layer {index} of the branch at {spec.attach}", make_layer, layer, shape)
        parts.append(module)
        shape = output_shape(module, shape)
    parts.append(_located(f"head of the branch at {spec.attach}", make_head, spec.head, shape, num_classes))
    return Branch(spec, parts)


def fits(spec: BranchSpec, shape: Shape, num_classes: int) -> bool:
    """Tell whether ``spec`` can be built at a tensor of ``shape``; allocates no weights."""
    try:
        with torch.device("meta"):
            build_branch(spec, shape, num_classes)
    except BranchError:
        return False
    return True


def make_layer(part: PartSpec, shape: Shape) -> nn.Module:
    """Build the layer ``part`` for a tensor of ``shape`` (without batch).

    Raises:
        BranchError: the layer or an option is unknown, an option is of the wrong type, or the layer does not fit.
    """
    factory = LAYERS[part.kind]
    _check_options(f"layer {part.kind!r}", factory, part, 1)
    return factory(shape, **dict(part.options))


def make_head(part: PartSpec, shape: Shape, num_classes: int) -> nn.Module:
    """Build the head ``part`` for a tensor of ``shape`` (without batch); raises as :func:`make_layer` does."""
    factory = HEADS[part.kind]
    _check_options(f"head {part.kind!r}", factory, part, 2)
    return factory(shape, num_classes, **dict(part.options))


def _check_options(owner: str, factory: Callable[..., nn.Module], part: PartSpec, arguments: int) -> None:
    """Check options against the factory's signature, whose first ``arguments`` parameters are no options."""
    parameters = list(inspect.signature(factory, eval_str=True).parameters.values())[arguments:]
    types = {parameter.name: parameter.annotation for parameter in parameters}
    for name, value in part.options:
        if not types:
            raise BranchError(f"{owner} takes no options: drop {name!r}")
        if name not in types:
            raise BranchError(f"{owner}: {unknown_name('option', name, types)}")
        wanted = types[name]
        # A bool is an int to Python, and an int is a float to everybody.
        if wanted in _TYPES and type(value) is not wanted and (type(value), wanted) != (int, float):
            raise BranchError(f"{owner}: option {name!r} must be {_TYPES[wanted]} (got {value!r})")


def _located(where: str, make: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    try:
        return make(*arguments)
    except BranchError as error:
        raise BranchError(f"{where}: {error}") from None
