"""kill -9 of workers in the middle of trials, on one disk and on two: their trials run again, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from aebnas.sharing.board import Board
from aebnas.sharing.lost import Returns
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage

# Says the number of each trial it has told, and stays in the middle of one once it has told enough.
WORKER = """
import sys, time
from pathlib import Path
import optuna
from aebnas.sharing.board import Board
from aebnas.sharing.lost import mark
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage

storage = open_storage(sys.argv[1], say=print)
study = optuna.load_study(storage=storage, study_name="s", sampler=optuna.samplers.RandomSampler())
with Presence(Board(storage, "s"), Path(sys.argv[2]), interval_s=0.2) as presence:
    for number in range(4):
        trial = study.ask()
        mark(trial, presence)
        x = trial.suggest_float("x", 0, 1)
        if number == 3:
            print("in the middle", flush=True)
            time.sleep(1000)
        study.tell(trial, x)
        print(trial.number, flush=True)
"""


def worker(url, folder):
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("place", ["one disk", "two disks"])
def test_trials_of_killed_workers_run_again(url, tmp_path, place):
    storage = open_storage(url, say=print)
    study = optuna.create_study(storage=storage, study_name="s")
    folders = [tmp_path / name if place == "two disks" else tmp_path for name in ("a", "b")]
    processes = [worker(url, folder) for folder in folders]
    told = []
    try:
        for process in processes:
            lines = [process.stdout.readline().strip() for _ in range(4)]
            assert lines[3] == "in the middle"
            told += map(int, lines[:3])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    cut = {trial.number: trial.params for trial in study.get_trials(states=[TrialState.RUNNING])}
    assert len(cut) == 2

    board = Board(storage, "s")
    with Presence(board, tmp_path, interval_s=0.1, grace_s=1.0) as presence:
        returns, given_back, deadline = Returns(board, presence), 0, time.monotonic() + 120
        if place == "one disk":
            given_back = returns.give_back(study)  # at once
        while given_back < 2:
            assert time.monotonic() < deadline
            given_back += returns.give_back(study)
            time.sleep(0.05)
    assert given_back == 2
    again = {trial.user_attrs["again_of"]: trial.system_attrs["fixed_params"] for trial in study.trials[8:]}
    assert again == cut
    assert sorted(trial.number for trial in study.get_trials(states=[TrialState.COMPLETE])) == sorted(told)
    assert board.items("beats/") == {}
