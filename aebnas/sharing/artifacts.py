"""Files by name that all processes of a search share, through an artifact store of Optuna."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote, urlsplit

from optuna.artifacts.exceptions import ArtifactNotFound

from aebnas.errors import InputError, RunError, RunFailed
from aebnas.files import write_atomic
from aebnas.sharing.artifact_stores import PatientStore, open_folder
from aebnas.sharing.board import Board
from aebnas.sharing.bucket import open_bucket
from aebnas.sharing.claims import Claims
from aebnas.sharing.presence import Presence

logger = logging.getLogger(__name__)
_TITLE = b"aebnas sha256 "
_HEADER_BYTES = len(_TITLE) + 64 + 1
_CHUNK_BYTES = 1 << 20
_TRIES, _PAUSE_S = 5, 1.0


def open_artifacts(
    where: str, *, say: Callable[[str], None] = logger.warning, patience_s: float = 120.0
) -> PatientStore:
    """Open the artifact store at ``where``: a folder, ``file:///FOLDER`` or ``s3://BUCKET/PREFIX``.

    Options of a bucket follow a question mark: ``endpoint_url`` of a server that is not Amazon's, ``region_name``.
    Credentials come from the environment, as boto3 finds them.

    Args:
        say: Shows one line when an outage begins, and one when it is over.
        patience_s: How long each call waits for a store that is away, in seconds.

    Raises:
        InputError: the address is wrong, boto3 is not installed, or the store refuses. RunFailed: it stayed away.
    """
    scheme, colon, _ = where.partition("://")
    if colon and scheme == "s3":
        return open_bucket(where, say, patience_s)
    if colon and scheme != "file":
        raise InputError(
            f"search.artifacts names {scheme}://, which is not known: write a folder, file:///FOLDER or "
            "s3://BUCKET/PREFIX?endpoint_url=URL"
        )
    path = Path(unquote(urlsplit(where).path) if colon else where)
    return open_folder(path.expanduser().absolute(), say, patience_s)


class SharedFiles:
    """The files of one search in an artifact store, and who makes which of them.

    Each begins with a line that holds the SHA-256 of the rest. One that does not fit it counts as missing, and is
    removed, so that whoever needs it makes it again.

    Args:
        board: That of the study.
        prefix: What keeps the files of this search apart, such as the name of its study.
    """

    def __init__(self, store: PatientStore, board: Board, presence: Presence, prefix: str) -> None:
        self._store, self._prefix = store, quote(prefix, safe="")
        self._claims = Claims(board, presence, "files")

    def has(self, name: str) -> bool:
        """Tell whether there is a file ``name``, damaged or not."""
        return self._store.has(self._id(name))

    def pull(self, name: str, path: Path) -> bool:
        """Write the file ``name`` to ``path``, atomically; False: it is not there, or damaged and now removed.

        Raises:
            RunError: ``path`` cannot be written. RunFailed: its disk is full, or the store is away.
        """
        reason = ""
        for _ in range(_TRIES):
            try:
                return self._pull_once(name, path)
            except _BrokenOffError as error:
                reason = str(error)
            time.sleep(_PAUSE_S)
        raise RunFailed(
            f"the shared file {name} cannot be read ({reason}): once search.artifacts answers, the same command goes "
            "on where this one ended"
        )

    def _pull_once(self, name: str, path: Path) -> bool:
        try:
            with self._store.open_reader(self._id(name)) as reader:
                write_atomic(path, lambda file: _unpack(reader, file))
        except ArtifactNotFound:
            return False
        except _DamagedError:
            logger.warning("the shared file %s is damaged: it is removed and will be made again", name)
            self._remove(name)
            return False
        return True

    def push(self, name: str, path: Path) -> None:
        """Share the file at ``path`` as ``name``.

        Raises:
            RunError: ``path`` cannot be read. RunFailed: a disk is full, or the store is away.
        """
        try:
            with path.open("rb") as file:
                state = hashlib.sha256()
                for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
                    state.update(chunk)
                self._store.write(self._id(name), cast(BinaryIO, _Packed(_header(state), file)))
        except OSError as error:
            raise RunError(f"cannot share {path} ({error.strerror or error}): run the same search again") from error

    def claim(self, name: str) -> bool:
        """Say that this process makes ``name`` now; False: a living process elsewhere is at it."""
        return self._claims.claim(name)

    def release(self, name: str) -> None:
        """Take back the claim."""
        self._claims.release(name)

    def _id(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _remove(self, name: str) -> None:
        with contextlib.suppress(ArtifactNotFound):  # somebody was faster
            self._store.remove(self._id(name))


class _DamagedError(Exception):
    pass


class _BrokenOffError(Exception):
    pass


class _Packed:
    """A header and a file, to be read as one."""

    def __init__(self, header: bytes, file: BinaryIO) -> None:
        self._header, self._file, self._at = header, file, 0
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        head = self._header[self._at :] if size < 0 else self._header[self._at : self._at + size]
        data = head + self._file.read(size if size < 0 else size - len(head))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._header) + self._bytes()}
        self._at = starts[whence] + offset
        self._file.seek(max(0, self._at - len(self._header)))
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """Stay open: boto3 closes what it has sent, or could not send and will be asked to send again."""

    def _bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def _header(state: hashlib._Hash) -> bytes:
    return _TITLE + state.hexdigest().encode() + b"\n"


def _unpack(reader: BinaryIO, file: BinaryIO) -> None:
    """Copy what follows the header; raise if it does not fit the header, or if reading breaks off."""
    header, state = _read(reader, _HEADER_BYTES), hashlib.sha256()
    while chunk := _read(reader, _CHUNK_BYTES):
        state.update(chunk)
        file.write(chunk)
    if header != _header(state):
        raise _DamagedError


def _read(reader: BinaryIO, size: int) -> bytes:
    try:
        return reader.read(size)
    except Exception as error:  # each store has its own
        raise _BrokenOffError(str(error).partition("\n")[0]) from error
