"""Searches and workers in processes of their own, to be watched and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import optuna
from optuna.trial import TrialState

from aebnas.devices.profile import load_profile
from aebnas.run_folder import RunFolder
from aebnas.searching.search import search
from aebnas.searching.study import FAILURE, Address, open_study
from aebnas.sharing.storage import open_storage
from aebnas.spaces.definition import load_space

PATIENCE_S = 240


def wait_until(condition, *processes):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing moves"
        time.sleep(0.02)


@contextlib.contextmanager
def started(*arguments):
    """`aebnas` with these arguments, in a session of its own that is ended at the end of the block."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "aebnas.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(ValueError):  # it was read to its end
            process.communicate()


def ended(process):
    """Wait for the end; return what was said."""
    said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, said
    return said


def workers_in(folder):
    """The ids of the processes of this machine that help in ``folder``, and their process ids."""
    ids = [path.stem for path in (folder.path / "workers").glob("*.lock")]
    return {name: int(name.rsplit("-", 2)[1]) for name in ids}


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def trials_of(folder, experiment=None):
    address = Address.of(folder, experiment or folder.experiment())
    return optuna.load_study(study_name=address.study, storage=address.url).get_trials(deepcopy=False)


def done(trials):
    """What has come to an end, by the number of the trial."""
    return {
        trial.number: (trial.params, trial.values)
        for trial in trials
        if trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and FAILURE in trial.user_attrs)
    }


def undisturbed(experiment, trials, path):
    """The rows of one process's search in a new folder that makes the same trials, one after the other."""
    folder = RunFolder(path)
    genes = [params for params, _ in done(trials).values()]
    plain = {"search.workers": 1, "search.trials": len(genes), "search.starts": False}
    alone = experiment.override(plain)
    alone = alone.model_copy(
        update={"search": alone.search.model_copy(update={"storage": None, "artifacts": None, "study": None})}
    )
    folder.start(alone, load_space(alone.space), load_profile(alone.device))
    address = Address.of(folder, alone)
    study = open_study(open_storage(address.url, say=print), address.study, alone.search)
    for one in genes:
        study.enqueue_trial(one)
    return search(alone, run_dir=path).rows
