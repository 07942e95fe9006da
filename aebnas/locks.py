"""Keeping other processes from a folder. Apart from :mod:`aebnas.files`, which targets without filelock read too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from aebnas.errors import RunError


@contextlib.contextmanager
def exclusive(
    folder: Path, lock_file: str, busy: Callable[[], str], claim: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Keep other processes from ``folder``, made if it is missing, for the length of the block.

    Args:
        lock_file: Name of the file in it that is locked.
        busy: Says, as an error's text, that another process has it.
        claim: Called once it is ours; an OSError of it says that the folder cannot be used.

    Raises:
        RunError: another process has it, or the folder cannot be used.
    """
    lock = filelock.FileLock(folder / lock_file, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        claim()
    except filelock.Timeout:
        raise RunError(busy()) from None
    except OSError as error:
        raise RunError(f"cannot use {folder} ({error.strerror or error}): choose another --run-dir") from error
    # Outside of the try above: an OSError of the work itself says nothing about this folder.
    try:
        yield
    finally:
        lock.release()
