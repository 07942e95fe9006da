"""What a search says before its trials."""

from __future__ import annotations

import contextlib
import re

import pytest
import torch

from aebnas.devices.crowded import Crowd
from aebnas.progress import Progress, Stage
from aebnas.searching import said
from aebnas.searching.rows import network_key
from aebnas.searching.search import search


class Heard(Progress):
    def __init__(self):
        self.lines, self.stages = [], {}

    @contextlib.contextmanager
    def stage(self, label, total, done=0):
        self.stages[label] = total
        yield Stage()

    def say(self, text):
        self.lines.append(text)


@pytest.mark.parametrize(("training", "warned"), [({"epochs": 1, "lr": 1e-9}, 1), ({"epochs": 6}, 0)])
def test_a_backbone_that_guesses_is_warned_of_once(toy_experiment, tmp_path, training, warned):
    heard = Heard()
    experiment = toy_experiment(backbone_training=training, search__trials=2, search__finalists=1)
    search(experiment, run_dir=tmp_path / "run", progress=heard)
    warnings = [line for line in heard.lines if line.startswith("warning: the backbone's accuracy on validation, ")]
    assert len(warnings) == warned
    assert all("largest class, 25.0 %" in line and "train it longer" in line for line in warnings)


def test_a_machine_that_is_busy_with_other_work_is_told_of_before_anything_takes_long(
    toy_experiment, tmp_path, monkeypatch
):
    asked = []

    def crowded(threads):
        asked.append(threads)
        return Crowd("they are busy", "wait")

    monkeypatch.setattr(said, "crowded", crowded)
    heard = Heard()
    search(toy_experiment(search__trials=1, search__finalists=1), run_dir=tmp_path / "run", progress=heard)
    assert heard.lines[0] == "note: they are busy: wait" and asked == [torch.get_num_threads()]
    said.say_crowded(torch.device("cuda"), heard)
    assert len(asked) == 1


def test_what_is_verified_is_counted_by_kind(toy_experiment, tmp_path):
    heard = Heard()
    run = search(toy_experiment(), run_dir=tmp_path / "run", progress=heard)
    ((label, total),) = [(label, total) for label, total in heard.stages.items() if label.startswith("verifying")]
    found = re.fullmatch(r"verifying (\d+) points? of (\d+) finalists? and (\d+) static networks?", label)
    assert found is not None
    points = [row for row in run.rows if row["finalist"]]
    statics = [row for row in run.rows if row["static"]]
    counts = [len(points), len({network_key(row) for row in points}), len(statics)]
    assert list(map(int, found.groups())) == counts and total == len(points) + len(statics)
    assert counts[1] <= run.experiment.search.finalists


def test_hypervolume_is_explained_once_where_there_are_trials_to_run(toy_experiment, tmp_path):
    first, again = Heard(), Heard()
    for heard in (first, again):
        search(toy_experiment(search__trials=1, search__finalists=1), run_dir=tmp_path / "run", progress=heard)
    assert [
        sum("hypervolume: 0 is no better than the backbone" in line for line in heard.lines) for heard in (first, again)
    ] == [1, 0]


def test_a_search_with_all_its_trials_says_that_nothing_is_searched(toy_experiment, tmp_path):
    experiment = toy_experiment(search__trials=2, search__finalists=1)
    said_of_all = []
    for _ in range(2):
        heard = Heard()
        search(experiment, run_dir=tmp_path / "run", progress=heard)
        said_of_all.append([line for line in heard.lines if line.startswith("all 2 trials were run before")])
    assert list(map(len, said_of_all)) == [0, 1]
