"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aebnas.data.datasets import DATASETS, LIBRARY, PictureData, PicturePart, refuse_options, require_path
from aebnas.data.names import Names
from aebnas.data.pictures import FilePictures
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VALIDATION_NAMES = ("val", "valid", "validation")


@DATASETS.add("folder")
def load(settings: DataSettings) -> PictureData:
    """Return the images below ``settings.path``.

    Every sub-folder is a class, and classes are numbered in the order of their names. If the folder has train/, its
    sub-folders are the classes, and those of val/ (or valid/, validation/) and test/, where they are there, are the
    other parts. Images lie directly in their class's folder.

    Raises:
        DataError: a folder is missing or empty, or is a class that only another part has.
    """
    refuse_options(settings, *LIBRARY)
    root = require_path(settings, "a folder with one sub-folder of images per class")
    train, validation, test = _parts(root)
    classes = tuple(_sub_folders(train))
    if not classes:
        raise DataError(f"{train} has no sub-folders: put the images of each class into one")
    for name in classes:
        # It goes into files and tables, none of which could hold it.
        if any("\ud800" <= sign <= "\udfff" for sign in name):
            raise DataError(f"the folder {name!r} in {train} has signs in its name that are no text: rename it")
    return PictureData(
        _part(train, classes),
        None if validation is None else _part(validation, classes),
        None if test is None else _part(test, classes),
        classes,
    )


def _parts(root: Path) -> tuple[Path, Path | None, Path | None]:
    if not root.is_dir():
        raise DataError(f"data.path {root} is a file: set it to a folder with one sub-folder of images per class")
    train, test = root / "train", root / "test"
    if not (train.is_dir() and _sub_folders(train)):
        return root, None, None
    validations = [root / name for name in VALIDATION_NAMES if (root / name).is_dir()]
    if len(validations) > 1:
        raise DataError(f"{root} has both {validations[0].name}/ and {validations[1].name}/: leave only one of them")
    known = {train.name, test.name, *VALIDATION_NAMES}
    others = [name for name in _sub_folders(root) if name not in known]
    if others:
        raise DataError(f"{root} has {others[0]}/ beside train/: move it away, only train/, val/ and test/ are read")
    return train, validations[0] if validations else None, test if test.is_dir() else None


def _part(folder: Path, classes: tuple[str, ...]) -> PicturePart:
    numbers = {name: number for number, name in enumerate(classes)}
    files: list[str] = []
    labels: list[int] = []
    for name in _sub_folders(folder):
        if name not in numbers:
            raise DataError(f"{folder / name} is a class that train/ does not have: add it there or remove it")
        members = sorted(_image_files(folder / name))
        if not members:
            raise DataError(
                f"{folder / name} holds no images ({', '.join(sorted(SUFFIXES))}): add some or remove the folder"
            )
        files += [f"{name}/{member}" for member in members]
        labels += [numbers[name]] * len(members)
    if not files:
        raise DataError(f"{folder} has no sub-folders: put the images of each class into one, or remove the folder")
    return PicturePart(FilePictures(folder, Names.of(files), str(folder)), np.array(labels, dtype=np.int64))


def _sub_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def _image_files(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                # Reading deeper would take folders such as Train/ and Test/ for two classes.
                raise DataError(
                    f"{entry.path} lies inside a class: put images directly into their class's folder, and class "
                    "folders into the root, or into train/, val/ and test/"
                )
            if os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122 - a Path for each of a million
                yield entry.name
