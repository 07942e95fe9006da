"""The data sets of torchvision, by their names there."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from aebnas.data.datasets import DATASETS, PictureData, PicturePart, refuse_options
from aebnas.data.libraries import import_torchvision
from aebnas.data.pictures import ItemPictures
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.files import canonical_json, digest
from aebnas.registry import unknown_name

_PARTS = {
    "train": ("train", "trainval", "train-standard", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
_SELECTORS = ("split", "image_set")
Make = Callable[..., "Dataset[Any] | None"]


@DATASETS.add("torchvision:NAME")
def load(settings: DataSettings) -> PictureData:
    """Return a data set of ``torchvision.datasets``, whose files lie in ``settings.data_dir``.

    Its parts are found by what its constructor takes: ``train``, ``split`` or ``image_set``; one that takes none of
    them has no parts of its own. ``settings.options`` are given to the constructor as they are.

    Raises:
        MissingExtraError: torchvision is not installed.
        DataError: there is no such data set, its files are not there, or it is not of a classifier.
    """
    refuse_options(settings, "path", "columns")
    kind = _kind(settings.name.partition(":")[2])
    given = _arguments(kind, settings)
    made = {name: part for name, part in _parts(kind, settings, given).items() if part is not None}
    root = given.get("root")
    stamp = digest(settings.name, canonical_json(settings.options), *(_tree(Path(root)) if root else ()))
    parts = {
        name: PicturePart(ItemPictures(part, _source(name, settings, root), f"{stamp} {len(part)}"), None)  # type: ignore[arg-type]
        for name, part in made.items()
    }
    return PictureData(parts["train"], parts.get("validation"), parts.get("test"), _classes(made["train"]))


def _kind(name: str) -> type[Dataset[Any]]:
    module = import_torchvision("datasets")
    kind = getattr(module, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, Dataset)):
        raise DataError(unknown_name("data set of torchvision", name, module.__all__))
    return kind


def _arguments(kind: type, settings: DataSettings) -> dict[str, Any]:
    takes, root = _takes(kind), settings.data_dir
    unknown = [key for key in settings.options if key not in takes]
    if unknown:
        raise DataError(unknown_name(f"key of data.options for {settings.name},", unknown[0], takes))
    given: dict[str, Any] = dict(settings.options)
    if "root" in takes:
        if root is None:
            raise DataError(f"data set {settings.name} needs data.data_dir: set it to the folder that torchvision uses")
        given["root"] = str(root)
    if "download" in takes:
        given["download"] = settings.download
    elif settings.download:
        raise DataError(f"torchvision cannot download {settings.name}: get its files, and remove data.download")
    return given


def _takes(kind: type) -> list[str]:
    """Return the arguments of the constructor of ``kind``, those that it hands on to its base included."""
    found: list[str] = []
    for base in kind.__mro__:
        own = inspect.signature(base.__init__).parameters  # type: ignore[misc]  # looked at, not called
        found += own
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in own.values()):
            break
    return found


def _parts(kind: type, settings: DataSettings, given: dict[str, Any]) -> dict[str, Dataset[Any] | None]:
    make = partial(_make, kind, settings, given)
    takes = [name for name in _takes(kind) if name not in settings.options]
    selector = next((name for name in _SELECTORS if name in takes), None)
    if "train" in takes:
        return {"train": make(train=True), "test": make(train=False)}
    if selector is None:
        return {"train": make()}
    found = {name: _first(make, selector, values) for name, values in _PARTS.items()}
    if found["train"] is None:
        raise DataError(f"{settings.name} has no part to train on: choose one with data.options: {{{selector}: ...}}")
    return found


def _first(make: Make, selector: str, values: tuple[str, ...]) -> Dataset[Any] | None:
    return next((part for value in values if (part := make(**{selector: value})) is not None), None)


def _make(kind: type, settings: DataSettings, given: dict[str, Any], **choice: Any) -> Dataset[Any] | None:
    """Return the part of the data set that ``choice`` names; None if it has no such part."""
    try:
        made: Dataset[Any] = kind(**given, **choice)
    except ValueError as error:
        # What torchvision says of a value that is none of an argument's.
        if any(f"for argument {key}. Valid values are" in str(error) for key in choice):
            return None
        raise DataError(f"{settings.name} cannot be made ({_line(error)}): check data.options") from error
    except TypeError as error:
        raise DataError(f"{settings.name} cannot be made ({_line(error)}): set data.options") from error
    except (RuntimeError, OSError, EOFError, ImportError, LookupError) as error:
        raise DataError(
            f"{settings.name} cannot be read from {given.get('root', 'its folder')} ({_line(error)}): set "
            "data.data_dir to the folder that has its files as torchvision wants them, or data.download to true"
        ) from error
    return made


def _classes(dataset: Dataset[Any]) -> tuple[str, ...] | None:
    """Return the class names of ``dataset``, each once; None if it has none."""
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if not isinstance(names, (list, tuple)) or not names:
        return None
    # ImageNet has several names for each class, and some names twice.
    first = [str(name[0] if isinstance(name, (list, tuple)) else name) for name in names]
    return tuple(name if first.index(name) == place else f"{name} ({place})" for place, name in enumerate(first))


def _source(part: str, settings: DataSettings, root: str | None) -> str:
    where = f" in {root}" if root else ""
    return f"the {part} part of {settings.name}{where}"


def _tree(root: Path) -> Iterator[str]:
    """Yield what changes with any file below ``root``."""
    for folder, inner, files in os.walk(root):
        inner.sort()
        for name in sorted(files):
            try:
                about = (Path(folder) / name).stat()
            except OSError:  # a link to nowhere, or a file that somebody just took away
                continue
            yield f"{folder}/{name} {about.st_size} {about.st_mtime_ns}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
