"""What a data set is before it is split, and the registry of those that are built in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from aebnas.data.arrays import as_images, as_labels, require_same_shape
from aebnas.data.parts import LabelledImages, Part
from aebnas.data.pictures import Pictures
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.registry import Registry


@dataclass(frozen=True)
class RawData:
    """A data set as it is stored.

    Attributes:
        train: Everything that belongs to no other part.
        test: The data set's own test part, None if it has none.
        classes: Class names.
        scale: Factor from stored pixels to natural units.
        validation: The data set's own validation part, None if it has none.
    """

    train: Part
    test: Part | None
    classes: tuple[str, ...]
    scale: float
    validation: Part | None = None


@dataclass(frozen=True)
class PicturePart:
    """Images on disk and their classes.

    Attributes:
        labels: int64 (N,); None: the images bring their own.
    """

    pictures: Pictures
    labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class PictureData:
    """A data set of images on disk, of any sizes.

    Attributes:
        classes: Class names; None: the numbers of the labels that the train part has.
    """

    train: PicturePart
    validation: PicturePart | None
    test: PicturePart | None
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class TorchData:
    """A data set as torch Datasets of a user.

    Attributes:
        classes: Class names; None: the numbers of the labels that the train part has.
    """

    train: Dataset[Any]
    validation: Dataset[Any] | None
    test: Dataset[Any]
    classes: tuple[str, ...] | None


DatasetLoader = Callable[[DataSettings], "RawData | PictureData | TorchData"]


class DatasetRegistry(Registry[DatasetLoader]):
    """Loaders by name; a name that ends in a capital word stands for all that have something else in its place."""

    def __getitem__(self, name: str) -> DatasetLoader:
        return super().__getitem__(self._form(name))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self._form(str(name)))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), key=str.lower))

    def _form(self, name: str) -> str:
        """Return what ``name`` is registered as."""
        kind, colon, what = name.partition(":")
        if not colon or not what:
            return name
        placeholder = f"{kind}:NAME"
        if super().__contains__(placeholder):
            return placeholder
        return CALLABLE if all(part.isidentifier() for part in [*kind.split("."), *what.split(".")]) else name


CALLABLE = "MODULE:CALLABLE"
DATASETS = DatasetRegistry("data set", DataError)
"""Loaders f(settings); import ``aebnas.data.load`` to have the built-in ones registered."""
# Keys of ``data`` that say what becomes of images that are decoded, and those of tables and libraries.
DECODING = ("image_size", "resize", "grey", "corrupt", "ram_gib")
LIBRARY = ("columns", "options", "download")


def labelled_images(
    images: NDArray[Any], labels: NDArray[Any], *, images_source: str, labels_source: str, num_classes: int | None
) -> LabelledImages:
    """Check a pair of arrays in any of the forms that ``as_images`` and ``as_labels`` take, and join them.

    Raises:
        DataError: an array is wrong; the message calls it ``images_source`` or ``labels_source``.
    """
    checked = as_images(images, images_source)
    numbers = as_labels(labels, labels_source, images=len(checked), num_classes=num_classes)
    return LabelledImages(checked, numbers, images_source)


def raw_data(
    train: Part,
    test: Part | None,
    classes: tuple[str, ...],
    scale: float | None = None,
    validation: Part | None = None,
) -> RawData:
    """Join the parts of a data set; without ``scale``, 8-bit images are scaled by 1/255 and floats not at all.

    Raises:
        DataError: the images of two parts differ in shape, or one is 8-bit and the other is not.
    """
    for part in (validation, test):
        if part is None:
            continue
        require_same_shape(train.shape, part.shape, part.source)
        if train.dtype != part.dtype:
            raise DataError(
                f"{train.source} is {train.dtype} but {part.source} is {part.dtype}: save both with the same dtype"
            )
    if scale is None:
        scale = 1 / 255 if train.dtype == np.uint8 else 1.0
    return RawData(train, test, classes, scale, validation)


def require_path(settings: DataSettings, what: str) -> Path:
    """Return ``data.path``.

    Raises:
        DataError: it is not set or does not exist; the message says that it must be ``what``.
    """
    if settings.path is None:
        raise DataError(f"data set {settings.name} needs data.path: set it to {what}")
    if not settings.path.exists():
        raise DataError(f"data.path {settings.path} does not exist: set it to {what}")
    return settings.path


def refuse_options(settings: DataSettings, *keys: str) -> None:
    """Check that keys without a meaning for the data set were not set.

    Raises:
        DataError: one was; the message names it.
    """
    for key in keys:
        if getattr(settings, key) != DataSettings.model_fields[key].default:
            raise DataError(f"data.{key} has no meaning for the data set {settings.name}: remove it")
