"""Which torch device to train on."""

from __future__ import annotations

import torch

from aebnas.errors import ExperimentError

CHOICES = ("auto", "cpu", "cuda", "mps")


def pick_accelerator(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ExperimentError: the named accelerator is not there, or the name is unknown.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise ExperimentError(f"accelerator must be one of {', '.join(CHOICES)} (got {name!r})")
    if not available[name]:
        raise ExperimentError(f"accelerator {name!r} is not available in this installation of torch: use auto or cpu")
    return torch.device(name)
