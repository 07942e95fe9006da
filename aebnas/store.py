"""Trained weights of a run: every branch and network is trained once and kept."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aebnas.errors import RunError
from aebnas.files import write_atomic

_MAKE_AGAIN = "delete it and run the same search again"


class Remote(Protocol):
    """Where machines without a common disk share files, by names such as ``branches/KEY.pt``."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file ``name``."""

    def pull(self, name: str, path: Path) -> bool:
        """Write the file ``name`` to ``path``, atomically; False: it is not there, or damaged and now removed."""

    def push(self, name: str, path: Path) -> None:
        """Share the file at ``path`` as ``name``."""

    def claim(self, name: str) -> bool:
        """Say that this process makes ``name`` now; False: a living process elsewhere is at it."""

    def release(self, name: str) -> None:
        """Take back the claim."""


class WeightStore:
    """Dictionaries of tensors by key, each in one file of ``folder``.

    Args:
        remote: Where records are looked for that are not here, and sent to.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self._folder, self._remote = folder, remote

    def path(self, key: str) -> Path:
        """Return where the record of ``key`` is kept."""
        return self._folder / f"{key}.pt"

    def has(self, key: str) -> bool:
        """Tell whether there is a record of ``key``."""
        return self.path(key).exists()

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep ``record`` (tensors, numbers, texts, lists and dictionaries of them)."""
        write_atomic(self.path(key), lambda file: file.write(_saved(record)))

    def get(self, key: str) -> dict[str, Any]:
        """Return the record of ``key``.

        Raises:
            RunError: it is missing or damaged; the message names the file.
        """
        path = self.path(key)
        try:
            record = torch.load(path, weights_only=True)
        except FileNotFoundError:
            raise RunError(f"{path} is missing: run the same search again, it trains what is not there") from None
        except pickle.UnpicklingError:
            # Its text would advise the user to load the file unsafely.
            raise RunError(f"{path} is damaged (no plain tensors): {_MAKE_AGAIN}") from None
        except Exception as error:  # torch's readers raise anything on what is no archive
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(f"{path} is damaged ({reason}): {_MAKE_AGAIN}") from None
        if not isinstance(record, dict):
            raise RunError(f"{path} is damaged (no dictionary): {_MAKE_AGAIN}")
        return record


def _saved(record: dict[str, Any]) -> bytes:
    # By way of memory: on a full disk, torch's own writing ends in a RuntimeError that says nothing of a disk.
    buffer = io.BytesIO()
    torch.save(record, buffer)
    return buffer.getvalue()


def load_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load ``state`` into ``module``; a record that does not fit raises RunError naming ``path``."""
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{path} does not fit the network ({first}): {_MAKE_AGAIN}") from None


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of ``module``, detached, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
