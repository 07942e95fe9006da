"""The workers of a search on its own machine."""

from __future__ import annotations

import os
import time

import pytest
from torch import nn

from aebnas.errors import InputError, RunFailed
from aebnas.experiment import Experiment
from aebnas.progress import Stage
from aebnas.searching import crew as module
from aebnas.searching.crew import Crew, Orders
from aebnas.searching.search import search
from aebnas.searching.study import Address

PATIENCE_S = 120


class Shown(Stage):
    def __init__(self):
        self.lines = {}

    def doing(self, who, text):
        self.lines[who] = text


def dies(connection, orders):
    os._exit(9)


def fails(connection, orders):
    connection.send(("failed", (True, "the data here are not those of the search")))
    time.sleep(PATIENCE_S)


def works(connection, orders):
    connection.send(("doing", "trial 3"))
    connection.send(("say", "hello"))
    connection.send(("trial", 1))
    connection.send(("ended", None))


@pytest.fixture
def orders(tmp_path):
    return Orders(tmp_path, Address("sqlite:///x.db", "x"), None, "cpu", 1)


def look_until(crew, condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        crew.look(0.05)
        assert time.monotonic() < end


def test_what_workers_do_is_shown_and_they_leave_when_nothing_is_left(orders, monkeypatch):
    monkeypatch.setattr(module, "_serve", works)
    shown, said = Shown(), []
    with Crew(orders, 2, shown, said.append) as crew:
        look_until(crew, lambda: crew.at_work == 0)
    assert said == ["hello", "hello"]
    assert shown.lines == {"worker 1": None, "worker 2": None}


def test_workers_that_die_one_after_the_other_end_the_search(orders, monkeypatch):
    monkeypatch.setattr(module, "_serve", dies)
    monkeypatch.setattr(module, "_MOST_DEATHS", 2)
    said = []
    with Crew(orders, 1, Stage(), said.append) as crew, pytest.raises(RunFailed, match="die one after the other"):
        look_until(crew, lambda: False)
    assert said == ["worker 1 died (exit code 9): another one takes its place"] * 2


def test_what_a_worker_ends_with_ends_the_search_and_the_others(orders, monkeypatch):
    monkeypatch.setattr(module, "_serve", fails)
    with Crew(orders, 2, Stage(), print) as crew, pytest.raises(InputError, match="are not those of the search"):
        look_until(crew, lambda: False)
    assert crew.at_work == 0


def test_a_model_that_cannot_be_sent_is_named(toy_experiment, tmp_path):
    class Inside(nn.Linear):
        """Pickle finds no class of a function."""

    experiment = toy_experiment().model_copy(update={"model": Inside(2, 2)})
    with pytest.raises(InputError, match=r"search\.workers needs a model and datasets that can be sent"):
        Orders.of(experiment, tmp_path, Address("sqlite:///x.db", "x"), 2)


def test_workers_take_data_as_objects_and_ask_their_leader_for_latencies(toy_experiment, toy_data, tmp_path):
    options = {"search.workers": 2, "device": "local", "search.objectives": ["accuracy", "latency_ms"]}
    values = toy_experiment(search__trials=3).override(options).model_dump() | {"datasets": toy_data}
    run = search(Experiment(**values), run_dir=tmp_path / "run")
    assert run.summary()["trials"] == 3
    assert all(row["latency_ms_mean"] > 0 for row in run.rows)
    assert not list(run.folder.path.glob("workers/*"))
