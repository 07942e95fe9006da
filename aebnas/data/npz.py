"""A data set in one .npz file of numpy."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.data.datasets import (
    DATASETS,
    DECODING,
    LIBRARY,
    RawData,
    labelled_images,
    raw_data,
    refuse_options,
    require_path,
)
from aebnas.data.parts import LabelledImages
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = ("x_validation", "y_validation")
_READ_ERRORS = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@DATASETS.add("npz")
def load(settings: DataSettings) -> RawData:
    """Return the arrays x_train, y_train, x_test and y_test of the file ``settings.path``.

    x_validation and y_validation are its validation part, if they are there.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W), told apart as ``as_images`` says; labels are whole numbers
    from 0. Classes are named by their numbers.

    Raises:
        DataError: the file is missing or damaged, lacks an array, holds pickled objects, or an array is wrong.
    """
    refuse_options(settings, *DECODING, *LIBRARY)
    path = require_path(settings, f"an .npz file with the arrays {', '.join(ARRAYS)}")
    arrays = _read_arrays(path)
    train = _part(arrays, "train", path, None)
    classes = tuple(str(number) for number in range(int(train.labels.max()) + 1))
    validation = _part(arrays, "validation", path, len(classes)) if VALIDATION[0] in arrays else None
    return raw_data(train, _part(arrays, "test", path, len(classes)), classes, validation=validation)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no .npz file or is cut off: save it again with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = [*ARRAYS, *(VALIDATION if set(VALIDATION) & set(archive.files) else ())]
            missing = [name for name in wanted if name not in archive.files]
            if missing:
                raise DataError(
                    f"{path} lacks {', '.join(missing)} (it holds {', '.join(archive.files) or 'nothing'}): "
                    f"save it with numpy.savez under the names {', '.join(wanted)}"
                )
            return {name: _read_array(path, archive, name) for name in wanted}
    except _READ_ERRORS as error:
        raise DataError(f"{path} is damaged ({error}): save it again with numpy.savez") from error


def _read_array(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        array = archive[name]
    except _READ_ERRORS as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{name} in {path} is a pickled array of Python objects, which is refused because reading it could "
                "run any code: save it as a plain array of numbers"
            ) from error
        raise DataError(f"{name} in {path} is damaged ({error}): save the file again with numpy.savez") from error
    # numpy hands back the bytes of a member that does not start like an array.
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name} in {path} is damaged (it is no array): save the file again with numpy.savez")
    return array


def _part(arrays: dict[str, NDArray[Any]], part: str, path: Path, num_classes: int | None) -> LabelledImages:
    return labelled_images(
        arrays[f"x_{part}"],
        arrays[f"y_{part}"],
        images_source=f"x_{part} in {path}",
        labels_source=f"y_{part} in {path}",
        num_classes=num_classes,
    )
