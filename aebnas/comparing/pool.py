"""Jobs over processes: spawned ones, or this one; what fails is told, the others go on.

A file that cannot be written is no failure of a job: it stops them all.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.connection
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import torch

from aebnas.comparing.jobs import Job
from aebnas.comparing.workshop import Plan, Workshop
from aebnas.errors import AebnasError, RunError, RunFailed
from aebnas.processes import GONE, RemoteStage, bury, settle_in, spawn
from aebnas.progress import Stage

logger = logging.getLogger(__name__)
# A full or read-only disk fails every job that comes after.
_STOPS = (RunError, RunFailed)
_LOST = "its process ended before it was done: memory may have run out; try fewer --workers"
_NO_BACKBONE = "the backbone of this seed could not be trained: "
Failures = dict[Job, str]


def run_jobs(jobs: Sequence[Job], plan: Plan, *, workers: int, stage: Stage) -> Failures:
    """Do all ``jobs``; return why those failed that did.

    Args:
        workers: Processes; with 1, everything is done in this one. Threads are divided between them.

    Raises:
        RunError, RunFailed: a file could not be written; what was finished before stays.
    """
    if workers == 1 or len(jobs) < 2:
        return _in_this_process(jobs, Workshop(plan), stage)
    return _Pool(plan, min(workers, len(jobs)), stage).run(jobs)


def reason_of(error: Exception) -> str:
    """Return why a job failed, for the table; what is no error of ours is logged in full."""
    if isinstance(error, AebnasError):
        return str(error)
    logger.error("a training ended in an error of the program", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _in_this_process(jobs: Sequence[Job], workshop: Workshop, stage: Stage) -> Failures:
    failures: Failures = {}
    for job in jobs:
        blocked = _blocked(job, failures)
        if blocked is None:
            try:
                workshop.do(job, _Labelled(stage, job))
            except _STOPS:
                raise
            except Exception as error:  # the others go on
                blocked = reason_of(error)
        if blocked is not None:
            failures[job] = blocked
    return failures


def _blocked(job: Job, failures: Failures) -> str | None:
    found = (why for one, why in failures.items() if one.kind == "backbone" and one.seed == job.seed)
    why = next(found, None) if job.needs_backbone else None
    return None if why is None else _NO_BACKBONE + why


class _Labelled(Stage):
    """Says behind the bar whose progress it is."""

    def __init__(self, stage: Stage, job: Job) -> None:
        self._stage, self._job = stage, job

    def advance(self, steps: int = 1) -> None:
        self._stage.advance(steps)

    def note(self, text: str) -> None:
        self._stage.note(f"{self._job.label}: {text}")


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None


class _Pool:
    def __init__(self, plan: Plan, workers: int, stage: Stage) -> None:
        self._plan, self._count, self._stage = plan, workers, stage
        self._threads = max(1, torch.get_num_threads() // workers)
        self._workers: list[_Worker] = []
        self._waiting: list[Job] = []
        self._failures: Failures = {}

    def run(self, jobs: Sequence[Job]) -> Failures:
        self._waiting = list(jobs)
        try:
            while self._waiting or any(worker.job for worker in self._workers):
                self._hand_out()
                self._listen()
        finally:
            self._stop()
        return self._failures

    def _hand_out(self) -> None:
        """Give every idle worker a job that can begin; start workers as long as there is work for them."""
        for job in self._ready():
            if not self._give(job):
                return

    def _give(self, job: Job) -> bool:
        """Send ``job`` to a worker; False: all are at work."""
        while True:
            worker = next((one for one in self._workers if one.job is None), None)
            if worker is None:
                if len(self._workers) == self._count:
                    return False
                worker = self._start()
            try:
                worker.connection.send(job)
            except OSError:  # it died while it had nothing to do: another one gets the job
                self._drop(worker)
                continue
            self._waiting.remove(job)
            worker.job = job
            return True

    def _ready(self) -> list[Job]:
        for job in list(self._waiting):
            why = _blocked(job, self._failures)
            if why is not None:
                self._waiting.remove(job)
                self._failures[job] = why
        under_way = [*self._waiting, *(worker.job for worker in self._workers if worker.job is not None)]
        coming = {job.seed for job in under_way if job.kind == "backbone"}
        return [job for job in self._waiting if not (job.needs_backbone and job.seed in coming)]

    def _listen(self) -> None:
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        for ready in multiprocessing.connection.wait(list(busy)):
            worker = next(one for connection, one in busy.items() if connection is ready)
            job = worker.job
            assert job is not None
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                self._failures[job] = _LOST
                self._drop(worker)
                continue
            if kind == "advance":
                self._stage.advance(value)
            elif kind == "note":
                self._stage.note(f"{job.label}: {value}")
            elif kind == "stop":
                raise value
            else:
                worker.job = None
                if value is not None:
                    self._failures[job] = value

    def _start(self) -> _Worker:
        self._workers.append(_Worker(*spawn(_serve, self._plan, self._threads)))
        return self._workers[-1]

    def _drop(self, worker: _Worker) -> None:
        """Forget a worker whose pipe has ended, and leave nothing of it behind."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.terminate()
        bury(worker.process)

    def _stop(self) -> None:
        # Idle workers end with their pipe. A word of goodbye could come behind half of a message, if Ctrl-C came in the
        # middle of sending it, and would be waited for for ever.
        for worker in self._workers:
            worker.connection.close()
            if worker.job is not None:
                worker.process.terminate()
        for worker in self._workers:
            bury(worker.process)


def _serve(connection: Connection, plan: Plan, threads: int) -> None:
    """Do the jobs that come through ``connection``, until it ends."""
    settle_in()
    torch.set_num_threads(threads)
    workshop = Workshop(plan)
    with contextlib.suppress(EOFError, *GONE):
        while True:
            job = connection.recv()
            stage = RemoteStage(connection.send)
            answer: tuple[str, object] = ("done", None)
            try:
                workshop.do(job, stage)
            except GONE:
                raise
            except _STOPS as error:
                answer = ("stop", error)
            except Exception as error:  # told to who gave the job
                answer = ("done", reason_of(error))
            stage.flush()
            connection.send(answer)
