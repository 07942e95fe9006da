"""What is remembered of images that were looked at; it lies in the user's cache folder, and may be deleted."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from aebnas.errors import AebnasError
from aebnas.files import digest, write_atomic

logger = logging.getLogger(__name__)
# Changes when what is kept does.
_FORMAT = "2"


def remember(key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep ``arrays`` under ``key``; where the folder cannot be written, they are forgotten."""
    try:
        write_atomic(_file(key), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    except AebnasError as error:
        logger.warning("%s; images are looked at again next time", error)


def remembered(key: str) -> dict[str, NDArray[Any]] | None:
    """Return what was kept under ``key``; None if that was nothing, or is damaged."""
    try:
        with np.load(_file(key), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged (%s): images are looked at again", _file(key), error)
        return None


def _file(key: str) -> Path:
    given = os.environ.get("AEBNAS_CACHE_DIR")
    return (Path(given) if given else platformdirs.user_cache_path("aebnas")) / "images" / f"{digest(_FORMAT, key)}.npz"
