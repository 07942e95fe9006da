"""The option --data-dir: data that were moved are found by every verb, and where it means nothing it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aebnas import cli


@pytest.fixture
def experiment_file(toy_experiment, tmp_path) -> Path:
    """An experiment whose data have been moved from where it says to tmp_path/moved."""
    (tmp_path / "moved").mkdir()
    experiment = toy_experiment(search__trials=1, search__finalists=1)
    shutil.copy(experiment.data.path, tmp_path / "moved" / "data.npz")
    file = tmp_path / "toy.yaml"
    file.write_text(experiment.override({"data.path": tmp_path / "gone" / "data.npz"}).to_yaml())
    return file


def test_data_that_were_moved_are_found(experiment_file, tmp_path, capsys):
    run, out, there = str(tmp_path / "run"), str(tmp_path / "onnx"), ["--data-dir", str(tmp_path / "moved")]
    assert cli.main(["search", str(experiment_file), "--run-dir", run]) == 2
    assert "gone/data.npz does not exist" in capsys.readouterr().err.replace("\n", "")
    assert cli.main(["search", str(experiment_file), "--run-dir", run, *there]) == 0
    assert cli.main(["export", run, "--out", out]) == 0
    (tmp_path / "moved").rename(tmp_path / "again")
    there = ["--data-dir", str(tmp_path / "again")]
    capsys.readouterr()
    assert cli.main(["evaluate", out, "--json"]) == 2
    assert cli.main(["evaluate", out, "--json", *there]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 120
    assert cli.main(["diagnose", out, *there]) == 0
    assert cli.main(["diagnose", run, *there]) == 0


@pytest.mark.parametrize("verb", [["search"], ["compare"]])
def test_where_it_means_nothing_it_is_wrong_usage(verb, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*verb, "--data-dir", str(tmp_path)]) == 2
    assert "--data-dir has no meaning for the data set digits: leave it out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["search", "check", "compare"])
def test_the_key_is_refused_where_nobody_looks_at_it(verb, toy_experiment, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "toy.yaml"
    file.write_text(toy_experiment(data__data_dir=str(tmp_path)).to_yaml())
    assert cli.main([verb, str(file)]) == 2
    said = "".join(capsys.readouterr())
    assert "data.data_dir has no meaning for the data set npz: remove it" in " ".join(said.split())
    assert not (tmp_path / "runs").exists()


def test_data_that_are_named_by_their_file_are_not_looked_for_elsewhere(experiment_file, tmp_path, capsys):
    run, out, moved = str(tmp_path / "run"), str(tmp_path / "onnx"), tmp_path / "moved"
    assert cli.main(["search", str(experiment_file), "--run-dir", run, "--data-dir", str(moved)]) == 0
    assert cli.main(["export", run, "--out", out]) == 0
    assert cli.main(["evaluate", out, "--data", str(moved / "data.npz"), "--data-dir", str(moved)]) == 2
    assert "says where its files are: leave out --data-dir" in capsys.readouterr().err
