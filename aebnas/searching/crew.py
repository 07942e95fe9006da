"""The workers of a search on its own machine: processes that are started, shown, replaced when they die, and ended."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from aebnas.errors import AebnasError, InputError, RunFailed
from aebnas.experiment import Experiment
from aebnas.processes import GONE, bury, move_out, settle_in, spawn
from aebnas.progress import Progress, Stage
from aebnas.run_folder import RunFolder
from aebnas.searching.loop import Archive
from aebnas.searching.study import Address
from aebnas.searching.worker import help_search

logger = logging.getLogger(__name__)
# So many workers may die in a row without a trial between.
_MOST_DEATHS = 5
_PATIENCE_S = 5.0
_REPORT_EVERY_S = 0.5


@dataclass(frozen=True)
class Orders:
    """All that a worker is told when it begins; it is sent to its process.

    Args:
        given: The experiment where its model or data are Python objects.
        threads: That torch may use.
    """

    folder: Path
    address: Address
    given: Experiment | None
    accelerator: str
    threads: int

    @classmethod
    def of(cls, experiment: Experiment, folder: Path, address: Address, workers: int) -> Orders:
        """Return the orders for each of ``workers`` processes, which share the threads of this one.

        Raises:
            InputError: the model or the data cannot be sent to another process.
        """
        own = experiment.model is not None or experiment.datasets is not None
        if own:
            _check_picklable(experiment)
        threads = max(1, torch.get_num_threads() // workers)
        return cls(folder, address, experiment if own else None, experiment.accelerator, threads)


class _Nowhere:
    """Takes bytes and keeps none."""

    def write(self, content: Any) -> int:
        return len(content)


def _check_picklable(experiment: Experiment) -> None:
    try:
        pickle.Pickler(_Nowhere()).dump(experiment)
    except Exception as error:  # pickle raises anything on what it cannot take
        raise InputError(
            f"search.workers needs a model and datasets that can be sent to another process ({error}): define their "
            "classes at the top of a module, or set search.workers to 1"
        ) from error


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    connection: Connection


class Crew:
    """``workers`` processes that help the search of this one; a context manager.

    Args:
        orders: For each of them.
        stage: Shows what each is doing.
        say: Told when one died.
    """

    def __init__(self, orders: Orders, workers: int, stage: Stage, say: Callable[[str], None]) -> None:
        self._orders, self._count, self._stage, self._say = orders, workers, stage, say
        self._workers: list[_Worker] = []
        self._deaths = 0
        # So that none is replaced that ended because there was nothing left to do.
        self.wanted = True

    def __enter__(self) -> Crew:
        try:
            for number in range(self._count):
                self._start(number)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def at_work(self) -> int:
        """How many of them have not ended."""
        return len(self._workers)

    def look(self, seconds: float) -> bool:
        """Take in what the workers say, for at most so long; tell whether one has come to the end of a trial, or died.

        Raises:
            InputError, RunFailed: what a worker ended with; or they die one after the other.
        """
        if not self._workers:
            time.sleep(seconds)
            return False
        by_connection = {worker.connection: worker for worker in self._workers}
        news = False
        for ready in multiprocessing.connection.wait(list(by_connection), seconds):
            worker = next(one for connection, one in by_connection.items() if connection is ready)
            news |= self._hear(worker)
        return news

    def _hear(self, worker: _Worker) -> bool:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return True
        if kind == "doing":
            self._stage.doing(f"worker {worker.number + 1}", value)
        elif kind == "say":
            self._say(value)
        elif kind == "trial":
            self._deaths = 0
        elif kind == "failed":
            is_input, reason = value
            raise InputError(reason) if is_input else RunFailed(reason)
        else:  # it found nothing more to do
            self._forget(worker)
        return kind in ("trial", "ended")

    def _replace(self, worker: _Worker) -> None:
        self._forget(worker)
        code = worker.process.exitcode
        if not self.wanted:
            return
        self._deaths += 1
        if self._deaths > _MOST_DEATHS * self._count:
            raise RunFailed(
                "the worker processes of this search die one after the other: memory may have run out; try fewer "
                "--workers"
            )
        self._say(f"worker {worker.number + 1} died ({_cause(code)}): another one takes its place")
        self._start(worker.number)

    def _start(self, number: int) -> None:
        process, connection = spawn(_serve, self._orders, name=f"worker {number + 1}")
        self._workers.append(_Worker(number, process, connection))
        self._stage.doing(f"worker {number + 1}", "begins")

    def _forget(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._stage.doing(f"worker {worker.number + 1}", None)
        worker.connection.close()
        worker.process.terminate()
        bury(worker.process, _PATIENCE_S)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            bury(worker.process, _PATIENCE_S)
            self._stage.doing(f"worker {worker.number + 1}", None)
        self._workers.clear()


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


class _Told(Progress):
    """Progress that is shown by the process that leads the search."""

    def __init__(self, send: Callable[[tuple[str, object]], None]) -> None:
        self._send = send

    @contextlib.contextmanager
    def stage(self, label: str, total: int, done: int = 0) -> Iterator[Stage]:
        self._send(("doing", label))
        yield _ToldStage(self._send, label, total, done)

    def say(self, text: str) -> None:
        self._send(("say", text))


class _ToldStage(Stage):
    def __init__(self, send: Callable[[tuple[str, object]], None], label: str, total: int, done: int) -> None:
        self._send, self._label, self._total, self._done = send, label, total, done
        self._sent, self._text = 0.0, ""

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if time.monotonic() - self._sent >= _REPORT_EVERY_S:
            self._sent = time.monotonic()
            share = f" {100 * self._done // self._total} %" if self._total else ""
            self._send(("doing", f"{self._label}{share}{self._text and ': '}{self._text}"))

    def note(self, text: str) -> None:
        self._text = text


def _serve(connection: Connection, orders: Orders) -> None:
    """Help the search until it has enough trials, or its leader is gone."""
    settle_in()
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    torch.set_num_threads(orders.threads)
    guard = threading.Lock()

    def send(message: tuple[str, object]) -> None:
        with guard:
            connection.send(message)

    def told(archive: Archive) -> None:
        send(("trial", len(archive.evaluations)))

    with contextlib.suppress(*GONE):
        try:
            help_search(
                RunFolder(orders.folder),
                orders.address,
                own={"accelerator": orders.accelerator},
                given=orders.given,
                progress=_Told(send),
                told=told,
                patient=False,
            )
        except AebnasError as error:
            send(("failed", (isinstance(error, InputError), str(error))))
        else:
            send(("ended", None))
    move_out()


def _end_with(connection: Connection) -> None:
    """End this process when its parent has died, lest it slow down the search that goes on."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os.kill(os.getpid(), signal.SIGTERM)
