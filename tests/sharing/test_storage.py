"""Storages by URL, and what is told of wrong ones."""

from __future__ import annotations

import sqlite3
import sys
import threading

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from aebnas.errors import InputError, MissingExtraError, RunError
from aebnas.sharing.storage import open_storage
from aebnas.sharing.storage_errors import storage_errors
from aebnas.sharing.storage_url import database_of, name_of, study_name

SECRET = "s3cr3t"


def create(url, **options):
    storage = open_storage(url, say=print)
    return optuna.create_study(storage=storage, study_name="s", directions=["maximize", "minimize"], **options)


def test_a_study_is_kept(url):
    study = create(url)
    study.enqueue_trial({"x": 0.25})
    for _ in range(3):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("note", [x])
        trial.set_constraint("limit", -x)
        study.tell(trial, (x, 1 - x))
    again = create(url, load_if_exists=True)
    assert [trial.values for trial in again.trials] == [trial.values for trial in study.trials]
    assert again.trials[0].params == {"x": 0.25}
    assert again.trials[0].user_attrs == {"note": [0.25]}
    assert len(again.best_trials) == 1


def test_of_many_that_begin_at_once_each_finds_its_tables(url):
    opened, start = [], threading.Barrier(4)

    def begin():
        start.wait()
        opened.append(open_storage(url, say=print).get_all_studies())

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [[]] * 4


def test_a_queued_trial_is_taken_once(url):
    studies = [create(url, load_if_exists=True) for _ in range(4)]
    for x in range(40):
        studies[0].enqueue_trial({"x": x})
    taken = []

    def take(study):
        while (trial_id := study._pop_waiting_trial_id()) is not None:
            taken.append(trial_id)

    threads = [threading.Thread(target=take, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 40
    assert all(trial.state == TrialState.RUNNING for trial in studies[0].trials)


def test_a_file_is_written_ahead(tmp_path):
    create(f"sqlite:///{tmp_path}/study.db")
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_braces_in_a_path_are_part_of_it(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/{{a}}.db", say=print)
    assert (tmp_path / "{a}.db").exists()


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("postgresql://me@host/db", "postgresql+psycopg://me@host/db"),
        ("postgres://me@host/db", "postgresql+psycopg://me@host/db"),
        ("postgresql+psycopg2://me@host/db", "postgresql+psycopg2://me@host/db"),
        ("mysql://me:p@host:3307/db?charset=utf8mb4", "mysql+pymysql://me:p@host:3307/db?charset=utf8mb4"),
    ],
)
def test_the_driver_is_ours_unless_one_is_named(written, used):
    assert database_of(written).render_as_string(hide_password=False) == used


def test_the_driver_of_mysql_gets_its_options(monkeypatch):
    made = []
    monkeypatch.setattr(RDBStorage, "__init__", lambda self, url, engine_kwargs: made.append((url, engine_kwargs)))
    open_storage("mysql://me:p@host/db?read_timeout=5", say=print)
    connect = {"connect_timeout": 10, "write_timeout": 60}
    assert made == [("mysql+pymysql://me:p@host/db?read_timeout=5", {"pool_pre_ping": True, "connect_args": connect})]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no URL of a storage: write sqlite:///FILE, postgresql://"),
        (f"postgresql://me:{SECRET}@host:port/db", "no URL of a storage"),
        (f"oracle://me:{SECRET}@host/db", "names oracle, which is not known"),
        (f"postgresql://me:{SECRET}@host", "names no database"),
        ("sqlite://", "names no file"),
        ("grpc://", r"write grpc://HOST:PORT"),
        ("grpc://host:port", r"write grpc://HOST:PORT"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url, message):
    with pytest.raises(InputError, match=message) as error:
        open_storage(url, say=print)
    assert SECRET not in str(error.value)


def test_a_missing_driver_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(MissingExtraError, match=r"aebnas\[mysql\]"):
        open_storage("mysql://me@host/db", say=print)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InputError, match="leave it out to use psycopg"):
        open_storage("postgresql+psycopg2://me@host/db", say=print)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingExtraError, match=r"aebnas\[grpc\]"):
        open_storage("grpc://localhost:1", say=print)


def test_names_hold_no_password():
    assert (
        name_of(f"postgresql://me:{SECRET}@host:5/db?sslpassword={SECRET}") == "the storage postgresql://me@host:5/db"
    )
    assert name_of(f"grpc://me:{SECRET}@host") == "the storage grpc://host:13000"
    assert name_of("sqlite:///a/b.db") == "a/b.db"


def test_a_server_that_refuses_is_told_at_once(postgres):
    with pytest.raises(InputError, match=r"postgresql://tester@127.0.0.1:\d+/other.*does not exist") as error:
        open_storage(f"{postgres.rpartition('/')[0]}/other".replace("tester", f"tester:{SECRET}"), say=print)
    assert SECRET not in str(error.value)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database " * 100)
    with pytest.raises(RunError, match=rf"{tmp_path}/study.db cannot be used .*delete this one file"):
        open_storage(f"sqlite:///{tmp_path}/study.db", say=print)
    with pytest.raises(RunError, match="cannot be used"):
        open_storage(f"sqlite:///{tmp_path}/missing/study.db", say=print)


def test_errors_while_it_is_used_are_told_too(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    study = create(url)
    (tmp_path / "study.db").write_bytes(b"no database " * 1000)
    study._storage._inner._backend.engine.dispose()
    with pytest.raises(RunError, match="cannot be used"), storage_errors(url):
        study.ask()
    with pytest.raises(ZeroDivisionError), storage_errors(url):
        1 / 0


def test_the_name_of_a_study_is_chosen():
    assert study_name(None, None, "toy") == "aebnas"
    assert study_name("postgresql://h/d", None, "toy") == "toy"
    assert study_name("postgresql://h/d", "mine", "toy") == study_name(None, "mine", "toy") == "mine"
