"""Optuna's dashboard on the study of a run, to look at while it is searched and afterwards."""

from __future__ import annotations

import copy
import errno
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.study._frozen import FrozenStudy

from aebnas.errors import InputError, MissingExtraError, RunError
from aebnas.experiment import Experiment
from aebnas.run_folder import RunFolder
from aebnas.searching.study import Address
from aebnas.sharing.storage import open_storage
from aebnas.sharing.storage_errors import storage_errors

_METRIC_NAMES = "study:metric_names"
_READING = ("GET", "HEAD")
_PATIENCE_S = 20.0
# An application of WSGI: environment, start of the response -> its pieces.
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Dashboard:
    """A web server with the dashboard.

    Args:
        url: The page of the study.
    """

    server: WSGIServer
    url: str

    def serve(self) -> None:
        """Answer requests until the process is interrupted."""
        try:
            self.server.serve_forever()
        finally:
            self.server.server_close()


def open_dashboard(
    folder: RunFolder, experiment: Experiment, *, host: str, port: int, say: Callable[[str], None]
) -> Dashboard:
    """Open the dashboard of a run at ``host`` and ``port``; 0 takes a port that is free.

    It only reads: requests that would change the study are refused, and a search that goes on is not disturbed.

    Args:
        say: Shows one line where the storage is away for a while.

    Raises:
        MissingExtraError: optuna-dashboard is not installed. RunError: the run has no study yet. InputError: the port
            cannot be had, or the storage refuses. RunFailed: the storage stayed away.
    """
    try:
        from optuna_dashboard._app import create_app
    except ImportError as error:
        raise MissingExtraError("optuna-dashboard", "dashboard") from error
    address = Address.of(folder, experiment)
    if address.file is not None and not address.file.exists():
        raise RunError(f"{address.file} is missing: the search has not begun its trials yet, or the file was deleted")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors(address.url):
        storage = open_storage(address.url, say=say, patience_s=_PATIENCE_S)
        try:
            study_id = storage.get_study_id_from_name(address.study)
        except KeyError:
            raise RunError(
                f"there is no study {address.study} in search.storage: wait until the search has begun its trials"
            ) from None
    shown = _OneStudy(storage, study_id, experiment.search.objectives)
    application = _reading_only(create_app(shown))
    try:
        server = make_server(host, port, application, server_class=_Server, handler_class=_Handler)
    except (OSError, OverflowError) as error:
        reason = "is taken" if getattr(error, "errno", None) == errno.EADDRINUSE else f"cannot be used ({error})"
        raise InputError(f"port {port} of {host} {reason}: choose another with --port, 0 takes a free one") from error
    at = f"[{host}]" if ":" in host else host
    return Dashboard(server, f"http://{at}:{server.server_port}/dashboard/studies/{study_id}")


class _OneStudy:
    """A storage of which one study is seen, with names for its objectives also where older runs gave them none."""

    def __init__(self, inner: Any, study_id: int, objectives: Iterable[str]) -> None:
        self._inner, self._study_id, self._objectives = inner, study_id, list(objectives)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the study."""
        found = [copy.copy(study) for study in self._inner.get_all_studies() if study._study_id == self._study_id]
        for study in found:
            study.system_attrs = {_METRIC_NAMES: self._objectives, **study.system_attrs}
        return found


def _reading_only(application: Application) -> Application:
    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] in _READING:
            return application(environment, start_response)
        start_response("405 Method Not Allowed", [("Content-Type", "application/json"), ("Allow", ", ".join(_READING))])
        return [b'{"reason": "this dashboard only reads: nothing of the search can be changed here"}']

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    # A browser keeps connections open that nobody waits for.
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        logging.getLogger(__name__).info(format, *args)
