"""The curves of trainings, written down as they go on: one file for each training, in a folder of theirs."""

from __future__ import annotations

import contextlib
import csv
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aebnas.branches.spec import BranchSpec
from aebnas.errors import MissingExtraError

logger = logging.getLogger(__name__)
LogKind = Literal["none", "csv", "tensorboard"]
# What the backbone's own classifier is called among the exits.
FINAL_EXIT = "final"
COLUMNS = (
    "training",
    "budget",
    "regime",
    "phase",
    "exit",
    "layers",
    "epoch",
    "epochs",
    "loss",
    "accuracy",
    "seconds",
    "stopped",
)


@dataclass(frozen=True)
class Epoch:
    """One epoch that is over.

    Args:
        phase: What is trained now, in regimes that train one thing after another.
        number: Counted from 1, in this phase.
        planned: Epochs of this phase.
        loss: Mean over the samples of what was minimised, penalties included.
        accuracies: On validation, 0 to 1, of every exit that is trained.
        seconds: It took, validation included; of what several branches share, each has its part.
        stopped: Whether training was ended here before its time.
    """

    phase: str
    number: int
    planned: int
    loss: float
    accuracies: tuple[float, ...]
    seconds: float
    stopped: bool


TellEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Subject:
    """What is trained.

    Args:
        name: Of the file; no two trainings of a run have the same.
        budget: ``backbone``, ``search``, ``final`` or ``compare``.
        regime: Of a comparison, the variant as it was written; empty for the backbone and static networks.
        exits: Where every exit is attached, in the order of the accuracies.
        layers: What each of them is made of.
    """

    name: str
    budget: str
    regime: str
    exits: tuple[str, ...]
    layers: tuple[str, ...]


def layers_text(branch: BranchSpec) -> str:
    """Return what a branch is made of, in one line."""
    return " > ".join(map(str, (*branch.layers, branch.head)))


class TrainingLog:
    """Curves that nobody keeps; the base of those that are kept."""

    @contextlib.contextmanager
    def training(self, subject: Subject, *, resumed: bool = False) -> Iterator[TellEpoch | None]:
        """Give what is told of every epoch of one training, for its length; None: nobody wants to know.

        Args:
            resumed: It goes on where it was stopped; else what an interrupted one has left is replaced.
        """
        yield None


class CsvLog(TrainingLog):
    """A CSV file per training in ``folder``, with a line per epoch and exit under ``COLUMNS``.

    Processes of a run never write to the same file, for no two of them train the same. What cannot be written is warned
    of once and done without: no search ends for its log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._writable = folder, True

    @contextlib.contextmanager
    def training(self, subject: Subject, *, resumed: bool = False) -> Iterator[TellEpoch | None]:
        path = self._folder / f"{subject.name}.csv"
        fresh = not (resumed and path.exists())

        def tell(epoch: Epoch) -> None:
            nonlocal fresh
            rows = [*([COLUMNS] if fresh else []), *_rows(subject, epoch)]
            self._write(path, "w" if fresh else "a", rows)
            fresh = False

        yield tell

    def _write(self, path: Path, mode: str, rows: list[tuple[Any, ...]]) -> None:
        if not self._writable:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open(mode, encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except OSError as error:
            self._writable = False
            logger.warning("training curves are not kept: cannot write %s (%s)", path, error.strerror or error)


class TensorBoardLog(TrainingLog):
    """Event files for TensorBoard, a folder per training below ``folder``.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard") from error
        self._folder, self._writer = folder, SummaryWriter

    @contextlib.contextmanager
    def training(self, subject: Subject, *, resumed: bool = False) -> Iterator[TellEpoch | None]:
        writer: Any = None
        step = 0

        def tell(epoch: Epoch) -> None:
            nonlocal writer, step
            if writer is None:
                # An interrupted training has left epochs that are made again.
                writer = self._writer(str(self._folder / subject.name), purge_step=epoch.number)
                step = epoch.number - 1
                writer.add_text("about", _about(subject), epoch.number)
            # Phases follow each other on one axis.
            step += 1
            writer.add_scalar("loss", epoch.loss, step)
            writer.add_scalar("seconds", epoch.seconds, step)
            for exit_, accuracy in zip(subject.exits, epoch.accuracies, strict=True):
                writer.add_scalar(f"accuracy/{exit_}", accuracy, step)
            if epoch.stopped:
                writer.add_text("stopped", f"after epoch {epoch.number} of {epoch.planned}", step)
            writer.flush()

        try:
            yield tell
        finally:
            if writer is not None:
                writer.close()


def open_log(kind: LogKind, folder: Path) -> TrainingLog:
    """Return what keeps the curves of a run in its ``folder``: below ``training`` or below ``tensorboard``.

    Raises:
        MissingExtraError: ``tensorboard`` is asked for and not installed.
    """
    if kind == "csv":
        return CsvLog(folder / "training")
    return TensorBoardLog(folder / "tensorboard") if kind == "tensorboard" else TrainingLog()


def _rows(subject: Subject, epoch: Epoch) -> list[tuple[Any, ...]]:
    return [
        (
            subject.name,
            subject.budget,
            subject.regime,
            epoch.phase,
            exit_,
            layers,
            epoch.number,
            epoch.planned,
            f"{epoch.loss:.6g}",
            f"{accuracy:.6g}",
            f"{epoch.seconds:.4g}",
            int(epoch.stopped),
        )
        for exit_, layers, accuracy in zip(subject.exits, subject.layers, epoch.accuracies, strict=True)
    ]


def _about(subject: Subject) -> str:
    parts = [f"{exit_}: {layers}" for exit_, layers in zip(subject.exits, subject.layers, strict=True)]
    return "; ".join(part for part in (subject.budget, subject.regime, *parts) if part)
