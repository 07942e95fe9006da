"""Trainings that were stopped before their end, each kept beside the record that it would have become."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aebnas.files import digest
from aebnas.searching.plan import Plan
from aebnas.store import DamagedFile, WeightStore

logger = logging.getLogger(__name__)
Record = Mapping[str, Any]
# Epochs done and the record as it was left -> whether to train further now.
GoOn = Callable[[int, Record], bool]


@dataclass(frozen=True)
class Kept:
    """A record by its key; ``epochs`` says after how many it was stopped, None that it was trained to the end."""

    key: str
    epochs: int | None = None


class Shelf:
    """The trainings of one store under one plan, finished and stopped ones.

    A stopped one has a key of its own and is never changed, so evaluations of it stay what they are; its record is as
    that of a finished one, with the state to go on from as ``paused``.
    """

    def __init__(self, store: WeightStore, plan: Plan) -> None:
        self.store, self._plan = store, plan

    def find(self, key: str, go_on: GoOn | None) -> Kept | None:
        """Return what serves as ``key``: the finished training, or a stopped one that is not to go on; else None.

        Args:
            go_on: Asked about the stopped one; None trains all to the end.
        """
        if self.store.has(key):
            return Kept(key)
        stopped = None if go_on is None else self.stopped(key)
        if go_on is None or stopped is None:
            return None
        epochs, record = stopped
        return None if go_on(epochs, record) else Kept(_stopped_key(key, epochs), epochs)

    def stopped(self, key: str) -> tuple[int, Record] | None:
        """Return epochs done and record of the longest stopped training of ``key``; None if there is none."""
        for epochs in range(self._plan.training.epochs - 1, 0, -1) if self._plan.stoppable else ():
            record = self._read(_stopped_key(key, epochs))
            if record is not None:
                return epochs, record
        return None

    def left(self, key: str) -> int:
        """Return how many epochs are left to train."""
        if self.store.has(key):
            return 0
        stopped = self.stopped(key)
        return self._plan.training.epochs - (stopped[0] if stopped else 0)

    def put(self, key: str, record: Record, accuracies: Sequence[Any], paused: Record | None) -> None:
        """Keep a training that is over, or that was stopped: then it has a state to go on from.

        Args:
            accuracies: One entry per epoch done.
        """
        if paused is None:
            self.store.put(key, dict(record))
        else:
            self.store.put(_stopped_key(key, len(accuracies)), {**record, "paused": dict(paused)})

    def _read(self, key: str) -> Record | None:
        try:
            return self.store.get(key) if self.store.has(key) else None
        except DamagedFile as damage:
            logger.warning("%s", damage)
        return None


def _stopped_key(key: str, epochs: int) -> str:
    return digest(key, "stopped", str(epochs))
