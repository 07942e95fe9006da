"""What a run keeps by key, each once: trained weights and evaluations, checked by sum and shared between machines."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch import Tensor, nn

from aebnas.claims import Hold, try_hold
from aebnas.errors import RunError
from aebnas.files import read_json, write_atomic, write_json
from aebnas.sealed import NOT_WHOLE, DamagedFile, is_whole, put_aside, read_tensors, sum_of, write_tensors

__all__ = ["Claim", "DamagedFile", "RecordStore", "Remote", "Store", "WeightStore", "load_state", "state_of"]

logger = logging.getLogger(__name__)

_SUM = "sha256"


class Remote(Protocol):
    """Where machines without a common disk share files, by names such as ``branches/KEY.pt``."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file ``name``."""

    def pull(self, name: str, path: Path) -> bool:
        """Write the file ``name`` to ``path``, atomically; False: it is not there, or damaged and now removed."""

    def push(self, name: str, path: Path) -> None:
        """Share the file at ``path`` as ``name``."""

    def claim(self, name: str) -> bool:
        """Say that this process makes ``name`` now; False: a living process elsewhere is at it."""

    def release(self, name: str) -> None:
        """Take back the claim."""


class Claim:
    """The right to make one record; as a context manager it is given back at the end of the block."""

    def __init__(self, hold: Hold, elsewhere: Callable[[], None]) -> None:
        self._hold, self._elsewhere, self._held = hold, elsewhere, True

    def release(self) -> None:
        """Give the right back; a second time does nothing."""
        if self._held:
            self._held = False
            with self._hold:
                self._elsewhere()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()


class Store:
    """Files of one folder by key, shared with other machines where there is a remote.

    Args:
        suffix: Of every file.
        remote: Where files are looked for that are not here, and sent to.
    """

    def __init__(self, folder: Path, suffix: str, remote: Remote | None = None) -> None:
        self._folder, self._suffix, self._remote = folder, suffix, remote
        self._elsewhere: set[str] = set()

    def path(self, key: str) -> Path:
        """Return where the record of ``key`` is kept."""
        return self._folder / f"{key}{self._suffix}"

    def has(self, key: str) -> bool:
        """Tell whether there is a record of ``key``: here, or pulled here now. Then others can have it as well."""
        return self._is_here(key) or (self._pull(key) and self._is_here(key))

    def keys(self) -> list[str]:
        """Return the keys of the records that are here, sorted."""
        # Names that begin with a dot are files that are being written.
        found = self._folder.glob(f"[!.]*{self._suffix}")
        return sorted(path.name.removesuffix(self._suffix) for path in found)

    def try_claim(self, key: str) -> Claim | None:
        """Claim to make the record of ``key``; None: another process, here or elsewhere, is at it.

        A claim ends with its process, however that dies. The record may have come to be just before: ask :meth:`has`
        once more.

        Raises:
            RunError: the folder cannot be written. RunFailed: the disk is full.
        """
        hold = try_hold(self._folder, f"{key}{self._suffix}")
        if hold is None:
            return None
        remote, name = self._remote, self._name(key)
        if remote is None:
            return Claim(hold, lambda: None)
        with contextlib.ExitStack() as stack:
            stack.enter_context(hold)
            if not remote.claim(name):
                return None
            stack.pop_all()
        return Claim(hold, lambda: remote.release(name))

    def _name(self, key: str) -> str:
        return f"{self._folder.name}/{key}{self._suffix}"

    def _is_here(self, key: str) -> bool:
        if not self._is_whole(key):
            return False
        # A process that was killed after writing a file may not have sent it.
        if self._remote is not None and key not in self._elsewhere:
            if self._remote.has(self._name(key)):
                self._elsewhere.add(key)
            else:
                self._push(key)
        return True

    def _is_whole(self, key: str) -> bool:
        return self.path(key).exists()

    def _pull(self, key: str) -> bool:
        if self._remote is None or not self._remote.pull(self._name(key), self.path(key)):
            return False
        self._elsewhere.add(key)
        return True

    def _push(self, key: str) -> None:
        if self._remote is not None:
            self._remote.push(self._name(key), self.path(key))
            self._elsewhere.add(key)


class WeightStore(Store):
    """Dictionaries of tensors by key, each in one file of ``folder`` that ends in its SHA-256.

    A record that is damaged is put aside when it is asked for, and counts as missing.

    Args:
        remote: Where records are looked for that are not here, and sent to.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        super().__init__(folder, ".pt", remote)
        self._known: dict[str, tuple[int, int, int]] = {}

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep ``record`` (tensors, numbers, texts, lists and dictionaries of them).

        Raises:
            RunError: the folder cannot be written. RunFailed: the disk is full. What was there before is untouched.
        """
        write_atomic(self.path(key), lambda file: write_tensors(file, record))
        self._push(key)

    def get(self, key: str) -> dict[str, Any]:
        """Return the record of ``key``, pulled here if it is not here or damaged.

        Raises:
            RunError: it cannot be read. DamagedFile: it was damaged, and is now ``KEY.pt.damaged``; or it is missing,
                as where another process has just found it damaged. The message names the file.
        """
        path = self.path(key)
        if not path.exists() and not self._pull(key):
            raise _missing(path)
        try:
            return read_tensors(path)
        except FileNotFoundError:  # another process has just put it aside
            raise _missing(path) from None
        except DamagedFile as damage:
            if not self._pull(key):
                raise
            logger.warning("%s; another machine had it whole", damage)
        return read_tensors(path)

    def _is_whole(self, key: str) -> bool:
        path = self.path(key)
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                # Asked again and again, a file is summed up once.
                found = (about.st_ino, about.st_mtime_ns, about.st_size)
                if self._known.get(key) == found:
                    return True
                if not is_whole(file):
                    logger.warning("%s", put_aside(path, NOT_WHOLE, file))
                    return False
        except FileNotFoundError:
            return False
        except OSError:  # reading it tells more
            return True
        self._known[key] = found
        return True


class RecordStore(Store):
    """Dictionaries by key, each in one JSON file of ``folder`` that holds its own SHA-256.

    Args:
        remote: Where records are looked for that are not here, and sent to.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        super().__init__(folder, ".json", remote)

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep ``record``, which JSON can hold.

        Raises:
            RunError: the folder cannot be written. RunFailed: the disk is full. What was there before is untouched.
        """
        write_json(self.path(key), {**record, _SUM: sum_of(record)})
        self._push(key)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of ``key``; None if there is none, or it is damaged or altered: it is then put aside."""
        if not self.has(key):
            return None
        try:
            return self._read(key)
        except DamagedFile as damage:
            logger.warning("%s", damage)
        if not self._pull(key):
            return None
        with contextlib.suppress(DamagedFile):
            return self._read(key)
        return None

    def _read(self, key: str) -> dict[str, Any] | None:
        path = self.path(key)
        try:
            record = read_json(path)
        except RunError as error:
            if not path.exists():  # another process has put it aside
                return None
            raise put_aside(path, str(error.__cause__)) from None
        if not isinstance(record, dict):
            raise put_aside(path, "no dictionary")
        # Records of older runs have no sum.
        if record.pop(_SUM, None) not in (None, sum_of(record)):
            raise put_aside(path, "its checksum differs")
        return record


def load_state(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load ``state`` into ``module``; a record that does not fit raises RunError naming ``path``."""
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise RunError(f"{path} does not fit the network ({first}): delete it and run the same search again") from None


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights of ``module``, detached, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _missing(path: Path) -> DamagedFile:
    return DamagedFile(f"{path} is missing: run the same search again, it makes what is not there")
