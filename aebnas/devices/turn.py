"""Only one process measures on a device at a time."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from aebnas.devices.profile import HardwareProfile
from aebnas.files import digest

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def turn(
    profile: HardwareProfile, folder: Path, say: Callable[[str], None], *, patience_s: float = 1.0
) -> Iterator[None]:
    """Hold the device of ``profile`` for the length of the block; after ``patience_s`` of waiting, ``say`` so.

    Threads and providers make no difference: whatever else runs on a device spoils what is measured there. Without a
    ``folder`` that can be written there are no turns, which is logged.
    """
    # A home folder may be shared by many machines, each of which is `local` to itself.
    place = f"local {platform.node()}" if profile.place == "local" else profile.place
    lock = filelock.FileLock(folder / f"measuring-{digest(place)}.lock")
    try:
        _acquire(lock, profile, say, patience_s)
    except (OSError, NotImplementedError) as error:
        logger.warning("other processes may measure at the same time: cannot use %s (%s)", folder, error)
    try:
        yield
    finally:
        lock.release()


def _acquire(
    lock: filelock.BaseFileLock, profile: HardwareProfile, say: Callable[[str], None], patience_s: float
) -> None:
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=patience_s)
    except filelock.Timeout:
        say(f"another process is measuring on {profile.name}: waiting for it")
        lock.acquire()
