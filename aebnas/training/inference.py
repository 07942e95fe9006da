"""What networks say of splits, batch by batch, without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aebnas.data.splits import Batch, Split
from aebnas.training.accelerator import sent

# Images (or features), and where there are some the logits of the exit before, to the logits of every exit.
Forward = Callable[..., Sequence[Tensor]]
EVALUATION_BATCH = 512


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """Move a batch to ``device``; maps become channels-last, which convolutions train faster on."""
    images = sent(images, device)
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def batch_to_device(batch: Batch, device: torch.device) -> Batch:
    """Move all of a batch to ``device``, its images as :func:`to_device` does."""
    return Batch(sent(batch.index, device), to_device(batch.images, device), sent(batch.labels, device))


def inputs_of(batch: Batch, previous: Tensor | None) -> list[Tensor]:
    """Return what a network takes of ``batch``: its images, and its rows of ``previous`` on the same device."""
    return [batch.images] if previous is None else [batch.images, previous[batch.index]]


@torch.no_grad()
def logits_of(forward: Forward, split: Split, device: torch.device, previous: Tensor | None = None) -> list[Tensor]:
    """Return the logits of every exit on a split, in order: ``(N, classes)`` float32 each, on the CPU.

    Args:
        previous: What ``forward`` takes beside the images, ``(N, classes)``: the logits of the exit before.
    """
    previous = None if previous is None else previous.to(device)
    chunks = [
        [z.float() for z in forward(*inputs_of(batch_to_device(batch, device), previous))]
        for batch in split.batches(EVALUATION_BATCH)
    ]
    return [torch.cat(parts).cpu() for parts in zip(*chunks, strict=True)]


@torch.no_grad()
def accuracy_of(forward: Forward, split: Split, device: torch.device, previous: Tensor | None = None) -> list[float]:
    """Return the accuracy in [0, 1] of every exit on a split; arguments as of :func:`logits_of`."""
    previous, score = None if previous is None else previous.to(device), Score()
    for batch in split.batches(EVALUATION_BATCH):
        here = batch_to_device(batch, device)
        score.add(forward(*inputs_of(here, previous)), here.labels)
    return score.accuracies()


class Score:
    """Counts right answers where they are given; only reading them waits for an accelerator."""

    def __init__(self) -> None:
        self._right: Tensor | None = None
        self._samples = 0

    def add(self, logits: Sequence[Tensor], labels: Tensor) -> None:
        """Count a batch: ``(B, classes)`` of every exit, ``(B,)``."""
        right = torch.stack([(z.argmax(1) == labels).sum() for z in logits])
        self._right = right if self._right is None else self._right + right
        self._samples += len(labels)

    def accuracies(self) -> list[float]:
        """Return the accuracy in [0, 1] of every exit; of nothing there is none."""
        if self._right is None:
            return []
        shares: list[float] = (self._right.cpu().float() / self._samples).tolist()
        return shares
