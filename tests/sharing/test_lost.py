"""Lost trials are given back, once, with their genes."""

from __future__ import annotations

import threading

import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from aebnas.sharing.board import Board
from aebnas.sharing.lost import AGAIN_OF, FAILURE, MOST_TIMES, Returns, mark
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def study():
    return optuna.create_study(storage=InMemoryStorage(), study_name="s", directions=["maximize", "minimize"])


@pytest.fixture
def presence(study, tmp_path, clock):
    with Presence(Board(study._storage, "s"), tmp_path, interval_s=1000, grace_s=60, clock=clock) as here:
        yield here


@pytest.fixture
def returns(study, presence):
    return Returns(Board(study._storage, "s"), presence)


def ask(study, worker=None):
    trial = study.ask()
    if worker is not None:
        trial.set_user_attr("worker", worker)
    return trial, trial.suggest_float("x", 0, 1)


def states(study):
    return [trial.state.name for trial in study.trials]


def test_a_trial_of_a_dead_worker_runs_again_with_its_genes(study, presence, returns):
    _, x = ask(study, "dead-1-a")
    assert returns.give_back(study) == 1
    assert states(study) == ["FAIL", "WAITING"]
    trial, again = ask(study)
    assert again == x
    assert trial.user_attrs[AGAIN_OF] == 0
    mark(trial, presence)
    assert returns.give_back(study) == 0
    study.tell(trial, (1, 2))
    assert states(study) == ["FAIL", "COMPLETE"]


def test_trials_of_the_living_and_finished_ones_are_left(study, presence, returns, tmp_path):
    finished, _ = ask(study, "dead-1-a")
    study.tell(finished, (1, 2))
    mine, _ = ask(study)
    mark(mine, presence)
    with Presence(Board(study._storage, "s"), tmp_path / "there", interval_s=1000) as other:
        ask(study, other.worker)
        assert returns.give_back(study) == 0
    assert states(study) == ["COMPLETE", "RUNNING", "RUNNING"]
    study.enqueue_trial({"x": 0.5})
    assert states(study)[3] == "WAITING"


def test_a_queued_trial_that_was_killed_before_it_was_sampled_keeps_its_genes(study, returns):
    study.enqueue_trial({"x": 0.125, "y": "b"})
    study.ask()
    assert returns.give_back(study) == 1
    assert study.trials[1].system_attrs["fixed_params"] == {"x": 0.125, "y": "b"}


def test_without_genes_there_is_nothing_to_run_again(study, returns):
    study.ask()
    assert returns.give_back(study) == 1
    assert states(study) == ["FAIL"]


def test_without_a_mark_the_living_get_time_to_set_it(study, returns, clock, tmp_path):
    with Presence(Board(study._storage, "s"), tmp_path / "there", interval_s=1000):
        ask(study)
        assert returns.give_back(study) == 0
        clock.now += 59
        assert returns.give_back(study) == 0
        clock.now += 2
        assert returns.give_back(study) == 1
    assert states(study) == ["FAIL", "WAITING"]


def test_a_trial_that_kills_its_workers_is_given_up(study, returns):
    _, x = ask(study, "dead-0-a")
    for times in range(MOST_TIMES):
        assert returns.give_back(study) == 1
        assert ask(study, f"dead-{times}-b")[1] == x
    assert returns.give_back(study) == 1
    assert states(study) == ["FAIL"] * (MOST_TIMES + 1)
    assert [FAILURE in trial.user_attrs for trial in study.trials] == [False] * MOST_TIMES + [True]
    assert study.trials[-1].user_attrs[FAILURE] == "its worker died, 4 times in all"


def test_whoever_was_taken_for_dead_finds_its_trial_finished(study, returns):
    trial, _ = ask(study, "slow-1-a")
    returns.give_back(study)
    with pytest.raises(ValueError, match="Cannot tell a FAIL trial"):
        study.tell(trial, (1, 2))


def test_one_that_was_queued_before_this_process_was_killed_is_not_queued_twice(study, returns, monkeypatch):
    ask(study, "dead-1-a")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            returns.give_back(study)
    assert states(study) == ["RUNNING", "WAITING"]
    assert returns.give_back(study) == 1
    assert states(study) == ["FAIL", "WAITING"]


def test_of_many_that_look_at_once_one_gives_back(url, tmp_path):
    study = optuna.create_study(storage=open_storage(url, say=print), study_name="s")
    for number in range(3):
        ask(study, f"dead-{number}-a")
    counts, start = [], threading.Barrier(4)

    def look(number):
        storage = open_storage(url, say=print)
        same = optuna.load_study(study_name="s", storage=storage)
        with Presence(Board(storage, "s"), tmp_path / str(number), interval_s=1000) as presence:
            start.wait()
            counts.append(Returns(Board(storage, "s"), presence).give_back(same))
            start.wait()

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Presence(Board(study._storage, "s"), tmp_path, interval_s=1000) as presence:
        Returns(Board(study._storage, "s"), presence).give_back(
            study
        )  # of claims made at once, all may have been withdrawn
    assert len(counts) == 4
    assert states(study) == ["FAIL"] * 3 + ["WAITING"] * 3
    assert sorted(trial.user_attrs[AGAIN_OF] for trial in study.get_trials(states=[TrialState.WAITING])) == [0, 1, 2]
