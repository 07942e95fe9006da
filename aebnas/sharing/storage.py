"""The storage of a study, by its URL: a file, a database server, or Optuna's gRPC proxy in front of one."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import exc
from sqlalchemy.engine import URL

from aebnas.errors import InputError, MissingExtraError
from aebnas.sharing.patience import Patience
from aebnas.sharing.patient_storage import PatientStorage
from aebnas.sharing.proxy import open_proxy
from aebnas.sharing.storage_errors import file_for_now, proxy_for_now, server_for_now, storage_errors
from aebnas.sharing.storage_url import SERVERS, database_of, name_of, proxy_of, scheme_of

_BUSY_S = 60.0
_TRIES, _PAUSE_S = 5, 0.5


def open_storage(url: str, *, say: Callable[[str], None], patience_s: float = 120.0) -> BaseStorage:
    """Open the storage at ``url``, with its tables made, so that it waits for a server that is away.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://``, ``mysql://`` or ``grpc://HOST:PORT``.
        say: Shows one line when an outage begins, and one when it is over.
        patience_s: How long each call waits for the server, in seconds.

    Raises:
        InputError: the URL is wrong, its driver is not installed, or the server refuses. RunError: the file cannot be
            used. RunFailed: the server stayed away, or a disk is full. No message holds a password.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or every study and trial is a line
    what = name_of(url)
    if scheme_of(url) == "grpc":
        patience = Patience(what, proxy_for_now, say=say, seconds=patience_s)
        proxy = PatientStorage(open_proxy(*proxy_of(url)), patience)
        with storage_errors(url):
            proxy.get_all_studies()  # a wrong address is told now
        return proxy
    parsed = database_of(url)
    is_file = parsed.get_backend_name() == "sqlite"
    patience = Patience(what, file_for_now if is_file else server_for_now, say=say, seconds=patience_s)
    with storage_errors(url):
        inner = patience(lambda again: _open_file(parsed) if is_file else _open_server(parsed))
    return PatientStorage(optuna.storages.get_storage(inner), patience)


class _FileStorage(RDBStorage):
    """SQLite with a write-ahead log: every gene is a commit of its own, which this makes cheap."""

    def __init__(self, url: str) -> None:
        super().__init__(url, engine_kwargs={"connect_args": {"timeout": _BUSY_S}})

        @sqlalchemy.event.listens_for(self.engine, "connect")
        def configure(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        self.engine.dispose()  # what is open already was not configured

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        # A server locks the row it reads, so that no two processes take the same queued trial. SQLite has no such
        # reading: the file is locked from the beginning.
        session = self.scoped_session()
        try:
            session.execute(sqlalchemy.text("BEGIN IMMEDIATE"))
        except exc.SQLAlchemyError:
            session.close()
            raise
        return super().set_trial_state_values(trial_id, state, values)


def _open_file(url: URL) -> RDBStorage:
    return _made(lambda: _FileStorage(_text(url)))


def _open_server(url: URL) -> RDBStorage:
    logging.getLogger(RDBStorage.__module__).addFilter(_not_an_outage)
    server, driver = SERVERS[url.get_backend_name()], url.get_driver_name()
    options = server.connect if driver == server.driver else {}
    connect = {key: value for key, value in options.items() if key not in url.query}
    try:
        return _made(lambda: RDBStorage(_text(url), engine_kwargs={"pool_pre_ping": True, "connect_args": connect}))
    except ImportError as error:
        if driver == server.driver:
            raise MissingExtraError(driver, server.extra) from error
        raise InputError(
            f"search.storage asks for the driver {driver}, which is not installed: leave it out to use {server.driver}"
        ) from error


def _not_an_outage(record: logging.LogRecord) -> bool:
    # Optuna shows its query when a connection breaks, and tries another; that the server is away is told by Patience.
    return not str(record.msg).startswith("Caught an error from sqlalchemy")


def _text(url: URL) -> str:
    # Optuna takes single braces for a template of its own.
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _made(make: Callable[[], RDBStorage]) -> RDBStorage:
    """Return what ``make`` opens, tables made; of several processes that make them at once, all but one fail first."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return make()
        except (exc.IntegrityError, exc.ProgrammingError, exc.OperationalError, AssertionError) as error:
            made_by_another = isinstance(error, (exc.IntegrityError, AssertionError)) or "already exists" in str(error)
            if not (made_by_another and tries_left):
                raise
        except RuntimeError as error:  # of another version of Optuna; its text says how to change that
            raise InputError(f"search.storage cannot be used with this version of Optuna: {error}") from error
        time.sleep(_PAUSE_S)
    raise AssertionError("the last try returns or raises")
