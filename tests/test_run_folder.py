"""A run folder belongs to one experiment and to one process at a time."""

from __future__ import annotations

import logging
import os

import pytest

from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_a_folder_is_claimed_and_remembers_its_experiment(folder):
    with pytest.raises(RunError, match=r"run holds no run: give the folder that `aebnas search` wrote"):
        folder.experiment()
    experiment = Experiment(seed=3)
    assert folder.start(experiment) == experiment
    assert folder.experiment() == experiment


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 4),
        ("data.validation", 0.3),
        ("backbone.options", {"depth": 8}),
        ("backbone_training", {"epochs": 1}),
        ("backbone_training.epochs", 9),
        ("regime.training.lr", 0.5),
        ("search.objectives", ["accuracy", "macs"]),
        ("search.target", {"value": 1.0}),
        ("device", "raspberry-pi-4"),
    ],
)
def test_another_experiment_is_refused_by_the_key_that_differs(folder, key, value):
    base = Experiment()
    if key == "backbone_training":
        base = Experiment(backbone_training=None)
    folder.start(base)
    before = folder.experiment_file.read_text()
    with pytest.raises(RunError, match=rf"holds a run whose {key}[\w.]* differs: choose another folder"):
        folder.start(base.override({key: value}))
    assert folder.experiment_file.read_text() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("search.trials", 99),
        ("search.timeout", 5.0),
        ("search.finalists", 2),
        ("search.accuracy_drop", 0.02),
        ("cache_gib", 1.0),
        ("accelerator", "cpu"),
        ("name", "another"),
    ],
)
def test_what_says_how_long_to_search_may_change(folder, key, value):
    folder.start(Experiment())
    changed = Experiment().override({key: value})
    folder.start(changed)
    assert folder.experiment() == changed


def test_a_folder_of_something_else_is_refused(folder):
    folder.path.mkdir()
    (folder.path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"is not empty and holds no run"):
        folder.start(Experiment())
    assert [path.name for path in folder.path.iterdir()] == ["thesis.txt"]


def test_a_damaged_experiment_file_is_named(folder):
    folder.start(Experiment())
    folder.experiment_file.write_text("search: {trials")
    with pytest.raises(Exception, match=r"experiment\.yaml is not valid YAML"):
        folder.experiment()


def test_the_lock_says_who_holds_it_and_is_given_back(folder):
    with folder.lock():
        with (
            pytest.raises(RunError, match=rf"is being searched by process {os.getpid()}: wait for it, stop it"),
            RunFolder(folder.path).lock(),
        ):
            pass
        assert (folder.path / "run.pid").exists()
    assert not (folder.path / "run.pid").exists()
    with folder.lock():
        folder.start(Experiment())  # the files of the lock do not count as something else


def test_the_lock_is_given_back_after_a_failure_that_passes_unchanged(folder):
    with pytest.raises(FileNotFoundError, match="of the work itself"), folder.lock():
        raise FileNotFoundError("of the work itself")
    with folder.lock():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"cannot use .*file.run .*: choose another --run-dir"),
        RunFolder(tmp_path / "file" / "run").lock(),
    ):
        pass


def test_evaluations_are_kept_by_key(folder):
    assert folder.read_evaluation("a") is None
    folder.write_evaluation("a", {"curve": [1, None]})
    assert folder.read_evaluation("a") == {"curve": [1, None]}


@pytest.mark.parametrize("text", ['{"curve": [', "", "[1, 2]", "\x00\x01"])
def test_a_damaged_evaluation_counts_as_none(folder, text, caplog):
    folder.write_evaluation("a", {})
    (folder.evaluations / "a.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert folder.read_evaluation("a") is None
    assert ("a.json is damaged" in caplog.text) == (text != "[1, 2]")
