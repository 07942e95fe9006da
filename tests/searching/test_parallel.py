"""Several processes at one search: they find what one finds, and none that dies takes anything with it."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from processes import (
    PATIENCE_S,
    done,
    ended,
    is_alive,
    started,
    trials_of,
    undisturbed,
    wait_until,
    workers_in,
)

from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.search import search
from aebnas.sharing.lost import AGAIN_OF, WORKER

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
TRIALS = 6


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def toy(toy_experiment, tmp_path):
    """Write a toy search that takes a while; return it and its file."""

    def make(**options):
        slow = {"search__trials": TRIALS, "search__rungs": False, "regime__training__epochs": 60, **options}
        experiment = toy_experiment(**slow)
        file = tmp_path / "toy.yaml"
        file.write_text(experiment.to_yaml())
        return experiment, file

    return make


def check_all_there(folder, experiment, tmp_path):
    """As many trials as were asked for, none still running, and the front that one process finds of them."""
    trials = trials_of(folder)
    assert len(done(trials)) == experiment.search.trials
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]
    assert Run(folder.path).rows == undisturbed(experiment, trials, tmp_path / "alone")
    assert not list(folder.path.glob("workers/*"))
    return trials


def test_two_workers_share_the_trials_and_find_what_one_finds(toy, folder, tmp_path):
    experiment, _ = toy(search__workers=2)
    run = search(experiment, run_dir=folder.path)
    trials = check_all_there(folder, experiment, tmp_path)
    by_worker = Counter(trial.user_attrs[WORKER] for trial in trials)
    assert run.summary()["workers"] == by_worker
    # On a busy machine the second one may come when there is nothing left.
    assert 1 <= len(by_worker) <= 2


def running_in(folder):
    """The workers that run trials now, and which."""
    trials = [trial for trial in trials_of(folder) if trial.state.name == "RUNNING" and WORKER in trial.user_attrs]
    return {trial.user_attrs[WORKER]: trial.number for trial in trials}


def test_first_a_worker_is_killed_then_the_leader_and_nothing_is_lost(toy, folder, tmp_path):
    experiment, file = toy(search__workers=2, search__trials=100, regime__training__epochs=200)
    with started("search", file, "--run-dir", folder.path) as process:
        wait_until(lambda: len(list(folder.evaluations.glob("*.json"))) >= 2, process)
        # Both at once.
        wait_until(lambda: len(running_in(folder)) == 2, process)
        victim, lost = next(iter(running_in(folder).items()))
        os.kill(workers_in(folder)[victim], signal.SIGKILL)
        # Another one takes its place, and its trial is given back, unless it had just ended.
        wait_until(lambda: victim not in running_in(folder) and len(set(workers_in(folder)) - {victim}) == 3, process)
        trials = trials_of(folder)
        if trials[lost].state.name == "FAIL":
            assert [trial.params or trial.system_attrs["fixed_params"] for trial in trials if _is_again(trial, lost)]
        pids = workers_in(folder).values()
        os.kill(process.pid, signal.SIGKILL)
        # The workers of a dead leader end.
        wait_until(lambda: not any(map(is_alive, set(pids) - {process.pid})))
        process.wait(PATIENCE_S)
    before, kept = done(trials_of(folder)), _content(folder)
    experiment = experiment.override({"search.workers": 1, "search.trials": len(before) + 2})
    search(experiment, run_dir=folder.path)
    after = done(check_all_there(folder, experiment, tmp_path))
    assert before.items() <= after.items()
    assert kept.items() <= _content(folder).items()


def _is_again(trial, lost):
    return trial.user_attrs.get(AGAIN_OF) == lost


def _content(folder):
    kept = [*folder.path.glob("branches/[!.]*.pt"), *folder.path.glob("evaluations/[!.]*.json")]
    return {path: path.read_bytes() for path in kept}


def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(toy, folder, tmp_path):
    experiment, file = toy(search__workers=2, search__trials=100)
    with started("search", file, "--run-dir", folder.path) as process:
        wait_until(lambda: len(list(folder.evaluations.glob("*.json"))) >= 1, process)
        pids = workers_in(folder).values()
        # As a terminal does: all of its processes are told.
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert not any(map(is_alive, set(pids) - {process.pid}))
    assert process.returncode == 130
    assert "interrupted: the same command goes on" in said
    assert "Traceback" not in said
    before = done(trials_of(folder))
    experiment = experiment.override({"search.workers": 1, "search.trials": len(before) + 1})
    search(experiment, run_dir=folder.path)
    assert before.items() <= done(check_all_there(folder, experiment, tmp_path)).items()


def test_others_help_a_search_in_its_folder(toy, folder, tmp_path):
    experiment, file = toy(search__trials=12, regime__training__epochs=200)
    with started("search", file, "--run-dir", folder.path) as leader:
        wait_until(folder.backbone_file.exists, leader)
        with (
            started("worker", folder.path, "--threads", "1") as helper,
            started("search", file, "--run-dir", folder.path) as second,
        ):
            said = ended(leader)
            assert "trials run here" in ended(helper)
            joined = ended(second)
    assert "is being searched by another process: helping it as a worker" in " ".join(joined.split())
    assert "finalist" in said
    assert "Next:" in joined
    trials = check_all_there(folder, experiment, tmp_path)
    assert len({trial.user_attrs[WORKER] for trial in trials if WORKER in trial.user_attrs}) >= 2
