"""Alterations of images that torchvision makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from aebnas.data.libraries import import_torchvision
from aebnas.data.settings import AugmentSettings
from aebnas.errors import DataError

_OPERATIONS = 2


def transformed(images: Tensor, seeds: Sequence[int], settings: AugmentSettings) -> Tensor:
    """Return ``images`` (N, C, H, W), each altered as its seed says; the global generator is left as it was."""
    transform = _transform(settings, images.shape[2], images.shape[3])
    before = torch.get_rng_state()
    try:
        return torch.stack([_seeded(transform, image, seed) for image, seed in zip(images, seeds, strict=True)])
    finally:
        torch.set_rng_state(before)


def check_library(settings: AugmentSettings, shape: Sequence[int], *, is_float: bool) -> None:
    """Check that torchvision can alter images of ``shape`` (C, H, W) as ``settings`` say.

    Raises:
        MissingExtraError: torchvision is not installed.
        DataError: it alters colours of images with 1 or 3 channels of 8 bits only.
    """
    if not settings.uses_library:
        return
    _transform(settings, *shape[1:])
    key = next((name for name in ("colour", "rand_augment") if getattr(settings, name)), None)
    if key is not None and (is_float or shape[0] not in (1, 3)):
        kind = f"{'float' if is_float else '8-bit'} images with {shape[0]} channels"
        raise DataError(f"data.augment.{key} alters 8-bit images, grey or RGB, not {kind}: set it to 0")


def _seeded(transform: Callable[[Tensor], Tensor], image: Tensor, seed: int) -> Tensor:
    # Not torch.manual_seed, which would seed accelerators as well.
    torch.default_generator.manual_seed(seed)
    return transform(image)


@lru_cache(maxsize=8)
def _transform(settings: AugmentSettings, height: int, width: int) -> Callable[[Tensor], Tensor]:
    v2 = import_torchvision("transforms.v2")
    steps = []
    if settings.crop < 1:
        steps.append(v2.RandomResizedCrop((height, width), scale=(settings.crop, 1.0), antialias=True))
    if settings.rotate:
        steps.append(v2.RandomRotation(settings.rotate, interpolation=v2.InterpolationMode.BILINEAR))
    if settings.rand_augment:
        steps.append(v2.RandAugment(_OPERATIONS, settings.rand_augment))
    if settings.colour:
        steps.append(v2.ColorJitter(*[settings.colour] * 3, hue=settings.colour / 4))
    if settings.erase:
        steps.append(v2.RandomErasing(settings.erase))
    return v2.Compose(steps)  # type: ignore[no-any-return]
