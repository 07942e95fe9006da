"""Data sets of the library datasets: from a Hub of Hugging Face, or from disk."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.data.csv_table import class_names
from aebnas.data.datasets import DATASETS, PictureData, PicturePart, refuse_options, require_path
from aebnas.data.decoding import OR_SKIP
from aebnas.data.names import Names
from aebnas.data.pictures import Encoded
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError, MissingExtraError
from aebnas.files import digest
from aebnas.hub import reached_or_offline

logger = logging.getLogger(__name__)
_PARTS = {"validation": ("validation", "val", "valid", "dev"), "test": ("test",)}
_LABELS = ("label", "labels", "target", "class", "fine_label")


@DATASETS.add("huggingface")
def load_local(settings: DataSettings) -> PictureData:
    """Return the data set in the folder ``settings.path``: saved with ``save_to_disk``, or files of any kind.

    Raises:
        MissingExtraError: datasets is not installed.
        DataError: there is none, or its images or labels are not found.
    """
    refuse_options(settings, "download")
    path, library = require_path(settings, "a folder that datasets can load"), _library()
    saved = any((path / name).exists() for name in ("dataset_dict.json", "state.json"))
    if saved:
        refuse_options(settings, "options")
        return _data(_loaded(lambda: library.load_from_disk(str(path)), settings, str(path)), settings, str(path))
    return _data(
        _loaded(lambda: library.load_dataset(str(path), **settings.options), settings, str(path)), settings, str(path)
    )


@DATASETS.add("huggingface:NAME")
def load_named(settings: DataSettings) -> PictureData:
    """Return the data set of that name on the Hub, as it lies in the library's cache (``settings.data_dir`` if given).

    Raises:
        MissingExtraError: datasets is not installed.
        DataError: it is not there and may not be downloaded, or its images or labels are not found.
    """
    refuse_options(settings, "path")
    library, name, cache = _library(), settings.name.partition(":")[2], settings.data_dir

    def make() -> Any:
        with _as_allowed(library, settings.download):
            return library.load_dataset(name, cache_dir=None if cache is None else str(cache), **settings.options)

    return _data(_loaded(make, settings, name), settings, settings.name)


class RowPictures(Encoded):
    """Images in a column of a table, as files or as their content.

    Args:
        table: A ``datasets.Dataset`` whose images are not decoded.
        column: Of the images.
        source: What they are called in messages.
    """

    def __init__(self, table: Any, column: str, source: str) -> None:
        self._table, self._column, self.source = table, column, source

    def __len__(self) -> int:
        return len(self._table)

    def name(self, position: int) -> str:
        return f"row {position} of {self.source}"

    def content(self, position: int) -> bytes:
        value = self._table[position][self._column]
        if value is None:
            raise DataError(f"{self.name(position)} has no image: remove it{OR_SKIP}")
        if value["bytes"] is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.name(position)} cannot be read ({error.strerror}): restore the file{OR_SKIP}"
            ) from error

    def stamps(self) -> tuple[Names, NDArray[np.int64]]:
        files = [Path(file["filename"]) for file in self._table.cache_files]
        times = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files if file.exists()]
        stamps = np.zeros((len(self), 2), dtype=np.int64)
        stamps[:, 0] = int(digest(self._table._fingerprint, *times), 16) >> 1
        return Names.of(map(str, range(len(self)))), stamps

    def key(self) -> str:
        return f"rows {self.source} {self._column}"


def _data(loaded: Any, settings: DataSettings, source: str) -> PictureData:
    tables = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    if "train" not in tables and len(tables) == 1:
        tables = {"train": next(iter(tables.values()))}
    if "train" not in tables:
        raise DataError(f"{source} has the splits {', '.join(tables)} and none to train on: it must have train")
    if not isinstance(tables["train"], _library().Dataset):
        raise DataError(
            f"{source} comes as a stream, of which nothing can be held out: remove streaming in data.options"
        )
    image, label = _columns(tables["train"], settings, source)
    names = {part: next((name for name in known if name in tables), None) for part, known in _PARTS.items()}
    chosen = {"train": tables["train"]} | {part: tables[name] for part, name in names.items() if name is not None}
    values = {part: _values(table, label) for part, table in chosen.items()}
    for part in ("validation", "test"):
        if part in values and all(value is None or value == -1 for value in values[part]):
            logger.warning("the %s split of %s has no labels and is left out", part, source)
            del values[part], chosen[part]
    classes, numbers = _classes(tables["train"].features[label], values, source)
    parts = {
        part: PicturePart(_pictures(table, image, f"the {part} split of {source}"), numbers[part])
        for part, table in chosen.items()
    }
    return PictureData(parts["train"], parts.get("validation"), parts.get("test"), classes)


def _pictures(table: Any, column: str, source: str) -> RowPictures:
    library = _library()
    try:
        undecoded = table.select_columns([column]).with_format(None).cast_column(column, library.Image(decode=False))
    except (ValueError, TypeError, NotImplementedError, LookupError, ArithmeticError) as error:
        fix = "set data.columns.image to one that does"
        raise DataError(f"column {column!r} of {source} holds no images: {fix}") from error
    return RowPictures(undecoded, column, source)


def _columns(table: Any, settings: DataSettings, source: str) -> tuple[str, str]:
    library, features = _library(), table.features
    pictures = [name for name, feature in features.items() if isinstance(feature, library.Image)]
    labels = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
    labels = labels or [name for name in _LABELS if name in features]
    found = []
    for key, given, known in (("image", settings.columns.image, pictures), ("label", settings.columns.label, labels)):
        if given is not None and given not in features:
            raise DataError(f"{source} has no column {given!r}: set data.columns.{key} to one of {', '.join(features)}")
        usual = [name for name in known if name in (*_LABELS[:1], "image")]
        choice = given or (known[0] if len(known) == 1 else next(iter(usual), None))
        if choice is None:
            raise DataError(
                f"{source} has {'several columns' if known else 'no column'} that may hold each sample's {key}: set "
                f"data.columns.{key} to one of {', '.join(known or features)}"
            )
        found.append(choice)
    if settings.columns.split is not None:
        raise DataError("data.columns.split has no meaning for huggingface, which has splits of its own: remove it")
    return found[0], found[1]


def _values(table: Any, column: str) -> list[Any]:
    values: list[Any] = table.select_columns([column]).with_format(None)[:][column]
    return values


def _classes(
    feature: Any, values: Mapping[str, list[Any]], source: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return class names, and the labels of every part as class numbers."""
    for part, labels in values.items():
        if any(label is None or label == -1 or isinstance(label, (list, dict, float)) for label in labels):
            raise DataError(f"a row of the {part} split of {source} has no class: remove it, or set data.columns.label")
    if isinstance(feature, _library().ClassLabel):
        return tuple(feature.names), {part: np.array(labels, np.int64) for part, labels in values.items()}
    texts = {part: [str(label) for label in labels] for part, labels in values.items()}
    names = class_names(texts["train"])
    numbers = {name: number for number, name in enumerate(names)}
    for part, labels in texts.items():
        unknown = [label for label in labels if label not in numbers]
        if unknown:
            raise DataError(
                f"the {part} split of {source} has the class {unknown[0]!r}, which train has not: remove it"
            )
    return names, {part: np.array([numbers[label] for label in labels], np.int64) for part, labels in texts.items()}


def _library() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "huggingface") from error


def _loaded(make: Any, settings: DataSettings, what: str) -> Any:
    try:
        return make()
    # The library raises errors of its own, of its file formats and of the network; there is no common base.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if settings.path:
            fix = "check data.path and data.options"
        elif settings.download:
            fix = "check its name, data.options and the network"
        else:
            fix = "set data.download to true to get it, or data.data_dir to the cache that has it"
        raise DataError(f"{what} cannot be loaded with datasets ({type(error).__name__}: {reason}): {fix}") from error


@contextlib.contextmanager
def _as_allowed(library: ModuleType, download: bool) -> Iterator[None]:
    """Let the network be asked if it may be and is there."""
    if not download:
        with _offline(library):
            yield
        return
    with reached_or_offline() as problem, _offline(library) if problem else contextlib.nullcontext():
        try:
            yield
        except Exception as error:
            if not problem:
                raise
            raise ConnectionError(problem) from error


@contextlib.contextmanager
def _offline(library: ModuleType) -> Iterator[None]:
    """Let nothing be asked of the network; what was downloaded earlier is found."""
    from huggingface_hub import constants

    before = library.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    library.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
