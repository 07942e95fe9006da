"""Reading a user's torch Dataset once, to check it and to learn what splitting it needs."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from aebnas.data.arrays import as_labels
from aebnas.data.decoding import ImageForm
from aebnas.data.items import as_tensor
from aebnas.data.preprocessing import image_moments
from aebnas.errors import DataError


@dataclass(frozen=True)
class Scan:
    """What one pass over a Dataset of N images found.

    Attributes:
        source: What the Dataset is called in messages.
        labels: int64 (N,).
        shape: (C, H, W), the same for all images.
        is_float: Whether images are float and not uint8, the same for all images.
        moments: Mean and variance of each image's channels, float64 (N, C, 2).
        digest: Hex digits that change with any image.
    """

    source: str
    labels: NDArray[np.int64]
    shape: tuple[int, ...]
    is_float: bool
    moments: NDArray[np.float64]
    digest: str


def scan_dataset(
    dataset: Dataset[Any], source: str, *, num_classes: int | None = None, form: ImageForm | None = None
) -> Scan:
    """Read every item of a map-style ``dataset`` once.

    Args:
        form: What images of Pillow are brought to.

    Raises:
        DataError: the Dataset has no length or is empty, an item is no (tensor (C, H, W), whole number) pair, images
            differ in shape or kind, a pixel is NaN or infinite, or a label is out of range.
    """
    count = _length(dataset, source)
    labels, moments, digest = [], [], hashlib.sha256()
    expected: tuple[tuple[int, ...], bool] | None = None
    with _fixed_randomness():
        for position in range(count):
            image, label = _item(dataset, position, source, form or ImageForm())
            kind = (tuple(image.shape), image.is_floating_point())
            expected = expected or kind
            if kind != expected:
                raise DataError(
                    f"image {position} of {source} is {_describe(*kind)} but image 0 is {_describe(*expected)}: "
                    "give all images the same shape and dtype, say with a resizing transform"
                )
            pixels = _pixels(image, position, source)
            moments.append(image_moments(pixels[None])[0])
            labels.append(label)
            digest.update(pixels.tobytes())
    assert expected is not None
    numbers = _label_array(labels, source)
    checked = as_labels(numbers, source, images=count, num_classes=num_classes)
    return Scan(source, checked, *expected, np.stack(moments), digest.hexdigest())


def require_alike(train: Scan, other: Scan) -> None:
    """Check that images of ``other`` have the shape and kind of those of ``train``.

    Raises:
        DataError: they have not.
    """
    if (train.shape, train.is_float) != (other.shape, other.is_float):
        raise DataError(
            f"images of {other.source} are {_describe(other.shape, other.is_float)} but those of {train.source} "
            f"{_describe(train.shape, train.is_float)}: give both the same shape and dtype"
        )


def _length(dataset: Dataset[Any], source: str) -> int:
    try:
        count = len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(f"{source} has no length: give a map-style Dataset with __len__ and __getitem__") from error
    if count == 0:
        raise DataError(f"{source} is empty: it must hold at least one image")
    return count


def _item(dataset: Dataset[Any], position: int, source: str, form: ImageForm) -> tuple[Tensor, int]:
    item = dataset[position]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(f"item {position} of {source} is a {type(item).__name__}, but must be a pair (image, label)")
    image, label = as_tensor(item[0], f"image {position} of {source}", form), item[1]
    if not isinstance(image, Tensor):
        raise DataError(
            f"image {position} of {source} is a {type(image).__name__}, but must be a tensor or an image of Pillow: "
            "add a transform such as torchvision's ToTensor"
        )
    if image is item[0] and (form.size, form.grey, form.resize) != (None, False, "stretch"):
        raise DataError(
            f"image {position} of {source} is a tensor, which is used as it is: remove data.image_size, data.resize "
            "and data.grey, or give images of Pillow"
        )
    if image.ndim != 3 or image.numel() == 0:
        raise DataError(f"image {position} of {source} has shape {tuple(image.shape)}, but must be (C, H, W)")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise DataError(f"image {position} of {source} is {image.dtype}, but must be uint8 or float: convert it")
    try:
        return image, operator.index(label)
    except TypeError as error:
        raise DataError(f"label {position} of {source} is {label!r}, but must be a whole number from 0") from error


def _pixels(image: Tensor, position: int, source: str) -> NDArray[Any]:
    if not image.is_floating_point():
        return image.cpu().numpy()
    if not torch.isfinite(image).all():
        raise DataError(f"image {position} of {source} has a pixel that is NaN or infinite: repair it or leave it out")
    return image.detach().to(device="cpu", dtype=torch.float32).numpy()


def _label_array(labels: list[int], source: str) -> NDArray[np.int64]:
    try:
        return np.array(labels, dtype=np.int64)
    except OverflowError as error:
        raise DataError(f"a label of {source} is too large: number the classes from 0 without gaps") from error


def _describe(shape: tuple[int, ...], is_float: bool) -> str:
    return f"{'float' if is_float else 'uint8'} {shape}"


@contextlib.contextmanager
def _fixed_randomness() -> Iterator[None]:
    """Let random transforms draw the same numbers in every scan, and give the global generators back as they were.

    Otherwise the fingerprint of a Dataset with augmentation would change from run to run.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - users' transforms draw from it
    torch_state = torch.get_rng_state()
    try:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.default_generator.manual_seed(0)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
