"""Claims: of all living processes of a search, at most one is at a thing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from aebnas.sharing.board import Board

_CLAIMS = "claims/"
_TRIES, _PAUSE_S = 3, 0.1


class Claims:
    """What ``worker`` claims, in one note of the board; claims of dead workers are void. One for each process.

    A board has no compare-and-set. So a worker writes its claim down, then reads those of the others, and withdraws if
    another living one has the same: of two that write before either reads, both withdraw and try again after a while.

    Args:
        alive: Tells whether another worker lives. One that is taken for dead and is not (it was stopped for long, or
            cut off) may find itself at the same thing as somebody else.
    """

    def __init__(self, board: Board, worker: str, alive: Callable[[str], bool]) -> None:
        self._board, self._worker, self._alive = board, worker, alive
        self._held, self._lock = set[str](), threading.Lock()
        # Not the module's generator, of which a seeded search might draw.
        self._random = random.Random()

    def claim(self, name: str) -> bool:
        """Claim ``name``; False: a living process, or another thread of this one, has it."""
        with self._lock:
            if name in self._held:
                return False
            for _ in range(_TRIES):
                if self._taken(name):
                    return False
                self._write(self._held | {name})
                if not self._taken(name):
                    self._held.add(name)
                    return True
                self._write(self._held)
                time.sleep(self._random.uniform(0, _PAUSE_S))
            return False

    def release(self, name: str) -> None:
        """Take back the claim of ``name``, if there is one."""
        with self._lock:
            if name in self._held:
                self._held.remove(name)
                self._write(self._held)

    def forget(self, worker: str) -> None:
        """Take the claims of ``worker``, which is dead, from the board."""
        self._board.remove(_CLAIMS + worker)

    def _taken(self, name: str) -> bool:
        claims = self._board.items(_CLAIMS)
        others = [worker for worker, names in claims.items() if worker != self._worker and name in names]
        return any(self._alive(worker) for worker in others)

    def _write(self, names: set[str]) -> None:
        if names:
            self._board.put(_CLAIMS + self._worker, sorted(names))
        else:
            self._board.remove(_CLAIMS + self._worker)
