"""Hardware-aware neural architecture search for early-exit branches.

Names are imported when they are first used: a target device that only runs exported networks has no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aebnas.data.load import bundle_from_datasets
    from aebnas.errors import AebnasError, InputError
    from aebnas.experiment import Experiment
    from aebnas.export.session import EarlyExitSession
    from aebnas.network import EarlyExitNetwork
    from aebnas.run import Run
    from aebnas.searching.search import search

__version__ = "0.1.0"

_HOMES = {
    "AebnasError": "aebnas.errors",
    "EarlyExitNetwork": "aebnas.network",
    "EarlyExitSession": "aebnas.export.session",
    "Experiment": "aebnas.experiment",
    "InputError": "aebnas.errors",
    "Run": "aebnas.run",
    "bundle_from_datasets": "aebnas.data.load",
    "search": "aebnas.searching.search",
}

__all__ = [
    "AebnasError",
    "EarlyExitNetwork",
    "EarlyExitSession",
    "Experiment",
    "InputError",
    "Run",
    "bundle_from_datasets",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aebnas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
