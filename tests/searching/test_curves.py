"""The curves that a search leaves in its run folder."""

from __future__ import annotations

import csv

import pytest

from aebnas.run_folder import RunFolder
from aebnas.searching.search import search


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_training_of_a_search_has_its_curve(finished):
    folder = finished.folder.path / "training"
    backbone = rows_of(folder / "backbone.csv")
    assert [row["epoch"] for row in backbone] == list("123456")
    assert float(backbone[-1]["loss"]) < float(backbone[0]["loss"])
    kept = {path.stem for path in (finished.folder.path / "branches").glob("*")}
    written = {path.stem.removeprefix("branch-"): rows_of(path) for path in folder.glob("branch-*.csv")}
    # A training that was stopped has a record of another key, and goes on in the same file.
    assert written and len(kept & written.keys()) == len([rows for rows in written.values() if not stopped(rows)])
    assert {row["budget"] for rows in written.values() for row in rows} == {"search", "final"}
    for rows in written.values():
        assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
        assert all(float(row["loss"]) > 0 and 0 <= float(row["accuracy"]) <= 1 for row in rows)
        assert {row["regime"] for row in rows} == {"disjoint"} and rows[0]["layers"]


def stopped(rows) -> bool:
    return rows[-1]["stopped"] == "1"


@pytest.mark.parametrize("regime", ["joint", "calex"])
def test_other_regimes_have_curves_too(toy_experiment, tmp_path, regime):
    search(toy_experiment(regime__name=regime, search__trials=1, search__finalists=1), run_dir=tmp_path / "run")
    kind = "network" if regime == "joint" else "branch"
    files = list((tmp_path / "run" / "training").glob(f"{kind}-*.csv"))
    assert files
    exits = {row["exit"] for row in rows_of(files[0])}
    assert ("final" in exits) is (regime == "joint")


def test_none_leaves_nothing(toy_experiment, tmp_path):
    search(toy_experiment(training_log="none", search__trials=1, search__finalists=1), run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "training").exists()


def test_a_search_goes_on_with_another_log(toy_experiment, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    options = {"search__finalists": 1, "backbone_training__epochs": 2}
    search(toy_experiment(training_log="none", search__trials=1, **options), run_dir=tmp_path / "run")
    search(toy_experiment(training_log="tensorboard", search__trials=3, **options), run_dir=tmp_path / "run")
    boards = list((tmp_path / "run" / "tensorboard").glob("branch-*/events.*"))
    assert boards and RunFolder(tmp_path / "run").experiment().training_log == "tensorboard"


def test_a_backbone_that_was_not_trained_to_its_end_leaves_no_folder(toy_experiment, tmp_path, start):
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        start(folder, toy_experiment())
        (folder.path / "training").mkdir()
        (folder.path / "training" / "backbone.csv").write_text("training\n")
    assert not folder.path.exists()
