"""Features as splits: read from disk, or computed by the frozen backbone batch by batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aebnas.data.splits import Batch, ImageSplit, Split, batch_indices
from aebnas.training.fit import to_device

# Features are moved to an accelerator in pieces, not by way of a copy of all of them.
_CHUNK = 1024
# Of the features at all attach points that are computed at a time; those of large images would take gigabytes.
BATCH_BYTES = {"cpu": 1 << 25, "cuda": 1 << 29}


class ManyBatch(NamedTuple):
    """B samples: as :class:`Batch`, with the features at several attach points by number, float32 (B, ...) each."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    features: Mapping[int, Tensor]
    labels: Tensor


def copy_of(seed: int | None, copies: int) -> int:
    """Return which copy of the training images is read with ``seed``; copy 0 is of the plain ones."""
    return 0 if seed is None else seed % copies


def batch_limit(shapes: Iterable[Sequence[int]], device: torch.device) -> int:
    """Return how many samples of float32 tensors of ``shapes`` are computed, or looked at, at a time on ``device``."""
    sample = 4 * sum(math.prod(shape) for shape in shapes)
    return max(1, BATCH_BYTES.get(device.type, BATCH_BYTES["cpu"]) // sample)


class CachedSplit(Split):
    """A split whose images are the stored features at one attach point, float32 in batches.

    With a seed, the copy that it gives is read; the index then counts the samples of the copies before, too. Without
    one, batches may be smaller than asked for.

    Attributes:
        limit: Most samples of a batch without a seed.

    Args:
        features: (copies * N, ...) of the whole split, one copy after the other.
        labels: (N,) of the whole split.
        rows: Which samples of it belong here, int64 (M,); None: all.
    """

    def __init__(self, features: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        self._features, self._all_labels = features, labels
        self._near_labels = labels.to(features.device)
        self._rows = torch.arange(len(labels)) if rows is None else rows
        self.labels = labels[self._rows]
        self.limit = batch_limit([features.shape[1:]], features.device)

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        batch_size = batch_size if seed is not None else min(batch_size, self.limit)
        samples, device = len(self._all_labels), self._features.device
        copy = copy_of(seed, len(self._features) // samples)
        for places in batch_indices(len(self._rows), batch_size, seed):
            rows = self._rows[places].to(device, non_blocking=True)
            features = self._features[rows + copy * samples].float()
            yield Batch(places + copy * len(self._rows), features, self._near_labels[rows])

    def subset(self, indices: Tensor) -> CachedSplit:
        return CachedSplit(self._features, self._all_labels, self._rows[indices])

    def plain(self) -> CachedSplit:
        """Return the first copy alone, which every epoch is over then."""
        return CachedSplit(self._features[: len(self._all_labels)], self._all_labels, self._rows)

    def footprint(self) -> int:
        """Return the bytes of the features of the whole split and of its labels."""
        return self._features.nbytes + self._all_labels.nbytes

    def on(self, device: torch.device) -> CachedSplit:
        """Return the split with the features of the whole split in the memory of ``device``."""
        moved = torch.empty(self._features.shape, dtype=self._features.dtype, device=device)
        for start in range(0, len(moved), _CHUNK):
            moved[start : start + _CHUNK] = self._features[start : start + _CHUNK].to(device)
        return CachedSplit(moved, self._all_labels, self._rows)


class BackbonePass:
    """The features at some attach points, computed anew for every batch, in one pass over the segments.

    Attributes:
        labels: Class numbers, int64 (N,).
        limit: Most samples of a batch without a seed.

    Args:
        segments: Of the frozen backbone, on ``device``.
        points: Numbers of the attach points.
        copies: Of the training images; all but the first are altered as the split alters them.
        limit: Most samples that are computed at a time. A larger batch of a training is put together.
    """

    def __init__(
        self,
        segments: Sequence[nn.Module],
        points: Collection[int],
        images: ImageSplit,
        device: torch.device,
        *,
        copies: int,
        limit: int,
    ) -> None:
        self._segments, self._points, self._copies = segments, frozenset(points), copies
        self._images, self._device = images, device
        self.labels, self.limit = images.labels, limit

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[ManyBatch]:
        """Yield every sample once, in order without ``seed``, else in the order and of the copy that it gives."""
        batch_size = batch_size if seed is not None else min(batch_size, self.limit)
        copy = copy_of(seed, self._copies)
        for batch in self._images.read(batch_size, order=seed, look=copy or None):
            yield ManyBatch(batch.index + copy * len(self.labels), self._features(batch.images), batch.labels)

    def subset(self, indices: Tensor) -> BackbonePass:
        """Return the samples at ``indices``, int64 (M,), in that order."""
        images = self._images.subset(indices)
        return BackbonePass(self._segments, self._points, images, self._device, copies=self._copies, limit=self.limit)

    @torch.no_grad()
    def _features(self, images: Tensor) -> dict[int, Tensor]:
        if len(images) <= self.limit:
            return self._computed(images)
        # Into place, for pieces that are put together afterwards would be there twice.
        found: dict[int, Tensor] = {}
        for start in range(0, len(images), self.limit):
            for point, part in self._computed(images[start : start + self.limit]).items():
                if point not in found:
                    layout = torch.channels_last if part.dim() == 4 else torch.contiguous_format
                    shape = (len(images), *part.shape[1:])
                    found[point] = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)
                found[point][start : start + len(part)] = part
        return found

    def _computed(self, images: Tensor) -> dict[int, Tensor]:
        x, found = to_device(images, self._device), {}
        for point, segment in enumerate(self._segments[: max(self._points) + 1]):
            x = segment(x)
            if point in self._points:
                found[point] = x
        return found


class ComputedSplit(Split):
    """A split whose images are the features at one attach point, computed anew for every batch."""

    def __init__(self, passes: BackbonePass, point: int) -> None:
        self._passes, self._point = passes, point
        self.labels = passes.labels

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        for index, features, labels in self._passes.batches(batch_size, seed=seed):
            yield Batch(index, features[self._point], labels)

    def subset(self, indices: Tensor) -> ComputedSplit:
        return ComputedSplit(self._passes.subset(indices), self._point)


class Together:
    """The features of one split at several attach points at once, each as alone.

    Args:
        cached: Splits by the number of their attach point.
        computed: The other points, over one backbone pass per batch; None where there are none.

    Attributes:
        labels: Class numbers, int64 (N,).
    """

    def __init__(self, cached: Mapping[int, CachedSplit], computed: BackbonePass | None) -> None:
        self._cached, self._computed = cached, computed
        self.labels = computed.labels if computed is not None else next(iter(cached.values())).labels

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[ManyBatch]:
        """Yield every sample once, in order without ``seed``, else in the order and of the copy that it gives."""
        if seed is None:  # all with the same batches
            limits = [split.limit for split in self._cached.values()]
            batch_size = min([batch_size, *limits, *([] if self._computed is None else [self._computed.limit])])
        cached = [split.batches(batch_size, seed=seed) for split in self._cached.values()]
        if self._computed is None:
            for first, *others in zip(*cached, strict=True):
                yield ManyBatch(first.index, self._of([first, *others]), first.labels)
            return
        for computed, *batches in zip(self._computed.batches(batch_size, seed=seed), *cached, strict=True):
            yield computed._replace(features={**computed.features, **self._of(batches)})

    def subset(self, rows: Tensor) -> Together:
        """Return the samples at ``rows``, int64 (M,), in that order."""
        cached = {point: split.subset(rows) for point, split in self._cached.items()}
        return Together(cached, None if self._computed is None else self._computed.subset(rows))

    def _of(self, batches: Sequence[Batch]) -> dict[int, Tensor]:
        return {point: batch.images for point, batch in zip(self._cached, batches, strict=True)}
