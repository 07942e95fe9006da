"""What all bundles of splits are made with: normalisation, augmentation and a fingerprint."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aebnas.data.augment import Augment
from aebnas.data.partition import Indices
from aebnas.data.preprocessing import Preprocessing, standardise
from aebnas.data.settings import AugmentSettings
from aebnas.data.transforms import check_library
from aebnas.errors import DataError
from aebnas.files import canonical_json, digest
from aebnas.inputs import ModelInput


def normalised(
    how: str,
    scale: float,
    moments: Callable[[], NDArray[np.float64]],
    *,
    channels: int,
    wanted: ModelInput | None,
) -> Preprocessing:
    """Return the preprocessing that ``data.normalise``, which is ``how``, asks for.

    Args:
        scale: Factor from stored pixels to 0..1.
        moments: Returns those of the train split; not called where the backbone says what it was trained with.

    Raises:
        DataError: the backbone does not say, or has another number of channels.
    """
    if how == "data":
        return standardise(moments(), scale)
    if wanted is None:
        raise DataError(
            "data.normalise: backbone needs a pretrained backbone that says what it was trained with: choose one, or "
            "set data.normalise to data"
        )
    if len(wanted.mean) != channels:
        raise DataError(
            f"the backbone was trained with {len(wanted.mean)} channels, the images have {channels}: change data.grey, "
            "or set data.normalise to data"
        )
    return Preprocessing(scale=scale, mean=tuple(wanted.mean), std=tuple(wanted.std))


def altering(settings: AugmentSettings, shape: tuple[int, ...], *, is_float: bool) -> Augment | None:
    """Return what alters the images of a split of ``shape`` (N, C, H, W), if anything does.

    Raises:
        DataError: it cannot alter such images. MissingExtraError: torchvision is needed and not installed.
    """
    if settings.shift >= min(shape[2:]):
        raise DataError(
            f"data.augment.shift must be below {min(shape[2:])}, the side of an image (got {settings.shift})"
        )
    check_library(settings, shape[1:], is_float=is_float)
    return Augment(settings, shape[0]) if settings.on else None


def fingerprint_of(
    parts: list[str],
    indices: list[Indices],
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    augment: AugmentSettings,
) -> str:
    """Return 16 hex digits that change with any image, label, split, preprocessing or augmentation."""
    positions = [split.astype("<i8").tobytes() for split in indices]
    plain = digest(*parts, *positions, *classes, canonical_json(preprocessing.to_json()))
    return digest(plain, canonical_json(augment.to_json())) if augment.on else plain
