"""Who is alive: locks within one folder, beats on the board between machines."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import filelock

from aebnas.errors import RunError
from aebnas.sharing.board import Board

_BEATS = "beats/"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# A worker waits no longer to begin, nor to take its leave of a storage that is away: its silence will tell.
_MOST_S = 5.0
# Another process may take the empty folder away between its making and ours of a file in it.
_TRIES = 5


@dataclass
class _Heard:
    """The last beat of another worker, and for how long we have listened to nothing new since."""

    count: int
    silent_s: float = 0.0


class Presence:
    """Says that this process lives, and tells which others do; a context manager.

    Optuna's heartbeats are not enough: they beat within ``Study.optimize`` only, belong to one trial, compare the
    database's clock with times in it, and GrpcStorageProxy has none. These need a board only.

    A worker holds the lock of ``folder/workers/ID.lock``, which the kernel frees however it dies, so that processes of
    one machine know at once. Elsewhere it counts up a note on the board, which must change within ``grace_s`` of the
    *observer's* monotonic clock; that counts only while the observer can look. So neither clocks that differ or jump,
    nor an outage of the storage, nor a laptop that slept makes anybody dead.

    Args:
        folder: The run folder of this process.
        clock: In seconds, never set back.

    Attributes:
        worker: The id of this process: host, number, and what makes it unique.
        grace_s: How long another one may be silent, in seconds.
    """

    def __init__(
        self,
        board: Board,
        folder: Path,
        *,
        interval_s: float = 5.0,
        grace_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
        self.worker = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self.grace_s, self._interval_s, self.clock = grace_s, interval_s, clock
        self._board, self._locks = board, folder / "workers"
        self._beats, self._heard, self._looked = 0, dict[str, _Heard](), clock()
        self._guard, self._stop = threading.Lock(), threading.Event()
        # Whoever looks has it for an instant.
        self._lock = filelock.FileLock(self._path(self.worker), timeout=_MOST_S, thread_local=False)
        self._thread = threading.Thread(target=self._beat_on, name="presence", daemon=True)

    def __enter__(self) -> Presence:
        """Begin to beat.

        Raises:
            RunError: the folder cannot be written. RunFailed: the storage is away.
        """
        self._take_lock()
        try:
            self.beat()
        except BaseException:
            self._drop_lock()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the beats and leave nothing behind; may be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_MOST_S)
        self._drop_lock()

    def beat(self) -> None:
        """Beat once, and listen to the others; the thread does so every ``interval_s``."""
        self._beats += 1
        self._board.put(_BEATS + self.worker, self._beats)
        self._look()

    def alive(self, worker: str) -> bool:
        """Tell whether the process with this id, of any machine, is alive as far as can be known here."""
        if worker == self.worker:
            return not self._stop.is_set()
        locked = self._locked(worker)
        return self._beating(worker) if locked is None else locked

    def others(self) -> list[str]:
        """Return the ids of the other workers that are alive, sorted."""
        self._look()
        with self._guard:
            known = set(self._heard)
        return sorted(worker for worker in known if self.alive(worker))

    def forget(self, worker: str) -> None:
        """Take away what is left of a dead worker, once nothing more is to be learnt from it."""
        self._board.remove(_BEATS + worker)
        with contextlib.suppress(OSError):
            self._path(worker).unlink(missing_ok=True)
        with self._guard:
            self._heard.pop(worker, None)

    def _beat_on(self) -> None:
        while not self._stop.wait(self._interval_s):
            # Whoever does the work is told the same; beats are taken up again once there is a storage, or disk.
            with contextlib.suppress(Exception):
                self.beat()
        with contextlib.suppress(Exception):  # our silence will tell
            self._board.remove(_BEATS + self.worker)

    def _look(self) -> None:
        beats = self._board.items(_BEATS)
        with self._guard:
            now = self.clock()
            # What lies between two looks is the others' silence only as far as we would have looked.
            listened, self._looked = min(now - self._looked, 2 * self._interval_s), now
            for gone in set(self._heard) - set(beats):
                del self._heard[gone]
            for worker, count in beats.items():
                heard = self._heard.get(worker)
                if worker == self.worker:
                    continue
                if heard is None or heard.count != count:
                    self._heard[worker] = _Heard(count)
                else:
                    heard.silent_s += listened

    def _beating(self, worker: str) -> bool:
        with self._guard:
            heard = self._heard.get(worker)
        if heard is None:
            self._look()
            with self._guard:
                heard = self._heard.get(worker)
        return heard is not None and heard.silent_s <= self.grace_s

    def _path(self, worker: str) -> Path:
        return self._locks / f"{worker}.lock"

    def _take_lock(self) -> None:
        try:
            for _ in range(_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    self._locks.mkdir(parents=True, exist_ok=True)
                    self._lock.acquire()
                    break
            self._path(self.worker).write_text(_machine())
        except OSError as error:
            raise RunError(f"cannot use {self._locks} ({error.strerror or error}): choose another --run-dir") from error

    def _drop_lock(self) -> None:
        # The name goes first: nobody finds a free lock of a worker that ended well.
        with contextlib.suppress(OSError):
            self._path(self.worker).unlink(missing_ok=True)
        self._lock.release()
        with contextlib.suppress(OSError):
            self._locks.rmdir()

    def _locked(self, worker: str) -> bool | None:
        """Tell whether ``worker`` holds its lock in this folder; None: the lock cannot tell."""
        path = self._path(worker)
        try:
            machine = path.read_text()
            with filelock.FileLock(path, timeout=0):
                # On a shared disk, another machine's lock may not reach here: then only its beats tell.
                if machine != _machine():
                    return None
                # It stays: without it, another process would have to listen for beats until it knows the same.
                return False
        except filelock.Timeout:
            return True
        except OSError:
            return None


def at_work_elsewhere(folder: Path) -> str | None:
    """Return the id of a worker of another machine that holds its lock in ``folder``, which both share."""
    return next((path.stem for path in sorted((folder / "workers").glob("*.lock")) if _held_elsewhere(path)), None)


def _held_elsewhere(path: Path) -> bool:
    try:
        machine = path.read_text()
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return machine not in ("", _machine())  # nothing: it is just being written
    except OSError:
        return False


def _machine() -> str:
    """Return what differs between machines that do not share their locks, and between two boots of one."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()
