"""Splits in the memory of an accelerator, where reading a batch costs no transfer."""

from __future__ import annotations

from typing import TypeVar, cast

import torch

from aebnas.data.splits import Split

AnySplit = TypeVar("AnySplit", bound=Split)
# Of the memory that is free, so that networks, gradients and other processes have the rest.
SHARE = 0.4


def room(device: torch.device, share: float = SHARE) -> int:
    """Return how many bytes splits may take on ``device``: ``share`` of what is free on CUDA, nothing elsewhere."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(share * free)


def resident(split: AnySplit, device: torch.device, *, share: float = SHARE, limit: int | None = None) -> AnySplit:
    """Return ``split`` with its images or features on ``device`` if they fit there, else the split itself.

    Batches are the same, in the same order for the same seed; images, features and labels come on the device.

    Args:
        share: Of the free memory, that the split may take.
        limit: Bytes that it may take, in place of the share.
    """
    size = split.footprint()
    if size is None or size > (room(device, share) if limit is None else limit):
        return split
    return cast(AnySplit, split.on(device))
