"""Which torch device to train on, and what is particular to it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor

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


def autocast(device: torch.device, mixed: bool) -> AbstractContextManager[object]:
    """Return a context in which networks compute in bfloat16 if ``mixed``, on CUDA; weights stay as they are."""
    return torch.autocast("cuda", torch.bfloat16) if mixed and device.type == "cuda" else contextlib.nullcontext()


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on ``device``; nobody waits until it is there."""
    if device.type != "cuda":
        return tensor.to(device)
    # Only a copy from pinned memory goes on by itself.
    pinned = tensor.pin_memory() if tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)


class Randomness:
    """What one training draws from, kept apart from what others draw from, on the CPU and on ``device``.

    It begins where torch's generators stand; within it as a context, they stand where they last stood within it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = self._others = random_state(device)

    def __enter__(self) -> None:
        self._others = random_state(self._device)
        set_random_state(self._own, self._device)

    def __exit__(self, *_: object) -> None:
        self._own = random_state(self._device)
        set_random_state(self._others, self._device)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return where torch's own generators stand, that of the CPU and that of ``device``: uint8 on the CPU each."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put torch's generators where :func:`random_state` found them; one that was not there then stays."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
