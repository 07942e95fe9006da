"""Claims: of all living processes of a search, at most one is at a thing."""

from __future__ import annotations

import random
import threading
import time

from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence

_TRIES, _PAUSE_S = 3, 0.1


class Claims:
    """What this process claims of one kind, in one note of the board; claims of dead workers are void.

    A board has no compare-and-set. So a worker writes its claim down, then reads those of the others, and withdraws if
    another living one has the same: of two that write before either reads, both withdraw and try again after a while.
    One that is taken for dead and is not (it was stopped for long, or cut off) may so find itself at the same thing as
    somebody else.

    Args:
        kind: What is claimed, such as ``files``; a process has one of these for each kind.
    """

    def __init__(self, board: Board, presence: Presence, kind: str) -> None:
        self._board, self._presence = board, presence
        self._prefix = f"claims/{kind}/"
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

    def _taken(self, name: str) -> bool:
        for worker, names in self._board.items(self._prefix).items():
            if worker != self._presence.worker and name in names:
                if self._presence.alive(worker):
                    return True
                self._board.remove(self._prefix + worker)
        return False

    def _write(self, names: set[str]) -> None:
        key = self._prefix + self._presence.worker
        if names:
            self._board.put(key, sorted(names))
        else:
            self._board.remove(key)
