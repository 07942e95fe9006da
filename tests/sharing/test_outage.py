"""A database that is killed in the middle of writes loses no finished trial, and no writer gives up."""

from __future__ import annotations

import threading
import time

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from aebnas.errors import RunFailed
from aebnas.sharing.board import Board
from aebnas.sharing.lost import Returns, mark
from aebnas.sharing.patience import Patience
from aebnas.sharing.patient_storage import PatientStorage
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_killed_in_the_middle_of_writes_loses_no_finished_trial(postgres, postgres_server, tmp_path):
    told: dict[int, tuple[float, list[float]]] = {}
    failed: list[BaseException] = []
    stop = threading.Event()

    def work(number):
        try:
            storage = open_storage(postgres, say=print)
            study = optuna.create_study(
                storage=storage,
                study_name="s",
                directions=["maximize", "minimize"],
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=number),
            )
            with Presence(Board(storage, "s"), tmp_path / str(number), interval_s=0.1) as presence:
                while not stop.is_set():
                    trial = study.ask()
                    mark(trial, presence)
                    x = trial.suggest_float("x", 0, 1)
                    trial.set_user_attr("genes", [x] * 10)
                    study.tell(trial, (x, 1 - x))
                    told[trial.number] = (x, [x, 1 - x])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = len(told)
        wait_for(lambda before=before: failed or len(told) >= before + 10)
        postgres_server.kill()
        postgres_server.start()
    before = len(told)
    wait_for(lambda: failed or len(told) >= before + 10)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []

    storage = open_storage(postgres, say=print)
    study = optuna.load_study(study_name="s", storage=storage)
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    kept = {trial.number: (trial.params["x"], trial.values) for trial in trials if trial.state == TrialState.COMPLETE}
    assert kept == told
    # At most one trial for each kill and writer was begun twice; they have no genes yet and are closed.
    with Presence(Board(storage, "s"), tmp_path / "after", interval_s=1000) as presence:
        assert Returns(Board(storage, "s"), presence).give_back(study) == len(trials) - len(told) <= 9
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.FAIL}


def test_whoever_waits_says_so_and_goes_on(postgres, postgres_server):
    said = []
    board = Board(open_storage(postgres, say=said.append), "s")
    board.put("a", 1)
    postgres_server.kill()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(board.get("a")))
    waiting.start()
    wait_for(lambda: said)
    assert "tester@127.0.0.1" in said[0]
    assert "is away" in said[0]
    postgres_server.start()
    waiting.join()
    assert answers == [1]
    assert said[1:] == [said[0].partition(" is away")[0] + " is back"]


def test_a_server_that_stays_away_ends_in_one_sentence(postgres, postgres_server):
    storage = open_storage(postgres, say=print, patience_s=0.5)
    postgres_server.kill()
    with pytest.raises(RunFailed, match="once it is back, the same command goes on"):
        storage.get_all_studies()
    with pytest.raises(RunFailed, match="has been away"):
        open_storage(postgres, say=print, patience_s=0.5)


class Deaf(InMemoryStorage):
    """Does every write, and breaks the connection before it answers the first time."""

    def __init__(self):
        super().__init__()
        self.answered = set()

    def once(self, name):
        if name not in self.answered:
            self.answered.add(name)
            raise ConnectionError(name)

    def create_new_trial(self, study_id, template_trial=None):
        trial_id = super().create_new_trial(study_id, template_trial)
        self.once("create")
        return trial_id

    def set_trial_state_values(self, trial_id, state, values=None):
        done = super().set_trial_state_values(trial_id, state, values)
        self.once(state)
        return done

    def delete_study(self, study_id):
        super().delete_study(study_id)
        self.once("delete")


@pytest.fixture
def storage():
    def for_now(error):
        return str(error) if isinstance(error, ConnectionError) else None

    return PatientStorage(Deaf(), Patience("it", for_now, say=print, sleep=lambda seconds: None))


def test_a_queued_trial_that_got_through_is_not_queued_twice(storage):
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"x": 0.5})
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"x": 0.5}]


def test_a_finished_trial_that_got_through_is_not_copied(storage):
    study = optuna.create_study(storage=storage)
    study.add_trial(create_trial(params={"x": 0.5}, distributions={"x": FloatDistribution(0, 1)}, value=3))
    assert [(trial.params, trial.value) for trial in study.trials] == [({"x": 0.5}, 3)]


def test_an_end_that_got_through_is_an_end(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    study.tell(trial, 1 / 3)
    assert [trial.value for trial in study.get_trials(states=[TrialState.COMPLETE])] == [1 / 3]


def test_an_end_that_another_has_told_is_none(storage):
    study = optuna.create_study(storage=storage)
    trial_id = study.ask()._trial_id
    inner = storage._inner
    inner.set_trial_state_values.__self__.answered.add(TrialState.COMPLETE)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])


def test_a_study_is_deleted_once(storage):
    study = optuna.create_study(storage=storage)
    storage.delete_study(study._study_id)
    with pytest.raises(KeyError):
        storage.delete_study(study._study_id)
