"""Splits: labelled images that are read in batches, and the bundle of three of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from aebnas.data.augment import Augment
from aebnas.data.decoding import ImageForm
from aebnas.data.items import ItemReader, Order
from aebnas.data.preprocessing import Preprocessing
from aebnas.data.reading import fetch
from aebnas.inputs import ModelInput

__all__ = [
    "Batch",
    "DataBundle",
    "DatasetSplit",
    "ImageSplit",
    "Preprocessing",
    "Split",
    "TensorSplit",
    "batch_indices",
]
# Images of a Dataset that are read at a time: few enough for large images, enough to be worth a message.
PIECE = 16
RAW_BATCH = 256


class Batch(NamedTuple):
    """B samples: positions within their split int64 (B,), model inputs float32 (B, C, H, W), labels int64 (B,)."""

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    images: Tensor
    labels: Tensor


class Split(ABC):
    """Labelled tensors that are read in batches: images, or features of them.

    Attributes:
        labels: Class numbers, int64 (N,).
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        """Yield every sample once, in order without ``seed``, else in the order that ``seed`` determines."""

    @abstractmethod
    def subset(self, indices: Tensor) -> Split:
        """Return the samples at ``indices``, int64 (M,), in that order."""

    def footprint(self) -> int | None:
        """Return the bytes that the split takes in an accelerator's memory; None: it cannot lie there."""
        return None

    def on(self, device: torch.device) -> Split:
        """Return the split, of the same class, with what it can hold in the memory of ``device``."""
        return self


class ImageSplit(Split):
    """A split of images of one part of a data set.

    Attributes:
        preprocessing: Applied to every image that is read.
        augment: Alters images that are read with a seed; None: they stay as they are.
    """

    preprocessing: Preprocessing
    augment: Augment | None

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        """Yield every sample once: in order and unaltered, or in the order and with the looks that ``seed`` gives."""
        return self.read(batch_size, order=seed, look=seed)

    @abstractmethod
    def subset(self, indices: Tensor) -> ImageSplit:
        """Return the samples at ``indices``, int64 (M,), in that order."""

    @abstractmethod
    def read(self, batch_size: int, *, order: int | None, look: int | None) -> Iterator[Batch]:
        """Yield every sample once.

        Args:
            order: Seed of the order; None: that of the split.
            look: Seed of how images are altered, where the split does that; None: they are not.
        """

    @abstractmethod
    def raw(self, limit: int | None = None) -> Tensor:
        """Return the first ``limit`` images (all without it) as they are stored, uint8 or float (N, C, H, W)."""

    def raw_batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield all images as they are stored, in order, ``batch_size`` at a time."""
        for rows in batch_indices(len(self), batch_size, None):
            yield self.subset(rows).raw()


class TensorSplit(ImageSplit):
    """A split whose images are all in memory; batches are slices, without the cost of a DataLoader.

    Args:
        images: uint8 or float32 (M, C, H, W); shared, not copied.
        labels: int64 (N,).
        preprocessing: Applied batch by batch.
        augment: Alters the images of a training split.
        rows: Which of the images belong to the split, int64 (N,); None: all of them.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        preprocessing: Preprocessing,
        augment: Augment | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self._stored, self._rows = images, rows
        self.labels = labels
        self._near_labels = labels.to(images.device)
        self.preprocessing = preprocessing
        self.augment = augment

    @property
    def images(self) -> Tensor:
        """The images of the split, (N, C, H, W); of a subset a copy."""
        return self._stored if self._rows is None else self._take(self._rows)

    def read(self, batch_size: int, *, order: int | None, look: int | None) -> Iterator[Batch]:
        looks = None if self.augment is None or look is None else self.augment.looks(look)
        for index in batch_indices(len(self), batch_size, order):
            images = self._take(index if self._rows is None else self._rows[index])
            labels = self._near_labels[index.to(images.device, non_blocking=True)]
            if self.augment is not None and looks is not None:
                images = self.augment.alter(images, looks[index])
            yield Batch(index, self.preprocessing.apply(images), labels)

    def raw(self, limit: int | None = None) -> Tensor:
        """Return the first ``limit`` images (all without it) as they are stored, uint8 or float32 (N, C, H, W)."""
        return self._stored[:limit] if self._rows is None else self._take(self._rows[:limit])

    def subset(self, indices: Tensor) -> TensorSplit:
        """Return the samples at ``indices``, int64 (M,), in that order; the images are shared."""
        rows = indices if self._rows is None else self._rows[indices]
        augment = None if self.augment is None else self.augment.subset(indices)
        return TensorSplit(self._stored, self.labels[indices], self.preprocessing, augment, rows)

    def footprint(self) -> int | None:
        """Return the bytes of its images and labels; None where torchvision alters them, one by one."""
        if self.augment is not None and self.augment.settings.uses_library:
            return None
        return len(self) * (self._stored[:1].nbytes + self.labels.itemsize)

    def on(self, device: torch.device) -> TensorSplit:
        """Return the split with its images and labels in the memory of ``device``."""
        return TensorSplit(self.images.to(device), self.labels, self.preprocessing, self.augment)

    def _take(self, rows: Tensor) -> Tensor:
        return self._stored[rows.to(self._stored.device, non_blocking=True)]


