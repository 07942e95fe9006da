"""The Optuna study of a run: where it is, its trials, and how they begin and end."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.experiment_search import SearchSettings
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import TRADE_OFF
from aebnas.sharing.storage import open_storage
from aebnas.sharing.storage_errors import storage_errors
from aebnas.sharing.storage_url import database_of, scheme_of, study_name
from aebnas.spaces.genome import Genome

HYPERVOLUME, SPEC, FAILURE = "hypervolume", "spec", "failure"
# Of a trial whose network was put together from branches that are trained already.
RECOMBINED = "recombined"
# Trade-offs of the first trials: one in the middle for each known shape.
_START_TRADE_OFF = 0.5
# Gives the URL of a storage again where a run folder keeps it without its password.
STORAGE_VARIABLE = "AEBNAS_STORAGE"
_SECRETS = ("password", "passwd", "sslpassword")
# URLs with passwords that this process was given, by what its run folders keep of them.
_given: dict[str, str] = {}


@dataclass(frozen=True)
class Address:
    """Where the processes of one search meet.

    Args:
        url: Of the storage, with its password if it has one.
        study: Its name there.
        artifacts: Where files are shared that are not on a common disk; None: there is a common disk.
    """

    url: str
    study: str
    artifacts: str | None = None

    @property
    def file(self) -> Path | None:
        """The file that the storage is, if it is one."""
        return Path(str(database_of(self.url).database)) if scheme_of(self.url) == "sqlite" else None

    @classmethod
    def of(cls, folder: RunFolder, experiment: Experiment, url: str | None = None) -> Address:
        """Return the address of the search in ``folder``.

        Args:
            url: That of ``search.storage`` with its password; by default, ``AEBNAS_STORAGE`` if it is the same.
        """
        settings = experiment.search
        given = url or with_password(settings.storage)
        name = study_name(settings.storage, settings.study, experiment.name)
        return cls(given or f"sqlite:///{folder.study_file.resolve()}", name, settings.artifacts)


def without_password(url: str) -> str:
    """Return the URL of a storage as it may be kept on a disk: no password, and a file by its absolute path.

    Raises:
        InputError: it is no URL of a storage.
    """
    if scheme_of(url) == "grpc":
        return url
    parsed = database_of(url)
    if scheme_of(url) == "sqlite":
        return f"sqlite:///{Path(str(parsed.database)).absolute()}"
    # As it was given, without the driver that was filled in.
    parsed = sqlalchemy.make_url(url).difference_update_query(_SECRETS)._replace(password=None)
    return parsed.render_as_string(hide_password=False)


def remember_password(url: str) -> str:
    """Keep the password of ``url`` for the length of this process; return the URL without it."""
    kept = without_password(url)
    _given[kept] = url
    return kept


def with_password(url: str | None) -> str | None:
    """Return ``url`` with the password that this process was given, or ``AEBNAS_STORAGE`` has; else ``url``."""
    if url is None:
        return None
    given = os.environ.get(STORAGE_VARIABLE)
    return given if given and without_password(given) == url else _given.get(url, url)


def open_study(
    storage: BaseStorage, name: str, settings: SearchSettings, sampler: BaseSampler | None = None
) -> optuna.Study:
    """Return the study of a search, made if it is not there, with names for what its trials are valued by."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    directions = [up if objective == "accuracy" else down for objective in settings.objectives]
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, sampler=sampler, load_if_exists=True
    )
    if study.metric_names is None:
        # For those who look on, such as Optuna's dashboard.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(settings.objectives))
    return study


def read_trials(folder: RunFolder, experiment: Experiment) -> list[FrozenTrial]:
    """Return the trials of a run that came to an end, in their order.

    Raises:
        RunError: the study is missing or damaged. RunFailed: the storage does not answer.
    """
    address = Address.of(folder, experiment)
    if address.file is not None and not address.file.exists():
        raise RunError(f"{address.file} is missing: run the same search again; finished evaluations are not made again")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with storage_errors(address.url):
        storage = open_storage(address.url, say=lambda _: None, patience_s=20.0)
        try:
            study = optuna.load_study(study_name=address.study, storage=storage)
        except KeyError:
            raise RunError(f"there is no study {address.study} in search.storage: was it deleted?") from None
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))


def queue(study: optuna.Study, starts: Iterable[Mapping[str, Any]]) -> None:
    """Queue the networks to begin with, those that are not there yet."""
    # Also in a study that goes on: its first process may have been killed before it had queued all.
    for genes in starts:
        study.enqueue_trial({**genes, TRADE_OFF: _START_TRADE_OFF}, skip_if_exists=True)


def sample(trial: Trial, genome: Genome) -> tuple[dict[str, str], float]:
    """Sample every gene, and the trade-off, whether it is used or not."""
    genes = {name: str(trial.suggest_categorical(name, choices)) for name, choices in genome.genes.items()}
    return genes, trial.suggest_float(TRADE_OFF, 0.0, 1.0)


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were begun and have not come to an end."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def has_ended(trial: FrozenTrial) -> bool:
    """Tell whether a trial came to its end; one that was given back is run again, whatever it had written down."""
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and FAILURE in trial.user_attrs)


def finished(study: optuna.Study) -> int:
    """Return how many trials have come to an end, well or with a failed candidate; lost ones are left out."""
    return sum(map(has_ended, study.get_trials(deepcopy=False)))
