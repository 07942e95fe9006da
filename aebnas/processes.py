"""Processes of our own beside this one: spawned, told by a pipe, and ended without leaving anything behind."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import multiprocessing.resource_tracker
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from aebnas.progress import Stage

# A process that was told to end is given so long.
PATIENCE_S = 10.0
# Nobody listens any more.
GONE = (BrokenPipeError, ConnectionResetError)
# A process tells of its progress at most so often.
_REPORT_EVERY_S = 0.5
_ENDED = 128 + signal.SIGTERM


def spawn(serve: Callable[..., None], *arguments: Any, name: str | None = None) -> tuple[SpawnProcess, Connection]:
    """Start ``serve(connection, *arguments)`` in a process of its own; return it and our end of the pipe.

    The pipe ends with whichever process ends first. All must be picklable.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, *arguments), daemon=True, name=name)
    # Begun now: it lets signals through when it begins.
    multiprocessing.resource_tracker.ensure_running()
    with _undisturbed():
        process.start()
    # Else the pipe would not end with the process.
    there.close()
    return process, here


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block; a process that is started in it waits for :func:`settle_in`.

    Ctrl-C reaches all processes of a terminal, also one that has not yet come to where it ignores it. Here the signal
    may come to any thread, and its exception would leave a process behind that was told half of what it needs.
    """
    came: list[FrameType | None] = []
    before, held = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # Only there Python hands signals out.
    hears = threading.current_thread() is threading.main_thread() and callable(before)
    try:
        if hears:
            signal.signal(signal.SIGINT, lambda _, frame: came.append(frame))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if hears:
            signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(signal.SIGINT, came[-1])


def settle_in() -> None:
    """Begin a process that was spawned: its parent alone decides when it ends."""
    # Ctrl-C reaches all processes of a terminal; the one that spawned the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, _leave)


def _leave(*_: object) -> None:
    # An exit instead of a death leaves no semaphores of libraries behind; once, and without their complaints about
    # being left in the middle of something.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable()
    sys.exit(_ENDED)


def move_out() -> None:
    """Say that a process that was spawned has done its work and ends by itself: being told to would break that off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Interrupts:
    """Remembers Ctrl-C for the length of a block: its exception is lost where it comes in a finaliser of a library."""

    def __init__(self) -> None:
        self._came, self._before = False, signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Interrupts:
        # Only there Python hands signals out; who ignores it goes on doing so.
        if threading.current_thread() is threading.main_thread() and callable(self._before):
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one."""
        if self._came:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        assert callable(self._before)
        self._before(number, frame)


def bury(process: SpawnProcess, patience_s: float = PATIENCE_S) -> None:
    """Wait until ``process`` has ended, for a while; then make an end of it."""
    process.join(patience_s)
    if process.is_alive():
        process.kill()
        process.join()


class RemoteStage(Stage):
    """A stage that is shown in another process.

    Args:
        send: Takes ``("advance", steps)`` and ``("note", text)``.
    """

    def __init__(self, send: Callable[[tuple[str, object]], None]) -> None:
        self._send, self._steps, self._sent = send, 0, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._steps += steps
        if time.monotonic() - self._sent >= _REPORT_EVERY_S:
            self.flush()

    def note(self, text: str) -> None:
        self._send(("note", text))

    def flush(self) -> None:
        """Tell what has not been told yet."""
        self._send(("advance", self._steps))
        self._steps, self._sent = 0, time.monotonic()
