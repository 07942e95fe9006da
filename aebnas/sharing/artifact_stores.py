"""Artifact stores that wait for a server that is away, and a folder in which no file is half."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts._protocol import ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from aebnas.errors import AebnasError, InputError
from aebnas.files import write_atomic
from aebnas.sharing.patience import Patience

T = TypeVar("T")
# A network disk whose server is away for now.
_FOR_NOW = (errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)


class PatientStore:
    """Hands every call on to ``store``, with patience.

    Optuna's Backoff will not do: it reports every attempt as an error, repeats what cannot pass, and repeats removals
    that have succeeded, on S3 for over a minute.

    Args:
        refusals: The errors of the store; those that will not pass are told.
        prefix: Of all names in it.
    """

    def __init__(
        self,
        store: ArtifactStore,
        what: str,
        patience: Patience,
        refusals: tuple[type[Exception], ...],
        prefix: str = "",
    ) -> None:
        self._store, self._what, self._patience = store, what, patience
        self._refusals, self._prefix = refusals, prefix

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self.patiently(lambda again: self._store.open_reader(self._prefix + artifact_id))

    def has(self, artifact_id: str) -> bool:
        """Tell whether there is an artifact of this name."""
        try:
            self.open_reader(artifact_id).close()
        except ArtifactNotFound:
            return False
        return True

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        def attempt(again: bool) -> None:
            content_body.seek(0)
            self._store.write(self._prefix + artifact_id, content_body)

        self.patiently(attempt)

    def remove(self, artifact_id: str) -> None:
        def attempt(again: bool) -> None:
            try:
                self._store.remove(self._prefix + artifact_id)
            except ArtifactNotFound:
                if not again:
                    raise

        self.patiently(attempt)

    def patiently(self, attempt: Callable[[bool], T]) -> T:
        """Return what ``attempt`` does, as :class:`Patience` repeats it.

        Raises:
            InputError: the store refuses. RunFailed: it stayed away.
        """
        try:
            return self._patience(attempt)
        except self._refusals as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise InputError(
                f"{self._what} cannot be used ({reason}): see to search.artifacts, and to the rights to list, read, "
                "write and delete there"
            ) from error


def open_folder(path: Path, say: Callable[[str], None], patience_s: float) -> PatientStore:
    """Open the folder ``path``, made if it is missing; InputError: it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"search.artifacts names {path}, which cannot be made ({error.strerror}): choose another folder"
        ) from error
    what = f"the folder of artifacts {path}"
    return PatientStore(_Folder(path), what, Patience(what, _for_now, say=say, seconds=patience_s), (OSError,))


class _Folder(FileSystemArtifactStore):
    """A folder in which no reader finds half of a file."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        write_atomic(self._get_filepath(artifact_id), lambda file: shutil.copyfileobj(content_body, file))


def _for_now(error: Exception) -> str | None:
    cause = error.__cause__ if isinstance(error, AebnasError) else error
    return cause.strerror if isinstance(cause, OSError) and cause.errno in _FOR_NOW else None
