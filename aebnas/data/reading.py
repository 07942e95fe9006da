"""Work on many images, shared out to processes where that is faster."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from aebnas.errors import AebnasError, RunFailed

Chunk = TypeVar("Chunk")
Found = TypeVar("Found")
MOST_WORKERS = 4
# Forked processes begin at once, with what this one has in memory.
_CONTEXT = "fork" if sys.platform == "linux" else None
# Fewer pieces of work than this are not worth the start of processes.
_WORTH = 4


def default_workers() -> int:
    """Return how many processes read images where nobody says: up to 4, one per processor of this process.

    Elsewhere than on Linux none: there every pass over the images would start Python anew in each of them.
    """
    if _CONTEXT is None:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores == 1 else min(MOST_WORKERS, cores)


def fetch(work: Callable[[Chunk], Found], chunks: Sequence[Chunk], workers: int, *, seed: int = 0) -> Iterator[Found]:
    """Yield ``work(chunk)`` of every chunk, in order; the same whichever processes do it.

    Args:
        work: What to do; can be sent to another process, and so can what it returns.
        workers: Processes; none are started for little work, or in a process that may not start any.
        seed: Of the global generators of the processes, that a user's random transforms draw from.

    Raises:
        RunFailed: a process was killed.
    """
    if workers == 0 or len(chunks) < _WORTH or multiprocessing.current_process().daemon:
        yield from map(work, chunks)
        return
    loader = DataLoader(
        _Work(work),
        sampler=chunks,
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        collate_fn=_as_it_is,
        multiprocessing_context=_CONTEXT,
        # A generator of its own: a DataLoader otherwise draws from the global one and shifts everybody's numbers.
        generator=torch.Generator().manual_seed(seed),
    )
    try:
        for found in loader:
            if isinstance(found, AebnasError):
                raise found
            yield found
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise RunFailed(
            "a process that reads images was killed, perhaps for want of memory: set data.workers lower, or to 0"
        ) from error


class _Work(Dataset[Any], Generic[Chunk, Found]):
    def __init__(self, work: Callable[[Chunk], Found]) -> None:
        self._work = work

    def __getitem__(self, chunk: Any) -> Found | AebnasError:
        try:
            return self._work(chunk)
        except AebnasError as error:
            # Raised, it would come with the process's traceback as its message.
            return error


def _as_it_is(found: Found) -> Found:
    return found
