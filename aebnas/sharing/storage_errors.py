"""What errors of a storage mean: wait, or tell the user."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

from aebnas.errors import InputError, RunError, RunFailed
from aebnas.sharing.storage_url import name_of, scheme_of

# What a server says about a wrong URL, or about rights: waiting does not help.
_WILL_NOT_PASS = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "Access denied",
    "Unknown database",
)
# Over the proxy, a server whose own database is away answers UNKNOWN.
_GRPC_FOR_NOW = (
    "UNAVAILABLE",
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "CANCELLED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
)


@contextlib.contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Tell errors of the storage that will not pass as ours, which name it and the fix.

    Raises:
        RunError: the file is damaged or cannot be written. InputError: the server refuses. RunFailed: a disk is full.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(_cause(error), (exc.SQLAlchemyError, sqlite3.Error, StorageInternalError, *_rpc_errors())):
            raise
        what, reason = name_of(url), _reason(error)
        if "full" in reason or "I/O" in reason or "No space left" in reason:
            raise RunFailed(f"cannot write {what} ({reason}): free some space, then run again") from error
        if scheme_of(url) == "sqlite":
            raise RunError(
                f"{what} cannot be used ({reason}): if it is damaged delete this one file; finished evaluations are "
                "kept beside it and are not made again"
            ) from error
        raise InputError(
            f"{what} cannot be used ({reason}): see to search.storage, to this user's rights, and to the password, "
            "which is kept nowhere: AEBNAS_STORAGE gives it again"
        ) from error


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ or error if isinstance(error, StorageInternalError) else error


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    text = cause.details() if isinstance(cause, _rpc_errors()) else getattr(cause, "orig", None)
    lines = str(text or cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def file_for_now(error: Exception) -> str | None:
    """Return why a file of SQLite cannot be used for now; None: the error will not pass."""
    reason = _reason(error)
    passes = isinstance(_cause(error), exc.OperationalError) and ("locked" in reason or "busy" in reason)
    return reason if passes else None


def server_for_now(error: Exception) -> str | None:
    """Return why a database server cannot be used for now; None: the error will not pass."""
    cause, reason = _cause(error), _reason(error)
    if isinstance(cause, exc.PendingRollbackError):  # Optuna goes on reading after the connection broke
        return "the connection broke"
    passes = isinstance(cause, (exc.OperationalError, exc.InterfaceError, exc.TimeoutError))
    return reason if passes and not any(text in reason for text in _WILL_NOT_PASS) else None


def proxy_for_now(error: Exception) -> str | None:
    """Return why Optuna's proxy cannot be used for now; None: the error will not pass."""
    if isinstance(error, _rpc_errors()) and error.code().name in _GRPC_FOR_NOW:
        return _reason(error)
    return None


def _rpc_errors() -> tuple[Any, ...]:
    # No error can be grpc's before it was imported.
    grpc = sys.modules.get("grpc")
    return (grpc.RpcError,) if grpc else ()
