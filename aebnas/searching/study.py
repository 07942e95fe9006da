"""The Optuna study of a run: created once, gone on with after any interruption."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from aebnas.errors import RunError, RunFailed
from aebnas.experiment_search import SearchSettings
from aebnas.run_folder import RunFolder
from aebnas.searching.choice import TRADE_OFF
from aebnas.spaces.genome import Genome, starting_points

logger = logging.getLogger(__name__)
STUDY = "aebnas"
HYPERVOLUME, SPEC, FAILURE = "hypervolume", "spec", "failure"
# Trade-offs of the first trials: one in the middle for each known shape.
_START_TRADE_OFF = 0.5


def make_sampler(settings: SearchSettings, seed: int) -> BaseSampler:
    """Return the sampler that the settings name; all but random take a trial's constraints into account."""
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    kind = optuna.samplers.NSGAIISampler if settings.sampler == "nsga2" else optuna.samplers.NSGAIIISampler
    return kind(population_size=settings.population, seed=seed)


@contextlib.contextmanager
def open_study(folder: RunFolder, settings: SearchSettings, seed: int) -> Iterator[optuna.Study]:
    """Open the study of a run, with every database error told as one that names the file.

    The sampler's seed moves on with the number of trials, so that a search that goes on does not repeat itself.

    Raises:
        RunError: the database is damaged or cannot be written. RunFailed: the disk is full.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    directions = [up if name == "accuracy" else down for name in settings.objectives]
    try:
        study = optuna.create_study(
            storage=_storage(folder),
            study_name=STUDY,
            directions=directions,
            load_if_exists=True,
        )
        done = len(study.get_trials(deepcopy=False))
        study.sampler = make_sampler(settings, seed + done)
        yield study
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        reason = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        if "full" in reason or "I/O" in reason:
            raise RunFailed(f"cannot write {folder.study_file} ({reason}): free some space, then run again") from error
        raise RunError(
            f"{folder.study_file} cannot be used ({reason}): if it is damaged delete this one file; finished "
            "evaluations are kept beside it and are not made again"
        ) from error


def _storage(folder: RunFolder) -> optuna.storages.RDBStorage:
    """Open the database with a write-ahead log: every gene is a commit of its own, which this makes cheap."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.study_file.resolve()}")

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # what is open already was not configured
    return storage


def begin(study: optuna.Study, genome: Genome) -> None:
    """Queue the known shapes in a new study; give back the trials that a killed process left unfinished."""
    # Also in a study that goes on: its first process may have been killed before it had queued all.
    for genes in starting_points(genome):
        study.enqueue_trial({**genes, TRADE_OFF: _START_TRADE_OFF}, skip_if_exists=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # The folder is locked by this process, so nobody else can be running it.
        study.tell(trial.number, state=TrialState.FAIL)
        # A queued trial that was killed before it was sampled has its genes in the system attributes only.
        study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})
        logger.info("trial %d was lost and runs again", trial.number)


def sample(trial: Trial, genome: Genome) -> tuple[dict[str, str], float]:
    """Sample every gene, and the trade-off, whether it is used or not."""
    genes = {name: str(trial.suggest_categorical(name, choices)) for name, choices in genome.genes.items()}
    return genes, trial.suggest_float(TRADE_OFF, 0.0, 1.0)


def running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were begun and have not come to an end."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def finished(study: optuna.Study) -> int:
    """Return how many trials have come to an end, well or with a failed candidate; lost ones are left out."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    return sum(1 for trial in trials if trial.state == TrialState.COMPLETE or FAILURE in trial.user_attrs)
