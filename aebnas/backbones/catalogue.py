"""The backbones that ship with aebnas, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from aebnas.errors import BackboneError
from aebnas.registry import Registry

BACKBONES: Registry[Callable[..., nn.Module]] = Registry("backbone", BackboneError)


def check_image_shape(input_shape: tuple[int, ...]) -> int:
    """Return the number of channels of ``input_shape`` (C, H, W); any other shape raises BackboneError."""
    if len(input_shape) != 3:
        raise BackboneError(
            f"the built-in backbones take images (C, H, W), not input of shape {input_shape}: "
            "name your own backbone as package.module:callable"
        )
    return input_shape[0]


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise BackboneError unless the backbone option ``name`` is at least ``least``."""
    if value < least:
        raise BackboneError(f"backbone.options.{name} must be at least {least} (got {value})")


def initialise(model: nn.Module) -> None:
    """Draw the convolutions' weights as He et al. (arXiv 1502.01852) do for networks with ReLU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
