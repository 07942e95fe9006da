"""This machine as a place for an agent: a process of its own, for threads are set once and for all in a process."""

from __future__ import annotations

import signal
import sys

from aebnas.devices.boot import boot_code
from aebnas.devices.link import Place, last_opened, last_words
from aebnas.errors import AebnasError, MeasurementError

NAME = "this machine"
_START_S = 60.0


def here_place() -> Place:
    """Return this machine, with the interpreter that runs this."""
    return Place(
        name=NAME, argv=(sys.executable, "-c", boot_code(None)), start_s=_START_S, not_started=_ended, lost=_ended
    )


def _ended(code: int, said: str) -> AebnasError:
    reason = signal.strsignal(-code) if code < 0 else last_words(said) or f"exit code {code}"
    return MeasurementError(
        f"the measuring process ended half-way ({reason}{last_opened(said)}): what was measured so far is kept, and "
        "the same command goes on; if it ends again, look for a block that needs more memory than there is"
    )
