"""Whether other programs leave this machine's processors to the threads that train here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# Of the threads, so large a part may have to share a processor before a word is said: a load of a little is no load.
_SLACK = 0.25
# What is running now is looked at so often, so many seconds apart.
_LOOKS, _APART_S = 5, 0.02
_LOADAVG = Path("/proc/loadavg")


class Crowd(NamedTuple):
    """That other programs leave too few processors, and what to do."""

    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.found}: {self.fix}"


def busy_processors() -> float | None:
    """Return how many programs want to run beside this one; None where the system does not tell.

    That is the load average of the last minute; or what runs now if that is less, for a load stays in the average for
    a while after the program that made it has ended.
    """
    if not hasattr(os, "getloadavg"):
        return None  # Windows
    try:
        load = os.getloadavg()[0]
        return min(load, max(_running_now() for _ in range(_LOOKS))) if _LOADAVG.exists() else load
    except OSError:
        return None


def crowded(
    threads: int, *, processors: int | None = None, busy: Callable[[], float | None] = busy_processors
) -> Crowd | None:
    """Say that other programs leave too few processors for ``threads``, and what to do; None where they leave enough.

    Threads that work on one operation wait for the slowest of them: two that have to share their processors with
    others are far slower than one that has its own.

    Args:
        threads: That train in this process.
        processors: Of the machine; None: as the system says.
        busy: Tells how many of them others want.
    """
    if threads < 2:
        return None
    here, others = processors or os.cpu_count() or 1, busy()
    if others is None or here - others >= threads * (1 - _SLACK):
        return None
    free = max(1, int(here - others))
    return Crowd(
        f"other programs keep this machine's {here} processors busy (load {others:.1f}), and the {threads} threads "
        "that train here wait for each other then",
        f"wait until they have ended, or put OMP_NUM_THREADS={free} before the command, which may make it several "
        "times as fast",
    )


def _running_now() -> int:
    """Return how many threads are running on this machine, this one not counted."""
    time.sleep(_APART_S)
    return int(_LOADAVG.read_text().split()[3].partition("/")[0]) - 1