class DatasetSplit(ImageSplit):
    """A split over a map-style torch Dataset of (image, label), read anew in every pass.

    Random transforms of the Dataset stay random: a seed fixes the order of the samples, not their transforms.

    Args:
        dataset: Items are (uint8 or float tensor (C, H, W), label); images of Pillow become uint8.
        labels: int64 (N,), the labels of the samples at ``indices``.
        preprocessing: Applied batch by batch.
        indices: Which items of ``dataset`` belong to the split, int64 (N,); all of them by default.
        augment: Alters the images of a training split.
        workers: Processes that read and alter images; batches are the same without.
        form: What images of Pillow are brought to.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        labels: Tensor,
        preprocessing: Preprocessing,
        indices: Tensor | None = None,
        augment: Augment | None = None,
        *,
        workers: int = 0,
        form: ImageForm | None = None,
    ) -> None:
        self.dataset = dataset
        self.labels = labels
        self.preprocessing = preprocessing
        self.indices = torch.arange(len(labels)) if indices is None else indices
        self.augment = augment
        self.workers = workers
        self.form = form or ImageForm()

    def read(self, batch_size: int, *, order: int | None, look: int | None) -> Iterator[Batch]:
        looks = None if self.augment is None or look is None else self.augment.looks(look)
        batches = list(batch_indices(len(self), batch_size, order))
        for index, images in zip(batches, self._load(batches, looks, seed=order or 0), strict=True):
            yield Batch(index, self.preprocessing.apply(images), self.labels[index])

    def raw(self, limit: int | None = None) -> Tensor:
        """Return the first ``limit`` images (all without it) as the Dataset gives them, (N, C, H, W)."""
        count = len(range(len(self))[:limit])
        return torch.cat(list(self._load(list(batch_indices(count, RAW_BATCH, None)))))

    def raw_batches(self, batch_size: int) -> Iterator[Tensor]:
        return self._load(list(batch_indices(len(self), batch_size, None)))

    def subset(self, indices: Tensor) -> DatasetSplit:
        """Return the samples at ``indices``, int64 (M,), in that order."""
        augment = None if self.augment is None else self.augment.subset(indices)
        return DatasetSplit(
            self.dataset,
            self.labels[indices],
            self.preprocessing,
            self.indices[indices],
            augment,
            workers=self.workers,
            form=self.form,
        )

    def _load(self, batches: list[Tensor], looks: Tensor | None = None, *, seed: int = 0) -> Iterator[Tensor]:
        """Yield the images of every batch, altered as ``looks`` say."""
        reader = ItemReader(self.dataset, self.form, self.augment)
        orders = [
            Order(self.indices[piece].numpy(), None if looks is None else looks[piece].numpy())
            for batch in batches
            for piece in torch.split(batch, PIECE)
        ]
        pieces = fetch(reader, orders, self.workers, seed=seed)
        for batch in batches:
            found = [torch.as_tensor(next(pieces)) for _ in range(0, len(batch), PIECE)]
            yield found[0] if len(found) == 1 else torch.cat(found)


@dataclass(frozen=True)
class DataBundle:
    """One data set, ready to use: three splits that share no sample.

    Attributes:
        name: What the data set is called in reports.
        train, validation, test: The splits.
        classes: Class names; a label is a position in it.
        input_shape: (C, H, W) of one image.
        preprocessing: The one that all splits apply, fitted on the train split only.
        fingerprint: 16 hex digits that change with any image, label, split or preprocessing.
        wanted: What the images were prepared for, where a pretrained backbone said so.
        drawn: Which of validation and test are no part of the data set's own, but were drawn from the others.
        before: Makes the same data as earlier versions told and standardised them, where that was otherwise.
    """

    name: str
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    fingerprint: str
    wanted: ModelInput | None = None
    drawn: tuple[str, ...] = ()
    before: Callable[[], DataBundle] | None = field(default=None, repr=False, compare=False)

    def versions(self) -> Iterator[DataBundle]:
        """Yield these data, and as earlier versions had them: what was made with those belongs to them."""
        yield self
        if self.before is not None:
            yield self.before()

    def version(self, fingerprint: str) -> DataBundle:
        """Return these data as the version of that ``fingerprint`` had them; as they are where there is none such."""
        return next((one for one in self.versions() if one.fingerprint == fingerprint), self)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


def batch_indices(count: int, batch_size: int, seed: int | None) -> Iterator[Tensor]:
    """Yield the positions, int64, of every batch of ``count`` samples, shuffled where there is a ``seed``."""
    if seed is None:
        order = torch.arange(count)
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]
