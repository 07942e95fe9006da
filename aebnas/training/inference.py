"""What networks say of splits, batch by batch, without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aebnas.data.splits import Batch, Split
from aebnas.exits.accuracy import AccuracyKind
from aebnas.training.accelerator import sent

# Images (or features), and where there are some the logits of the exit before, to the logits of every exit.
Forward = Callable[..., Sequence[Tensor]]
# A processor is faster with few, whose activations stay in its caches, and takes a fifth of the memory of many.
_EVALUATION_BATCH, _EVALUATION_BATCH_CPU = 512, 128


def evaluation_batch(device: torch.device) -> int:
    """Return how many samples are looked at at a time, without a gradient, on ``device``."""
    return _EVALUATION_BATCH_CPU if device.type == "cpu" else _EVALUATION_BATCH


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
        for batch in split.batches(evaluation_batch(device))
    ]
    exits = [list(parts) for parts in zip(*chunks, strict=True)]
    del chunks
    joined = []
    while exits:  # what is joined is let go of: of many classes, all of it twice would be gigabytes
        joined.append(torch.cat(exits.pop(0)).cpu())
    return joined


@torch.no_grad()
def accuracy_of(
    forward: Forward,
    split: Split,
    device: torch.device,
    previous: Tensor | None = None,
    accuracy: AccuracyKind = "plain",
) -> list[float]:
    """Return the accuracy in [0, 1] of every exit on a split; other arguments as of :func:`logits_of`."""
    previous, score = None if previous is None else previous.to(device), Score(accuracy)
    for batch in split.batches(evaluation_batch(device)):
        here = batch_to_device(batch, device)
        score.add(forward(*inputs_of(here, previous)), here.labels)
    return score.accuracies()


def accuracy_of_logits(logits: Tensor, labels: Tensor, accuracy: AccuracyKind = "plain") -> float:
    """Return the accuracy in [0, 1] of one exit from its logits on all samples, ``(N, classes)`` and ``(N,)``."""
    score = Score(accuracy)
    score.add([logits], labels)
    return score.accuracies()[0]


class Score:
    """Counts right answers where they are given; only reading them waits for an accelerator.

    Args:
        accuracy: Which one is asked for; balanced accuracy counts by class.
    """

    def __init__(self, accuracy: AccuracyKind = "plain") -> None:
        self._balanced = accuracy == "balanced"
        self._right: Tensor | None = None
        self._samples: Tensor | int = 0

    def add(self, logits: Sequence[Tensor], labels: Tensor) -> None:
        """Count a batch: ``(B, classes)`` of every exit, ``(B,)``."""
        answers = torch.stack([z.argmax(1) == labels for z in logits])
        samples: Tensor | int = len(labels)
        if self._balanced:
            # Sums by class, of whole numbers: the same in any order, which an accelerator does not keep.
            classes = torch.zeros(logits[0].shape[1], dtype=torch.float64, device=labels.device)
            samples = classes.index_add(0, labels, torch.ones_like(labels, dtype=torch.float64))
            right = classes.repeat(len(answers), 1).index_add(1, labels, answers.double())
        else:
            right = answers.sum(1)
        self._right = right if self._right is None else self._right + right
        self._samples = self._samples + samples

    def accuracies(self) -> list[float]:
        """Return the accuracy in [0, 1] of every exit; of nothing there is none."""
        if self._right is None:
            return []
        if isinstance(self._samples, int):
            shares: list[float] = (self._right.cpu().float() / self._samples).tolist()
            return shares
        counts = self._samples.cpu()
        present = counts > 0
        means: list[float] = (self._right.cpu()[:, present] / counts[present]).mean(1).tolist()
        return means
