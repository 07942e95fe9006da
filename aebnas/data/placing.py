"""Where the files of a data set lie on this machine, if not where the experiment says: the option ``--data-dir``."""

from __future__ import annotations

from pathlib import Path

from aebnas.data.settings import DataSettings
from aebnas.errors import DataError

# These are looked for at their path alone.
_AT_PATH = ("npz", "folder", "huggingface")
_LIBRARIES = ("torchvision", "huggingface")


def placed(settings: DataSettings, folder: Path | None) -> DataSettings:
    """Return ``settings`` with the data set's files in ``folder``, as ``--data-dir`` has them; None: as they are.

    A data set with a path is looked for there under its own name, as a folder or file that was moved; a named one in
    all the ways that it is looked for in ``data_dir``. Of a CSV file that is where it was, the images are there; of one
    that was moved, the folder ``data_dir`` is too, under its own name if it is found so.

    Raises:
        DataError: it is not there; or the data set has no files.
    """
    if folder is None:
        return settings
    folder = folder.expanduser().absolute()
    if settings.path is None:
        if _has_none(settings.name):
            raise DataError(f"--data-dir has no meaning for the data set {settings.name}: leave it out")
        return settings.model_copy(update={"data_dir": folder})
    if settings.name == "csv" and settings.path.exists():
        return settings.model_copy(update={"data_dir": folder})
    moved, images = folder / settings.path.name, settings.data_dir
    if not moved.exists():
        raise DataError(
            f"--data-dir {folder} holds no {settings.path.name}, which is what data.path names: give the folder that "
            "it lies in"
        )
    if images is not None:
        images = folder / images.name if (folder / images.name).is_dir() else folder
    return settings.model_copy(update={"path": moved, "data_dir": images})


def options_of(settings: DataSettings, folder: Path | None) -> dict[str, Path | None]:
    """Return the keys of an experiment that :func:`placed` changes, dotted.

    Raises:
        DataError: as :func:`placed`.
    """
    found = placed(settings, folder)
    return {"data.path": found.path, "data.data_dir": found.data_dir}


def check_data_dir(settings: DataSettings) -> None:
    """Raise DataError where ``data_dir`` is set and the data set does not look there."""
    if settings.data_dir is not None and (settings.name in _AT_PATH or _has_none(settings.name)):
        where = ", data.path says where its files are" if settings.path is not None else ""
        raise DataError(f"data.data_dir has no meaning for the data set {settings.name}: remove it{where}")


def _has_none(name: str) -> bool:
    """Tell whether the data set is looked for nowhere: it comes with scikit-learn, or from code."""
    kind, colon, _ = name.partition(":")
    return name == "digits" or (bool(colon) and kind not in _LIBRARIES)
