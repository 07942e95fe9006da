"""Batch-norm statistics that follow the weights, also in short epochs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

# A share of (1 - m)^n of where running statistics began is left after n steps of momentum m: 1 % after so many / m.
_FORGOTTEN = math.log(100)
# torch's own default; nothing is made to follow faster.
_USUAL = 0.1


@contextlib.contextmanager
def statistics_that_follow(modules: Sequence[nn.Module], steps: int) -> Iterator[None]:
    """Let batch-norm statistics inside ``modules`` forget within an epoch of ``steps`` steps what they were before it.

    MobileNetV3, EfficientNet and MnasNet of the libraries come with a momentum of 0.01 or less, which is for epochs of
    thousands of steps. In shorter ones their statistics lag behind the weights, and what has learnt is judged, and
    used, as if it had not.
    """
    least = _least(steps)
    slow = {layer: momentum for layer, momentum in _momenta(modules) if momentum < least}
    for layer in slow:
        layer.momentum = least
    try:
        yield
    finally:
        for layer, momentum in slow.items():
            layer.momentum = momentum


def may_lag(module: nn.Module, steps: int) -> bool:
    """Tell whether :func:`statistics_that_follow` makes layers in ``module`` faster in epochs of ``steps`` steps."""
    return any(momentum < _least(steps) for _, momentum in _momenta([module]))


def _least(steps: int) -> float:
    return min(_USUAL, _FORGOTTEN / steps)


def _momenta(modules: Sequence[nn.Module]) -> Iterator[tuple[_NormBase, float]]:
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, _NormBase) and layer.momentum is not None:
                yield layer, layer.momentum
