"""A CSV file that names images and their classes."""

from __future__ import annotations

import csv
import os.path
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aebnas.data.datasets import DATASETS, PictureData, PicturePart, refuse_options, require_path
from aebnas.data.folder import VALIDATION_NAMES
from aebnas.data.names import Names
from aebnas.data.pictures import FilePictures
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys((*VALIDATION_NAMES, "dev"), "validation")
_DELIMITERS = ",;\t"


@DATASETS.add("csv")
def load(settings: DataSettings) -> PictureData:
    """Return the images that the file ``settings.path`` lists in the columns path, label and, if it is there, split.

    Paths are relative to ``settings.data_dir`` or the folder of the file. Labels are names, or whole numbers, which are
    ordered as such; split is train, validation (or val, valid, dev) or test.

    Raises:
        DataError: the file is missing or is no such table, the message names the line; or an image is in it twice.
    """
    refuse_options(settings, "options", "download")
    path = require_path(settings, "a CSV file with the columns path and label")
    rows = _rows(path, settings)
    _refuse_repeats(rows, path)
    names = class_names([label for _, label, part in rows if part == "train"])
    if not names:
        raise DataError(f"{path} lists no images to train on: give some rows the split train")
    numbers = {name: number for number, name in enumerate(names)}
    root = settings.data_dir or path.parent
    parts: dict[str, PicturePart] = {}
    for name in ("train", "validation", "test"):
        chosen = [row for row in rows if row[2] == name]
        unknown = [label for _, label, _ in chosen if label not in numbers]
        if unknown:
            raise DataError(f"{path} has the class {unknown[0]!r} in {name} only: give it rows to train on")
        if chosen:
            labels = np.array([numbers[label] for _, label, _ in chosen], dtype=np.int64)
            files = FilePictures(root, Names.of(file for file, _, _ in chosen), f"the {name} part of {path}")
            parts[name] = PicturePart(files, labels)
    return PictureData(parts["train"], parts.get("validation"), parts.get("test"), names)


def class_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct ``labels`` in order: by value where all are whole numbers, else by letters."""
    found = set(labels)
    if all(label.isdecimal() for label in found):
        return tuple(sorted(found, key=lambda label: (int(label), label)))
    return tuple(sorted(found))


def _rows(path: Path, settings: DataSettings) -> list[tuple[str, str, str]]:
    """Return path, label and part of every row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(_DELIMITERS, key=header.count))
            columns = reader.fieldnames or []
            image, label, split = _columns(columns, path, settings)
            return [_row(row, reader.line_num, path, image, label, split) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error}): save it as UTF-8 text") from error


def _refuse_repeats(rows: Sequence[tuple[str, str, str]], path: Path) -> None:
    """Check that no image is trained on and looked at again in another part, its own or one that is held out."""
    is_held_out = not {"validation", "test"} <= {part for _, _, part in rows}
    parts: dict[str, str] = {}
    for file, _, part in rows:
        name = os.path.normpath(file)
        if name in parts and (parts[name] != part or is_held_out):
            raise DataError(
                f"{path} lists {file} twice, so that it would be trained on and tested with: list every image once"
            )
        parts[name] = part


def _columns(columns: Sequence[str], path: Path, settings: DataSettings) -> tuple[str, str, str | None]:
    chosen = settings.columns
    image, label, split = chosen.image or "path", chosen.label or "label", chosen.split or "split"
    for key, name in (("image", image), ("label", label)):
        if name not in columns:
            raise DataError(
                f"{path} has no column {name!r} (its first line names {', '.join(columns) or 'nothing'}): name it in "
                f"the first line, or set data.columns.{key}"
            )
    if chosen.split is not None and split not in columns:
        raise DataError(f"{path} has no column {split!r}: set data.columns.split to one of {', '.join(columns)}")
    return image, label, split if split in columns else None


def _row(
    row: dict[str, str | None], line: int, path: Path, image: str, label: str, split: str | None
) -> tuple[str, str, str]:
    file, name = (row[image] or "").strip(), (row[label] or "").strip()
    if not file or not name:
        raise DataError(f"line {line} of {path} lacks a path or a label: give it both or remove it")
    part = "train" if split is None else (row[split] or "").strip().lower()
    if part not in _SPLITS:
        raise DataError(f"line {line} of {path} has the split {part!r}: give train, validation or test")
    return file, name, _SPLITS[part]
