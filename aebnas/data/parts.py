"""The parts of a data set before it is split: labelled images, in memory or read when they are asked for."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebnas.data.augment import Augment
from aebnas.data.decoding import ImageForm
from aebnas.data.memory import remember, remembered
from aebnas.data.pictures import PictureItems
from aebnas.data.preprocessing import Preprocessing, image_moments
from aebnas.data.reading import fetch
from aebnas.data.splits import DatasetSplit, ImageSplit, TensorSplit
from aebnas.files import canonical_json, digest

Rows = NDArray[np.int64]
# Of images on disk, so many of the train split say what all are standardised with.
MOMENT_IMAGES = 4096
_CHUNK = 64
_HASHED = 1024


class Part(ABC):
    """N labelled images that samples are picked from.

    Attributes:
        labels: int64 (N,).
        source: What they are called in messages.
    """

    labels: NDArray[np.int64]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every image."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """uint8 or float32."""

    @abstractmethod
    def split(self, rows: Rows, preprocessing: Preprocessing, augment: Augment | None) -> ImageSplit:
        """Return the images at ``rows``, int64 (M,), as a split."""

    @abstractmethod
    def moments(self, rows: Rows) -> NDArray[np.float64]:
        """Return mean and variance of the channels of the images at ``rows``, or of some of them, (M, C, 2)."""

    @abstractmethod
    def fingerprint(self, rows: Rows) -> str:
        """Return hex digits that change with any image or label at ``rows``, or with their order."""


@dataclass(frozen=True)
class LabelledImages(Part):
    """Images in memory, uint8 or float32 (N, C, H, W).

    Attributes:
        workers: Processes that alter them, where that takes torchvision.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    source: str
    workers: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.images.dtype

    def split(self, rows: Rows, preprocessing: Preprocessing, augment: Augment | None) -> ImageSplit:
        labels = torch.from_numpy(self.labels[rows])
        if augment is not None and augment.settings.uses_library and self.workers:
            items = torch.utils.data.TensorDataset(self._tensor, torch.from_numpy(self.labels))
            return DatasetSplit(items, labels, preprocessing, torch.from_numpy(rows), augment, workers=self.workers)
        is_all = len(rows) == len(self.labels)
        return TensorSplit(self._tensor, labels, preprocessing, augment, None if is_all else torch.from_numpy(rows))

    def moments(self, rows: Rows) -> NDArray[np.float64]:
        return np.concatenate([image_moments(images) for images in self._pieces(rows)])

    def fingerprint(self, rows: Rows) -> str:
        state = hashlib.sha256()
        for images in self._pieces(rows):
            state.update(np.ascontiguousarray(images).data)
        return digest(f"{(len(rows), *self.shape)} {self.dtype}", state.digest(), self.labels[rows].tobytes())

    @cached_property
    def _tensor(self) -> Tensor:
        # Arrays over a file's bytes are read-only, which torch refuses; require copies only those.
        return torch.from_numpy(np.require(self.images, requirements=["C", "W"]))

    def _pieces(self, rows: Rows) -> list[NDArray[Any]] | Any:
        return (self.images[rows[start : start + _HASHED]] for start in range(0, len(rows), _HASHED))


@dataclass(frozen=True)
class Contents:
    """What N images on disk are, however they are kept.

    Attributes:
        digests: Of the content of each, uint8 (N, 16).
        form: What they are brought to, with its size set.
    """

    digests: NDArray[np.uint8]
    form: ImageForm

    def fingerprint(self, rows: Rows, labels: NDArray[np.int64]) -> str:
        """Return hex digits that change with any image at ``rows``, its label or the form, or with their order."""
        content = np.ascontiguousarray(self.digests[rows]).tobytes()
        return digest("files", canonical_json(self.form.to_json()), content, labels[rows].tobytes())

    def sample(self, rows: Rows) -> Rows:
        """Return up to 4,096 of ``rows``, drawn evenly and the same ones every time, ascending."""
        return np.sort(np.random.default_rng(0).permutation(rows)[:MOMENT_IMAGES])


@dataclass(frozen=True, kw_only=True)
class DecodedImages(LabelledImages):
    """Images on disk that are held in memory, uint8 (N, C, H, W): the same data as those that are not."""

    contents: Contents

    def moments(self, rows: Rows) -> NDArray[np.float64]:
        # In the pieces of LazyImages, so that sums are the same to the last bit.
        return np.concatenate([image_moments(self.images[some]) for some in _chunks(self.contents.sample(rows))])

    def fingerprint(self, rows: Rows) -> str:
        return self.contents.fingerprint(rows, self.labels)

    def as_before(self) -> LabelledImages:
        """Return them as earlier versions had them: told by their pixels, moments from all of them."""
        return LabelledImages(self.images, self.labels, self.source, self.workers)


@dataclass(frozen=True)
class LazyImages(Part):
    """Images on disk, uint8 in one form, decoded anew whenever they are read.

    Attributes:
        items: The images.
        workers: Processes that read them.
    """

    items: PictureItems
    labels: NDArray[np.int64]
    source: str
    contents: Contents
    workers: int

    @property
    def shape(self) -> tuple[int, ...]:
        form = self.contents.form
        assert form.size is not None
        return (form.channels, *form.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def split(self, rows: Rows, preprocessing: Preprocessing, augment: Augment | None) -> ImageSplit:
        labels = torch.from_numpy(self.labels[rows])
        return DatasetSplit(self.items, labels, preprocessing, torch.from_numpy(rows), augment, workers=self.workers)

    def moments(self, rows: Rows) -> NDArray[np.float64]:
        some = self.contents.sample(rows)
        key = f"moments {self.fingerprint(some)}"
        kept = remembered(key)
        if kept is not None:
            return kept["moments"]
        found = np.concatenate([image_moments(images) for images in decode_all(self.items, some, self.workers)])
        remember(key, {"moments": found})
        return found

    def fingerprint(self, rows: Rows) -> str:
        return self.contents.fingerprint(rows, self.labels)


@dataclass(frozen=True)
class _Decode:
    items: PictureItems

    def __call__(self, rows: Rows) -> NDArray[np.uint8]:
        return np.stack([self.items.pixels(int(row)) for row in rows])


def decode_all(items: PictureItems, rows: Rows, workers: int) -> Any:
    """Yield the images at ``rows`` in pieces, uint8 (n, C, H, W), in order."""
    return fetch(_Decode(items), _chunks(rows), workers)


def _chunks(rows: Rows) -> list[Rows]:
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
