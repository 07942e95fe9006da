"""Processes that are killed or interrupted for real, and the same search going on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from aebnas.run_folder import RunFolder
from aebnas.searching.search import search

SCRIPT = """\
import signal, sys, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored
torch.set_num_threads(1)
from aebnas.searching.search import search
search(sys.argv[1], run_dir=sys.argv[2])
"""
LONG = 500  # trials, more than are made before the signal comes
PATIENCE_S = 120


def wait_until(condition, process):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the search made no progress"
        time.sleep(0.02)


def end(process, number):
    """Send the signal until the process ends, and return what it said.

    Python drops an interruption that falls into a finaliser (of a database connection, say); people press again.
    """
    for _ in range(12):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=PATIENCE_S / 12)[1]
    raise AssertionError("the search does not end")


@pytest.fixture
def running(toy_experiment, tmp_path):
    """A search in a process of its own that has finished some trials."""
    file, folder = tmp_path / "toy.yaml", RunFolder(tmp_path / "run")
    file.write_text(toy_experiment(search__trials=LONG).to_yaml())
    command = [sys.executable, "-c", SCRIPT, str(file), str(folder.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(list(folder.evaluations.glob("*.json"))) >= 3, process)
        yield process, folder
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_same_search_goes_on_after_a_signal(running, toy_experiment, number):
    process, folder = running
    errors = end(process, number)
    assert process.returncode != 0
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)
    kept = {
        path: path.read_bytes() for path in [*folder.evaluations.glob("*.json"), *folder.path.glob("branches/*.pt")]
    }
    study = optuna.load_study(study_name="aebnas", storage=f"sqlite:///{folder.study_file}")
    done = {trial.number: trial.values for trial in study.trials if trial.state == TrialState.COMPLETE}
    assert len(done) >= 2
    run = search(toy_experiment(search__trials=len(done) + 2), run_dir=folder.path)
    trials = study.trials
    complete = {trial.number: trial.values for trial in trials if trial.state == TrialState.COMPLETE}
    assert len(complete) == len(done) + 2
    assert all(complete[trial] == values for trial, values in done.items())
    assert not any(trial.state == TrialState.RUNNING for trial in trials)
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert any(row["finalist"] for row in run.rows)
