"""A folder of images, one sub-folder per class."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.data.datasets import DATASETS, LabelledImages, RawData, raw_data, require_path
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError, MissingExtraError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@DATASETS.add("folder")
def load(settings: DataSettings, data_dir: Path | None) -> RawData:
    """Return the images below ``settings.path``, uint8 (N, 3, H, W), or (N, 1, H, W) with ``settings.grey``.

    Every sub-folder is a class, and classes are numbered in the order of their names. If the folder has train/, its
    sub-folders are the classes, and those of test/, if it is there, are the test part. Images lie directly
    in their class's folder; with ``settings.image_size`` each is resized to a square of that side, without keeping its
    proportions. All images are held in memory; give larger sets as torch Datasets.

    Raises:
        MissingExtraError: Pillow is not installed.
        DataError: a folder is missing or empty, or an image is unreadable or of another size than the first.
    """
    root = require_path(settings, "a folder with one sub-folder of images per class")
    train_folder, test_folder = _parts(root)
    classes = tuple(folder.name for folder in _sub_folders(train_folder))
    if not classes:
        raise DataError(f"{train_folder} has no sub-folders: put the images of each class into one")
    reader = _ImageReader(settings)
    train = _read_part(train_folder, classes, reader)
    test = _read_part(test_folder, classes, reader) if test_folder else None
    return raw_data(train, test, classes)


def _parts(root: Path) -> tuple[Path, Path | None]:
    if not root.is_dir():
        raise DataError(f"data.path {root} is a file: set it to a folder with one sub-folder of images per class")
    train, test = root / "train", root / "test"
    if not (train.is_dir() and _sub_folders(train)):
        return root, None
    others = [folder.name for folder in _sub_folders(root) if folder not in (train, test)]
    if others:
        raise DataError(
            f"{root} has {others[0]}/ beside train/: move it away, only train/ and test/ are read and "
            "validation samples are taken from train/"
        )
    return train, test if test.is_dir() else None


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    # Reading deeper would take folders such as Train/ and Test/ for two classes.
    for sub_folder in _sub_folders(folder):
        raise DataError(
            f"{sub_folder} lies inside a class: put images directly into their class's folder, and class folders into "
            f"the root, or into train/ and test/"
        )
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _read_part(folder: Path, classes: tuple[str, ...], reader: _ImageReader) -> LabelledImages:
    files: list[Path] = []
    labels: list[int] = []
    for class_folder in _sub_folders(folder):
        if class_folder.name not in classes:
            raise DataError(f"{class_folder} is a class that train/ does not have: add it there or remove it")
        members = _image_files(class_folder)
        if not members:
            raise DataError(
                f"{class_folder} holds no images ({', '.join(sorted(SUFFIXES))}): add some or remove the folder"
            )
        files += members
        labels += [classes.index(class_folder.name)] * len(members)
    if not files:
        raise DataError(f"{folder} has no sub-folders: put the images of each class into one, or remove the folder")
    return LabelledImages(reader.read_all(files), np.array(labels, dtype=np.int64), str(folder))


class _ImageReader:
    def __init__(self, settings: DataSettings) -> None:
        self._pillow = _import_pillow()
        self._mode = "L" if settings.grey else "RGB"
        self._side = settings.image_size

    def read_all(self, files: list[Path]) -> NDArray[np.uint8]:
        first = self._read(files[0])
        # One array from the start: stacking a list would hold every image twice.
        images = np.empty((len(files), *first.shape), dtype=np.uint8)
        for position, path in enumerate(files):
            image = self._read(path)
            if image.shape != first.shape:
                raise DataError(
                    f"{path} is {_size(image)} pixels but {files[0]} is {_size(first)}: "
                    "set data.image_size to resize all images"
                )
            images[position] = image
        return images

    def _read(self, path: Path) -> NDArray[np.uint8]:
        bomb: type[Exception] = self._pillow.DecompressionBombError
        try:
            with self._pillow.open(path) as image:
                return self._pixels(path, image)
        # Pillow's plug-ins raise any of these on a damaged file; a broken PNG chunk is a SyntaxError.
        except (OSError, ValueError, TypeError, SyntaxError, EOFError, struct.error, bomb) as error:
            raise DataError(f"{path} cannot be read as an image ({error}): repair or remove it") from error

    def _pixels(self, path: Path, image: Any) -> NDArray[np.uint8]:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{path} has more than 8 bits per pixel (mode {image.mode}): save it with 8 bits")
        converted = image.convert(self._mode)
        if self._side is not None:
            converted = converted.resize((self._side, self._side), self._pillow.Resampling.BILINEAR)
        pixels = np.asarray(converted, dtype=np.uint8)
        return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[2]}x{image.shape[1]}"


def _import_pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("Pillow", "images") from error
    return Image
