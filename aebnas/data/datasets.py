"""What a data set is before it is split, and the registry of those that are built in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.data.arrays import as_images, as_labels, require_same_shape
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.registry import Registry


@dataclass(frozen=True)
class LabelledImages:
    """Images uint8 or float32 (N, C, H, W), labels int64 (N,), and what they are called in messages."""

    images: NDArray[Any]
    labels: NDArray[np.int64]
    source: str


@dataclass(frozen=True)
class RawData:
    """A data set as it is stored.

    Attributes:
        train: Everything that is not the data set's own test part.
        test: The data set's own test part, None if it has none.
        classes: Class names.
        scale: Factor from stored pixels to natural units.
    """

    train: LabelledImages
    test: LabelledImages | None
    classes: tuple[str, ...]
    scale: float


DatasetLoader = Callable[[DataSettings, "Path | None"], RawData]

DATASETS: Registry[DatasetLoader] = Registry("data set", DataError)
"""Loaders f(settings, data_dir); import ``aebnas.data.load`` to have the built-in ones registered."""


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
    train: LabelledImages, test: LabelledImages | None, classes: tuple[str, ...], scale: float | None = None
) -> RawData:
    """Join the parts of a data set; without ``scale``, 8-bit images are scaled by 1/255 and floats not at all.

    Raises:
        DataError: train and test images differ in shape, or one is 8-bit and the other is not.
    """
    if test is not None:
        require_same_shape(train.images.shape[1:], test.images.shape[1:], test.source)
        if train.images.dtype != test.images.dtype:
            raise DataError(
                f"{train.source} is {train.images.dtype} but {test.source} is {test.images.dtype}: "
                "save both with the same dtype"
            )
    if scale is None:
        scale = 1 / 255 if train.images.dtype == np.uint8 else 1.0
    return RawData(train, test, classes, scale)


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
