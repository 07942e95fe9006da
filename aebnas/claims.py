"""One process at a time: claims by name in a folder, which the kernel takes back when their holder dies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import filelock

from aebnas.files import cannot_write

LOCKS = ".locks"
_POLL_S = 0.2


class Hold:
    """A claim that this process has; as a context manager it is given back at the end of the block."""

    def __init__(self, folder: Path, lock: filelock.BaseFileLock) -> None:
        self._folder, self._lock = folder, lock

    def release(self) -> None:
        """Give the claim back; a second time does nothing."""
        if self._lock.is_locked:
            with _turnstile(self._folder):
                Path(self._lock.lock_file).unlink(missing_ok=True)
                self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()


def try_hold(folder: Path, name: str) -> Hold | None:
    """Claim ``name`` in ``folder``, made if it is missing; None: another process, or another hold of this one, has it.

    Lock files lie in the folder ``.locks`` below. They are taken away when a claim is given back; what a killed process
    left behind holds nobody up.

    Raises:
        RunError: the folder cannot be written. RunFailed: the disk is full.
    """
    locks = folder / LOCKS
    lock = filelock.FileLock(locks / f"{name}.lock", timeout=0, thread_local=False)
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with _turnstile(folder):
            lock.acquire()
    except filelock.Timeout:
        return None
    except OSError as error:
        raise cannot_write(locks, error) from error
    return Hold(folder, lock)


@contextlib.contextmanager
def holding(folder: Path, name: str, waiting: Callable[[], object], poll_s: float = _POLL_S) -> Iterator[None]:
    """Hold ``name`` in ``folder`` for the length of the block; wait while another process has it.

    Args:
        waiting: Called before every further look while there is a wait.

    Raises:
        RunError: the folder cannot be written. RunFailed: the disk is full.
    """
    while (hold := try_hold(folder, name)) is None:
        waiting()
        time.sleep(poll_s)
    with hold:
        yield


def _turnstile(folder: Path) -> filelock.BaseFileLock:
    # A lock file that is taken away between another's opening and locking it would be held twice. So all of that
    # happens one after the other, behind a lock whose own file stays.
    return filelock.FileLock(folder / LOCKS / "turnstile", poll_interval=0.01, thread_local=False)
