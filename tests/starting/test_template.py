"""The experiment file that explains itself."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

from aebnas.experiment import Experiment
from aebnas.starting.choices import Choices
from aebnas.starting.template import experiment_text

DISABLED = re.compile(r"^( *)#([a-z_]+: .*)$")


@pytest.fixture(scope="module")
def lines():
    return experiment_text(Choices().values(), Path("my.yaml")).splitlines()


def read(lines, folder) -> Experiment:
    path = folder / "my.yaml"
    path.write_text("\n".join(lines))
    return Experiment.from_yaml(path)


def test_it_says_what_was_chosen(lines, tmp_path):
    experiment = read(lines, tmp_path)
    values = Choices().values()
    assert experiment == Experiment.model_validate(values)
    assert experiment.search.trials == 60 and experiment.backbone.name == "resnet"


def test_every_default_behind_its_mark_is_the_default(lines, tmp_path):
    """All marks are taken away at once: the experiment stays the same, so each default is right and at its place."""
    plain = [DISABLED.sub(r"\1\2", line) for line in lines]
    assert plain != lines
    assert read(plain, tmp_path) == read(lines, tmp_path)


def test_every_key_of_a_search_is_there(lines):
    text = "\n".join(DISABLED.sub(r"\1\2", line) for line in lines)
    assert set(yaml.safe_load(text)) == set(Experiment.model_fields) - {"compare", "model", "datasets"}
    for block in ("data", "search", "regime", "backbone", "attach"):
        fields = Experiment.model_fields[block].annotation.model_fields
        assert set(yaml.safe_load(text)[block]) == set(fields)


def test_every_key_has_a_line_that_says_what_it_is(lines):
    for before, line in itertools.pairwise(lines):
        if DISABLED.match(line) or re.match(r"^ *[a-z_]+:", line):
            assert re.match(r"^ *# ", before), line


def test_lines_fit_on_a_screen(lines):
    assert max(len(line) for line in lines if line.lstrip().startswith("# ")) <= 100


def test_choices_are_named(lines):
    text = " ".join(line.lstrip(" #") for line in lines)
    for words in ("raspberry-pi-5", "tpe, nsga2", "cgt-soft", "max-probability", "adamw, sgd", "csv or tensorboard"):
        assert words in text
