"""Costs are measured by the process that leads a search; the others ask it.

Their machines may be others, and two that measure on one machine would disturb each other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.linked import Cascade
from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Block, Figures, MixedRun, TrialNetwork
from aebnas.costs.model import CostModel
from aebnas.costs.overhead import Overhead
from aebnas.errors import BackboneError, BranchError, DeviceError, MeasurementError, RunFailed
from aebnas.exits.confidence import build_confidence
from aebnas.locks import Quiet
from aebnas.searching.costing import CostModels, Kind
from aebnas.sharing.board import Board
from aebnas.sharing.presence import Presence

logger = logging.getLogger(__name__)
_BASE, _ASKED, _TOLD = "costs/", "asked/", "told/"
_LOOK_EVERY_S = 0.1
# Errors that a candidate may fail of, and the loss of the device: both reach whoever asked as what they were.
_ERRORS = {error.__name__: error for error in (BackboneError, BranchError, DeviceError, MeasurementError)}


def publish(models: CostModels, board: Board) -> None:
    """Write down what was measured of the backbone, so that others can compose costs as this process does."""
    for kind, model in models.items():
        note = {
            "empty_ms": model.empty_ms,
            "overhead": asdict(model.overhead),
            "figures": {name: asdict(figures) for name, figures in model.static_figures().items()},
        }
        board.put(_BASE + "/".join(kind), note)


class CostDesk:
    """Answers the questions of other workers from a thread of its own; a context manager.

    Args:
        models: Those of this process.
    """

    def __init__(self, models: CostModels, board: Board, presence: Presence) -> None:
        self._models, self._board, self._presence = models, board, presence
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="cost desk", daemon=True)
        self.lost: Exception | None = None

    def __enter__(self) -> CostDesk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what ended an answer: a DeviceError, for nothing can be measured any more, or a fault of ours."""
        if self.lost is not None:
            raise self.lost

    def answer(self) -> None:
        """Answer every question that stands on the board now."""
        for worker, question in self._board.items(_ASKED).items():
            told = self._board.get(_TOLD + worker)
            if told is not None and told["number"] == question["number"]:
                self._forget_if_dead(worker)
            else:
                self._board.put(_TOLD + worker, {"number": question["number"], **self._told(question)})

    def _told(self, question: Mapping[str, Any]) -> dict[str, Any]:
        specs = [BranchSpec.from_json(branch) for branch in question["branches"]]
        try:
            figures = self._models[Kind(*question["kind"])].figures(specs, question["cascade"])
        except tuple(_ERRORS.values()) as error:
            if isinstance(error, DeviceError):
                self.lost = error
            kind = next(name for name, known in _ERRORS.items() if isinstance(error, known))
            return {"error": kind, "reason": str(error)}
        return {"figures": {name: asdict(one) for name, one in figures.items()}}

    def _forget_if_dead(self, worker: str) -> None:
        if not self._presence.alive(worker):
            for prefix in (_ASKED, _TOLD):
                self._board.remove(prefix + worker)

    def _serve(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self._try_to_answer()

    def _try_to_answer(self) -> None:
        try:
            self.answer()
        except RunFailed as error:  # the storage is away: whoever works with it is told the same
            logger.warning("questions about costs wait: %s", error)
        except Exception as error:
            # Raised where the trials are watched, for others would wait for an answer for ever.
            self.lost = error
            self._stop.set()


class Inquiry:
    """Asks the cost desk of the search's leader.

    Args:
        leader: Returns the id of the worker that leads now.
        say: Told when an answer takes long.
        quiet: Who asks computes nothing, so that the leader may measure on the same machine.
    """

    def __init__(
        self,
        board: Board,
        presence: Presence,
        leader: Callable[[], str],
        say: Callable[[str], None],
        quiet: Quiet,
        *,
        patience_s: float = 30.0,
    ) -> None:
        self._board, self._presence, self._leader, self._say = board, presence, leader, say
        self._quiet, self._patience_s, self._number = quiet, patience_s, 0

    def models(self, kinds: Sequence[Kind], backbone: SegmentedBackbone) -> dict[Kind, CostModel]:
        """Return cost models that are composed of what the leader measures.

        Raises:
            RunFailed: the leader has measured nothing yet.
        """
        return {kind: self._model(kind, backbone) for kind in kinds}

    def _model(self, kind: Kind, backbone: SegmentedBackbone) -> CostModel:
        note = self._board.get(_BASE + "/".join(kind))
        if note is None:
            raise RunFailed(f"the search that was joined has no costs for {', '.join(kind)}: run it again first")
        figures = {name: Figures(**one) for name, one in note["figures"].items()}
        timer = _Told(note["empty_ms"], figures, stateful=build_confidence(kind.confidence).stateful)

        def ask(specs: Sequence[BranchSpec], cascade: Cascade) -> dict[str, Figures]:
            return self.figures(kind, specs, cascade)

        return _AskedModel(backbone, timer, Overhead(**note["overhead"]), ask)

    def figures(self, kind: Kind, specs: Sequence[BranchSpec], cascade: Cascade) -> dict[str, Figures]:
        """Return what the leader says of these branches, waiting for it as long as the leader is alive.

        Raises:
            RunFailed: the leader is gone. MeasurementError, BranchError, BackboneError: what it failed of.
        """
        self._number += 1
        question = {
            "number": self._number,
            "kind": list(kind),
            "branches": [spec.to_json() for spec in specs],
            "cascade": cascade,
        }
        mine = self._presence.worker
        self._board.put(_ASKED + mine, question)
        with self._quiet.resting():
            told = self._awaited()
        if "error" in told:
            raise _ERRORS[told["error"]](told["reason"])
        return {name: Figures(**one) for name, one in told["figures"].items()}

    def _awaited(self) -> dict[str, Any]:
        start, said = time.monotonic(), False
        while True:
            told: dict[str, Any] | None = self._board.get(_TOLD + self._presence.worker)
            if told is not None and told["number"] == self._number:
                return told
            if not self._presence.alive(self._leader()):
                raise RunFailed(
                    "the process that leads this search and measures for it is gone: run the same `aebnas search` "
                    "again, then join it again"
                )
            if time.monotonic() - start > self._patience_s and not said:
                self._say("waiting for the leader of the search to measure")
                said = True
            time.sleep(_LOOK_EVERY_S)

    @contextlib.contextmanager
    def tidy(self) -> Iterator[None]:
        """Leave no question behind at the end of the block."""
        try:
            yield
        finally:
            with contextlib.suppress(RunFailed):
                for prefix in (_ASKED, _TOLD):
                    self._board.remove(prefix + self._presence.worker)


class _AskedModel(CostModel):
    """A cost model whose unknown blocks are measured elsewhere."""

    def __init__(
        self,
        backbone: SegmentedBackbone,
        timer: _Told,
        overhead: Overhead,
        ask: Callable[[Sequence[BranchSpec], Cascade], Mapping[str, Figures]],
    ) -> None:
        self._ask = ask
        super().__init__(backbone, timer, overhead=overhead)

    def _obtain(self, specs: Sequence[BranchSpec], cascade: Cascade) -> None:
        if self.lacks(specs, cascade):
            self.adopt(specs, cascade, self._ask(specs, cascade))


class _Told:
    """The figures of the backbone's blocks, told by another process; it measures nothing itself."""

    def __init__(self, empty_ms: float | None, figures: Mapping[str, Figures], *, stateful: bool) -> None:
        self._empty_ms, self._figures = empty_ms, figures
        self.stateful = stateful

    def overhead_ms(self) -> float | None:
        return self._empty_ms

    def blocks(self, blocks: Mapping[str, Block]) -> Mapping[str, Figures]:
        return {name: self._figures[name] for name in blocks}

    def forced(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, Figures]:
        raise NotImplementedError("networks are run by the process that leads the search")

    def mixed(self, networks: Mapping[str, TrialNetwork]) -> Mapping[str, MixedRun]:
        return {}
