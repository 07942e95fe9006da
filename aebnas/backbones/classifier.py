"""The two ends of a classifier that change with the data: its last layer, and the channels of its first."""

from __future__ import annotations

import torch
from torch import nn

from aebnas.errors import BackboneError


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the linear layer or convolution that stands last in ``model``, and its path.

    Raises:
        BackboneError: it has none.
    """
    return _layers(model)[-1]


def replace_classifier(model: nn.Module, num_classes: int) -> None:
    """Put a new last layer for ``num_classes`` in the place of the old one; its weights are drawn at random."""
    path, old = last_layer(model)
    has_bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, num_classes, old.kernel_size, old.stride, old.padding, bias=has_bias)  # type: ignore[arg-type]
    else:
        new = nn.Linear(old.in_features, num_classes, bias=has_bias)
    _put(model, path, new)


def adapt_input(model: nn.Module, channels: int, *, trained: bool) -> None:
    """Let the first convolution take ``channels``; where it is trained, it answers a grey image as before.

    Raises:
        BackboneError: the first layer of ``model`` is no plain convolution.
    """
    path, old = _layers(model)[0]
    if not isinstance(old, nn.Conv2d) or old.groups != 1:
        raise BackboneError(
            f"{type(model).__name__} takes images of 3 channels and the data have {channels}: "
            "set data.grey to false, or take another backbone"
        )
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    if trained:
        with torch.no_grad():
            new.weight.copy_(old.weight.sum(1, keepdim=True) / channels)
            if new.bias is not None and old.bias is not None:
                new.bias.copy_(old.bias)
    _put(model, path, new)


def _layers(model: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    found = [(path, part) for path, part in model.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    if not found:
        raise BackboneError(f"{type(model).__name__} has no linear layer or convolution: take another backbone")
    return found


def _put(model: nn.Module, path: str, new: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, new.train(model.training))
