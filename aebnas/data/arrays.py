"""Arrays as users save them, checked and brought to one form: images (N, C, H, W), labels int64 (N,)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import DataError

MAX_CHANNELS = 4


def as_images(values: NDArray[Any], source: str) -> NDArray[Any]:
    """Return ``values`` as contiguous uint8 or float32 images (N, C, H, W); ``source`` names them in messages.

    Three dimensions are (N, H, W), one channel. Four are (N, C, H, W) if axis 1 has at most 4 entries, else
    (N, H, W, C) if the last axis has at most 4; where both have, channels come first. Whole numbers
    from 0 to 255 become uint8, floats float32.

    Raises:
        DataError: another number of dimensions, no channel axis, no image, another dtype, whole numbers
            outside 0 to 255, or a pixel that is NaN or infinite.
    """
    return _with_channels(_as_pixels(values, source), source)


def as_labels(values: NDArray[Any], source: str, *, images: int, num_classes: int | None = None) -> NDArray[np.int64]:
    """Return ``values`` as class numbers, int64 (N,), one for each of the N = ``images`` images.

    Without ``num_classes`` a label must be smaller than N, as every class needs a sample.

    Raises:
        DataError: not one-dimensional, not N of them, not whole numbers, negative, or too large.
    """
    if values.ndim != 1:
        raise DataError(f"{source} has shape {values.shape}, but labels must be one class number per image, shape (N,)")
    if len(values) != images:
        raise DataError(f"{source} holds {len(values)} labels for {images} images: give every image exactly one label")
    if values.dtype.kind not in "iu":
        raise DataError(f"{source} holds {values.dtype} values, but labels must be whole numbers from 0: save integers")
    low, high = int(values.min()), int(values.max())
    limit = images if num_classes is None else num_classes
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        bound = f"one of the {limit} classes 0 to {limit - 1}" if num_classes else "numbered from 0 without gaps"
        raise DataError(f"label {wrong} at position {int(np.argmax(values == wrong))} of {source} must be {bound}")
    return values.astype(np.int64)


def require_same_shape(train: tuple[int, ...], other: tuple[int, ...], source: str) -> None:
    """Check that images of ``source``, (C, H, W) = ``other``, are shaped as those of the training part.

    Raises:
        DataError: they are not.
    """
    if train != other:
        raise DataError(f"images of {source} have shape {other} (C, H, W), those to train on {train}: make them equal")


def _as_pixels(values: NDArray[Any], source: str) -> NDArray[Any]:
    if values.ndim not in (3, 4):
        raise DataError(
            f"{source} has shape {values.shape}, but images must be (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    if values.size == 0:
        raise DataError(f"{source} is empty (shape {values.shape}): it must hold at least one image")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind in "iu":
        if values.min() < 0 or values.max() > 255:
            raise DataError(f"{source} holds whole numbers outside 0 to 255: save pixels as uint8, or as float32")
        return values.astype(np.uint8)
    if values.dtype.kind != "f":
        raise DataError(f"{source} holds {values.dtype} values, but pixels must be uint8 or float32")
    # A float64 too large for float32 becomes infinite here and is reported below.
    with np.errstate(over="ignore"):
        pixels = values.astype(np.float32)
    finite = np.isfinite(pixels).reshape(len(pixels), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"image {int(np.argmin(finite))} of {source} has a pixel that is NaN or infinite: "
            "repair it or leave the image out"
        )
    return pixels


def _with_channels(pixels: NDArray[Any], source: str) -> NDArray[Any]:
    if pixels.ndim == 3:
        return np.ascontiguousarray(pixels[:, None])
    if pixels.shape[1] <= MAX_CHANNELS:
        return np.ascontiguousarray(pixels)
    if pixels.shape[3] <= MAX_CHANNELS:
        return np.ascontiguousarray(np.moveaxis(pixels, 3, 1))
    raise DataError(
        f"{source} has shape {pixels.shape}, where neither axis 1 nor the last axis has at most {MAX_CHANNELS} "
        "entries and could be the channels: save images as (N, C, H, W) or (N, H, W, C)"
    )
