"""The study of a run: where it is, what is kept of its address, and its trials."""

from __future__ import annotations

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from aebnas.errors import InputError, RunError
from aebnas.experiment import Experiment
from aebnas.experiment_search import SearchSettings
from aebnas.run_folder import RunFolder
from aebnas.searching.study import (
    FAILURE,
    STORAGE_VARIABLE,
    Address,
    finished,
    open_study,
    queue,
    read_trials,
    remember_password,
    running,
    sample,
    with_password,
    without_password,
)
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome, starting_points
from aebnas.spaces.network_genes import NetworkGenes

SETTINGS = SearchSettings(objectives=("accuracy", "macs"))
SECRET = "postgresql://ann:s3cret@db.lan:5433/runs"


@pytest.fixture
def genome(prepared, toy_experiment):
    space = load_space(toy_experiment().space)
    return build_genome(space, prepared.backbone.attach_points, 4, NetworkGenes("disjoint", "margin"))


@pytest.fixture
def study():
    return open_study(InMemoryStorage(), "one", SETTINGS, RandomSampler(seed=0))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (SECRET, "postgresql://ann@db.lan:5433/runs"),
        ("mysql://ann:x@db/runs?password=y&charset=utf8", "mysql://ann@db/runs?charset=utf8"),
        ("postgresql+psycopg://db/runs", "postgresql+psycopg://db/runs"),
        ("grpc://proxy:13000", "grpc://proxy:13000"),
        ("sqlite:////data/study.db", "sqlite:////data/study.db"),
    ],
)
def test_what_is_kept_of_a_url_holds_no_password(given, kept):
    assert without_password(given) == kept


def test_a_file_is_kept_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_password("sqlite:///study.db") == f"sqlite:///{tmp_path}/study.db"


def test_what_is_no_url_is_refused_without_repeating_it():
    with pytest.raises(InputError, match="is no URL of a storage") as caught:
        without_password("s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ("postgresql://ann@db.lan:5433/runs", SECRET),
        ("postgresql://ann@elsewhere/runs", "postgresql://ann@elsewhere/runs"),
        (None, None),
    ],
)
def test_the_password_comes_from_the_environment_where_the_rest_is_the_same(monkeypatch, kept, found):
    monkeypatch.setenv(STORAGE_VARIABLE, SECRET)
    assert with_password(kept) == found


def test_the_address_is_the_folders_own_file_by_default(tmp_path):
    folder, own = RunFolder(tmp_path / "run"), Experiment(name="mine")
    assert Address.of(folder, own) == Address(f"sqlite:///{tmp_path}/run/study.db", "aebnas")
    kept = own.override({"search.storage": "postgresql://db/runs", "search.artifacts": "s3://bucket/runs"})
    assert Address.of(folder, kept) == Address("postgresql://db/runs", "mine", "s3://bucket/runs")
    assert Address.of(folder, kept, SECRET).url == SECRET
    assert Address.of(folder, kept.override({"search.study": "first"})).study == "first"


def test_a_study_has_the_directions_of_its_objectives():
    settings = SearchSettings(objectives=("macs", "accuracy"))
    assert [direction.name for direction in open_study(InMemoryStorage(), "x", settings).directions] == [
        "MINIMIZE",
        "MAXIMIZE",
    ]


def test_objectives_have_names_for_those_who_look_on(recwarn):
    storage = InMemoryStorage()
    assert open_study(storage, "one", SETTINGS).metric_names == ["accuracy", "macs"]
    # Whoever named them first, a process that joins leaves them.
    assert open_study(storage, "one", SearchSettings()).metric_names == ["accuracy", "macs"]
    assert [str(one.message) for one in recwarn if "set_metric_names" in str(one.message)] == []


def test_starts_are_queued_once_and_come_first(study, genome):
    starts = starting_points(genome)
    for _ in range(2):
        queue(study, starts)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [trial.system_attrs["fixed_params"] for trial in waiting] == [start | {"trade_off": 0.5} for start in starts]
    assert sample(study.ask(), genome) == (starts[0], 0.5)


def test_failed_candidates_count_as_finished_and_lost_trials_do_not(study, genome):
    trials = [study.ask() for _ in range(4)]
    genes, trade_off = sample(trials[0], genome)
    assert genes.keys() == genome.genes.keys()
    assert 0 <= trade_off <= 1
    study.tell(trials[0], [0.5, 1.0])
    trials[1].set_user_attr(FAILURE, "the loss is nan")
    for trial in trials[1:3]:
        study.tell(trial, state=TrialState.FAIL)
    assert finished(study) == 2
    assert [trial.number for trial in running(study)] == [3]


def test_trials_are_read_where_the_folder_says(tmp_path):
    folder, own = RunFolder(tmp_path / "run"), Experiment(name="mine")
    with pytest.raises(RunError, match=r"study\.db is missing: run the same search again"):
        read_trials(folder, own)
    url = f"sqlite:///{tmp_path}/shared.db"
    study = optuna.create_study(storage=url, study_name="first", directions=["maximize", "minimize"])
    for value in (0.5, 0.6):
        study.tell(study.ask(), [value, 1.0])
    shared = own.override({"search.storage": url, "search.study": "first"})
    assert [trial.values[0] for trial in read_trials(folder, shared)] == [0.5, 0.6]
    with pytest.raises(RunError, match="there is no study second in"):
        read_trials(folder, shared.override({"search.study": "second"}))


def test_a_process_remembers_the_password_that_it_was_given(monkeypatch):
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    monkeypatch.setattr("aebnas.searching.study._given", {})
    assert remember_password(SECRET) == without_password(SECRET)
    assert with_password(without_password(SECRET)) == SECRET
    assert with_password("postgresql://bob@db.lan:5433/runs") == "postgresql://bob@db.lan:5433/runs"
    assert with_password(None) is None


def test_looking_for_a_study_whose_file_is_gone_makes_none(tmp_path, toy_experiment):
    file = tmp_path / "elsewhere.db"
    with pytest.raises(RunError, match=f"{file} is missing"):
        read_trials(RunFolder(tmp_path), toy_experiment(search__storage=f"sqlite:///{file}"))
    assert not file.exists()
