"""What the processes of a search share: its study, a board, who is there, and files."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from aebnas.errors import RunError
from aebnas.experiment_search import SearchSettings
from aebnas.run_folder import RunFolder
from aebnas.searching.invitation import Invitation
from aebnas.searching.study import Address, open_study
from aebnas.sharing.artifacts import SharedFiles, open_artifacts
from aebnas.sharing.board import Board
from aebnas.sharing.claims import Claims
from aebnas.sharing.lost import Returns
from aebnas.sharing.presence import Presence, at_work_elsewhere
from aebnas.sharing.storage import open_storage
from aebnas.sharing.storage_errors import storage_errors

_LEADER, _FILES = "leader", "files"
# How often a process says that it is alive, and for how long one of another machine may say nothing.
INTERVAL_S, GRACE_S = 5.0, 60.0
BACKBONE = "backbone.pt"


class NoSearch(RunError):
    """There is no search to be joined."""


@dataclass(frozen=True)
class Meeting:
    """One process among those of a search.

    Args:
        folder: The run folder of this process, whose records are shared with other machines if files are.
        files: What shares them; None: all processes have one folder.
    """

    address: Address
    storage: BaseStorage
    board: Board
    presence: Presence
    returns: Returns
    folder: RunFolder
    files: SharedFiles | None

    def study(self, settings: SearchSettings, sampler: BaseSampler | None = None) -> optuna.Study:
        """Return the study, made if it is not there."""
        return open_study(self.storage, self.address.study, settings, sampler)

    def lead(self) -> bool:
        """Say that this process leads the search; False: another one that is alive does."""
        if not Claims(self.board, self.presence, _LEADER).claim(_LEADER):
            return False
        self.board.put(_LEADER, self.presence.worker)
        return True

    def take_over(self, say: Callable[[str], None]) -> bool:
        """Lead, once it is certain that a leader which may have died did; False: it is alive."""
        if self.lead():
            return True
        say(f"waiting to hear whether {self.leader()}, which leads this search, is alive")
        end = time.monotonic() + self.presence.grace_s + 3 * INTERVAL_S
        while time.monotonic() < end:
            time.sleep(INTERVAL_S)
            if self.lead():
                return True
        return False

    def leader(self) -> str | None:
        """Return the id of the worker that leads, or did; None: there was none yet."""
        found: str | None = self.board.get(_LEADER)
        return found

    def led(self) -> bool:
        """Tell whether a process that is alive leads."""
        leader = self.leader()
        return leader is not None and self.presence.alive(leader)

    def invitation(self) -> Invitation | None:
        """Return what the search is that one may join here, None: none is prepared yet."""
        return Invitation.read(self.board)

    def alone_here(self) -> bool:
        """Tell whether no other process of this folder is alive."""
        return not any(map(self.presence.alive, self._others_here()))

    def bury(self) -> None:
        """Take away what is left of processes of this folder that died."""
        for worker in self._others_here():
            if not self.presence.alive(worker):
                self.presence.forget(worker)

    def _others_here(self) -> list[str]:
        locks = (self.folder.path / "workers").glob("*.lock")
        return [path.stem for path in locks if path.stem != self.presence.worker]

    def fetch_backbone(self) -> None:
        """Take the backbone that the search began with, if it is not here and files are shared."""
        if self.files is not None and not self.folder.backbone_file.exists():
            self.files.pull(BACKBONE, self.folder.backbone_file)

    def share_backbone(self) -> None:
        """Give the trained backbone to other machines."""
        if self.files is not None and not self.files.has(BACKBONE):
            self.files.push(BACKBONE, self.folder.backbone_file)


@contextlib.contextmanager
def meet(folder: RunFolder, address: Address, say: Callable[[str], None], *, first: bool) -> Iterator[Meeting]:
    """Go where the processes of a search meet, and be seen there, for the length of the block.

    Args:
        first: Come first, if need be; else there must be a search already.

    Raises:
        InputError: the storage cannot be used. NoSearch: there is none. RunFailed: the storage is away.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage_errors(address.url))
        if address.file is not None:
            _check_one_machine(folder, address.file)
        # To be asked, a file would be made.
        there = first or address.file is None or address.file.exists()
        storage = open_storage(address.url, say=say) if there else None
        if storage is None or not (first or Board.exists(storage, address.study)):
            raise NoSearch(
                f"there is no search {address.study} in that storage: begin it with `aebnas search`, or name another "
                "with --study"
            )
        stack.callback(storage.remove_session)
        board = Board(storage, address.study)
        presence = Presence(board, folder.path, interval_s=INTERVAL_S, grace_s=GRACE_S)
        stack.enter_context(presence)
        files = None
        if address.artifacts is not None:
            files = SharedFiles(
                open_artifacts(address.artifacts, say=say), board, presence, _files_of(board, address.study, first)
            )
        yield Meeting(
            address,
            storage,
            board,
            presence,
            Returns(board, presence),
            folder if files is None else RunFolder(folder.path, files),
            files,
        )


def _check_one_machine(folder: RunFolder, study: Path) -> None:
    other = at_work_elsewhere(folder.path)
    if other is not None:
        raise RunError(
            f"{other}, of another machine, is at work in {folder.path}, and machines that share the file {study} would "
            "damage it: begin the search with --storage postgresql://..., then join it"
        )


def _files_of(board: Board, study: str, first: bool) -> str:
    """Return what sets the files of this search apart from those of others that had the same name."""
    if first and board.get(_FILES) is None:
        board.put(_FILES, secrets.token_hex(4))
    token = board.get(_FILES)
    if token is None:  # of two that choose one, each could keep to its own
        raise NoSearch(f"the search {study} shares no files, or has not begun: give `aebnas search` --artifacts too")
    return f"{study}-{token}"
