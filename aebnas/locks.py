"""Keeping other processes from a folder, or from computing while one measures.

Apart from :mod:`aebnas.files`, which targets without filelock read too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import filelock

from aebnas.errors import RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment, unused-ignore]

logger = logging.getLogger(__name__)
_POLL_S = 0.005


class Busy(RunError):
    """Another process has the folder."""


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
        Busy: another process has it. RunError: the folder cannot be used.
    """
    lock = filelock.FileLock(folder / lock_file, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        claim()
    except filelock.Timeout:
        raise Busy(busy()) from None
    except OSError as error:
        raise RunError(f"cannot use {folder} ({error.strerror or error}): choose another --run-dir") from error
    # Outside of the try above: an OSError of the work itself says nothing about this folder.
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held(lock: threading.Lock, resting: Callable[[], contextlib.AbstractContextManager[object]]) -> Iterator[None]:
    """Hold ``lock`` for the length of the block, ``resting`` while another thread has it.

    That one may measure, and so wait until this thread pauses.
    """
    if not lock.acquire(blocking=False):
        with resting():
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Quiet:
    """Lets one process of this machine measure while the others, which compute, pause.

    Any number of them work at a time, or one measures. They are file locks, which the kernel lets go of when a process
    dies. Who wants to measure closes a turnstile first, so that those who go on working never keep it waiting.

    Example:
        >>> quiet = Quiet(Path("locks"))  # doctest: +SKIP
        >>> with quiet.working():  # doctest: +SKIP
        ...     for batch in batches:
        ...         train(batch)
        ...         quiet.let_pass()

    Args:
        folder: Where the locks lie; all processes with the same one pause for each other. One that cannot be written,
            or a system without such locks, means that nobody pauses, which is logged.
        say: Is told when others did not pause in time.
        patience_s: How long to wait until all others have paused.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = logger.warning, *, patience_s: float = 120.0) -> None:
        self._folder, self._say, self._patience_s = folder, say, patience_s
        # What each thread of this process holds while it works.
        self._own = threading.local()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Compute for the length of the block, which begins when nobody measures."""
        with contextlib.ExitStack() as stack:
            doors = self._opened(stack)
            if doors is None or self._held() is not None:
                yield
                return
            _enter(doors)
            self._own.doors = doors
            try:
                yield
            finally:
                self._own.doors = None

    def let_pass(self) -> None:
        """Pause here while somebody measures; said between two steps of the work."""
        doors = self._held()
        if doors is None:
            return
        if _try(doors.turnstile, fcntl.LOCK_SH):
            fcntl.flock(doors.turnstile, fcntl.LOCK_UN)
            return
        fcntl.flock(doors.room, fcntl.LOCK_UN)
        _enter(doors)

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Wait for something during the block, in the middle of work: others may measure meanwhile."""
        doors = self._held()
        if doors is None:
            yield
            return
        fcntl.flock(doors.room, fcntl.LOCK_UN)
        self._own.doors = None
        try:
            yield
        finally:
            _enter(doors)
            self._own.doors = doors

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure for the length of the block, which begins when all others have paused."""
        with self.resting(), contextlib.ExitStack() as stack:
            doors = self._opened(stack)
            if doors is not None and not self._alone(doors):
                self._say("other work on this machine did not pause: what is measured now may be noisy")
            yield

    def _alone(self, doors: _Doors) -> bool:
        end = time.monotonic() + self._patience_s
        for door in (doors.turnstile, doors.room):
            while not _try(door, fcntl.LOCK_EX):
                if time.monotonic() > end:
                    return False
                time.sleep(_POLL_S)
        return True

    def _held(self) -> _Doors | None:
        return getattr(self._own, "doors", None)

    def _opened(self, stack: contextlib.ExitStack) -> _Doors | None:
        if fcntl is None:
            return None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Each opening is a holder of its own, threads of one process among them.
            files = []
            for name in ("turnstile", "room"):
                files.append(os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644))
                stack.callback(os.close, files[-1])
            # There are disks without locks.
            if _try(files[0], fcntl.LOCK_SH):
                fcntl.flock(files[0], fcntl.LOCK_UN)
        except OSError as error:
            logger.warning("nobody pauses for measuring: cannot use %s (%s)", self._folder, error)
            return None
        return _Doors(*files)


class _Doors(NamedTuple):
    """Open lock files."""

    turnstile: int
    room: int


def _enter(doors: _Doors) -> None:
    fcntl.flock(doors.turnstile, fcntl.LOCK_SH)
    fcntl.flock(doors.room, fcntl.LOCK_SH)
    fcntl.flock(doors.turnstile, fcntl.LOCK_UN)


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
