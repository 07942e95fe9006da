"""Data sets that a user's own function makes."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aebnas.data.datasets import CALLABLE, DATASETS, LIBRARY, TorchData, refuse_options
from aebnas.data.settings import DataSettings
from aebnas.errors import AebnasError, DataError

_FORM = "(train, test), (train, validation, test), or a dict with train, test and perhaps validation and classes"


@DATASETS.add(CALLABLE)
def load(settings: DataSettings) -> TorchData:
    """Return the torch Datasets that the function MODULE:CALLABLE returns; it is called without arguments.

    The module is looked for in ``settings.path``, else in the working folder, and where Python finds its own.

    Raises:
        DataError: there is no such function, it fails, or it returns something else.
    """
    refuse_options(settings, "corrupt", "ram_gib", *LIBRARY)
    module, _, name = settings.name.partition(":")
    folder = str(settings.path or Path.cwd())
    if folder not in sys.path:
        # For good: processes that read images look the module up again.
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"data.name {settings.name!r} names a module that cannot be imported ({error}): set data.path to the "
            f"folder that it lies in, or take one of {', '.join(DATASETS)}"
        ) from error
    except Exception as error:  # anything may be wrong in it
        raise DataError(
            f"data.name {settings.name!r}: importing {module} fails ({_reason(error)}): repair it"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise DataError(f"{module} has no function {name!r}: give data.name as {CALLABLE}")
    try:
        made = found()
    except AebnasError:
        raise
    except Exception as error:
        raise DataError(f"data.name {settings.name!r} fails ({_reason(error)}): repair it") from error
    return _torch_data(made, settings)


def _reason(error: Exception) -> str:
    """Return what went wrong, and in which line of whose code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())}, at {last.filename}:{last.lineno}"


def _torch_data(made: Any, settings: DataSettings) -> TorchData:
    if isinstance(made, (tuple, list)) and len(made) in (2, 3):
        parts = {"train": made[0], "test": made[-1], "validation": made[1] if len(made) == 3 else None}
    elif isinstance(made, Mapping) and {"train", "test"} <= made.keys() <= {"train", "validation", "test", "classes"}:
        parts = dict(made)
    else:
        raise DataError(f"{settings.name} returned a {type(made).__name__}: it must return {_FORM}")
    classes = parts.get("classes") or getattr(parts["train"], "classes", None)
    names = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) and classes else None
    return TorchData(parts["train"], parts.get("validation"), parts["test"], names)
