"""Patience with servers: what fails because one is away for now is tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aebnas.errors import RunFailed

T = TypeVar("T")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
# A deadlock that the database solved, or one broken connection, is over before anybody could read of it.
_WORTH_SAYING_S = 1.0


@dataclass(frozen=True)
class _Failed:
    error: Exception
    reason: str


class Patience:
    """Repeats calls with growing pauses while they fail for now; an outage is told once, however many threads wait.

    Args:
        what: The server, in words without a password.
        for_now: Gives the reason of an error that may pass, on one line; None: the error will not pass.
        say: Shows one line.
        seconds: How long after its first failure a call is given up.
        clock: In seconds, never set back.
    """

    def __init__(
        self,
        what: str,
        for_now: Callable[[Exception], str | None],
        *,
        say: Callable[[str], None],
        seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._what, self._for_now, self._say = what, for_now, say
        self._seconds, self._clock, self._sleep = seconds, clock, sleep
        self._lock, self._away = threading.Lock(), False
        # Not the module's generator: seeds of a search must not depend on outages, nor workers pause in step.
        self._random = random.Random()

    def __call__(self, attempt: Callable[[bool], T]) -> T:
        """Return ``attempt(again)``, where ``again`` tells that an earlier attempt failed but may have got through.

        Raises:
            RunFailed: it kept failing for ``seconds``. Errors that will not pass are left as they are.
        """
        failing_since: float | None = None
        pause = _FIRST_PAUSE_S
        while isinstance(outcome := self._outcome(attempt, failing_since is not None), _Failed):
            now = self._clock()
            failing_since = now if failing_since is None else failing_since
            if now - failing_since >= self._seconds:
                raise RunFailed(
                    f"{self._what} has been away for {self._seconds:.0f} s ({outcome.reason}): once it is back, the "
                    "same command goes on where this one ended"
                ) from outcome.error
            if now - failing_since >= _WORTH_SAYING_S:
                self._tell(True, f"{self._what} is away ({outcome.reason}): trying again for {self._seconds:.0f} s")
            self._sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if self._away:
            self._tell(False, f"{self._what} is back")
        return outcome

    def _outcome(self, attempt: Callable[[bool], T], again: bool) -> T | _Failed:
        try:
            return attempt(again)
        except Exception as error:
            reason = self._for_now(error)
            if reason is None:
                raise
            return _Failed(error, reason)

    def _tell(self, away: bool, text: str) -> None:
        with self._lock:
            news, self._away = self._away != away, away
        if news:
            self._say(text)
