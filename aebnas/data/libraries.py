"""Optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from aebnas.errors import DataError, MissingExtraError


def import_torchvision(module: str) -> ModuleType:
    """Return the ``module`` of torchvision.

    Raises:
        MissingExtraError: torchvision is not installed. DataError: it was built for another torch.
    """
    try:
        return importlib.import_module(f"torchvision.{module}")
    except ImportError as error:
        raise MissingExtraError("torchvision", "torchvision") from error
    except RuntimeError as error:
        raise DataError(f"torchvision does not fit the torch that is installed ({error}): install both anew") from error
