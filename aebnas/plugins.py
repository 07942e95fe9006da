"""Modules of the user's that register parts of their own: layers, heads, regimes, confidences."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from aebnas.errors import ExperimentError
from aebnas.files import digest


def load_plugins(names: Iterable[str]) -> None:
    """Import modules, each once in a process: ``package.module``, or the path of a file that ends in ``.py``.

    Raises:
        ExperimentError: a module is not there, or fails while it is imported.
    """
    for name in names:
        _load(name)


def _load(name: str) -> None:
    path = Path(name).expanduser().absolute() if name.endswith(".py") else None
    if path is not None and not path.is_file():
        raise ExperimentError(f"plugins: {name} does not exist: check the path")
    try:
        if path is None:
            importlib.import_module(name)
        else:
            _load_file(path)
    except ModuleNotFoundError as error:
        raise ExperimentError(
            f"plugins: cannot import {name!r} ({error}): install it, add its folder to PYTHONPATH, or give a .py file"
        ) from error
    except Exception as error:  # a module of the user's raises anything
        reason = f"{type(error).__name__}: {error}"
        raise ExperimentError(f"plugins: importing {name!r} fails ({reason}): repair that module") from error


def _load_file(path: Path) -> None:
    name = f"aebnas_plugin_{path.stem}_{digest(str(path))}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # any file that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    # Before it is executed, as in an import: dataclasses look their module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
