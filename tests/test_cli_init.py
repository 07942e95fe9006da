"""The verbs `aebnas init` and `aebnas check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from aebnas import cli, cli_init
from aebnas.experiment import Experiment

SMALL = ["--model", "convnet", "--data", "digits", "--device", "raspberry-pi-5", "--trials", "3", "--yes"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def said(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return " ".join(captured.out.split()), " ".join(captured.err.split())


def test_options_alone_write_an_experiment_and_try_it_out(capsys):
    assert cli.main(["init", "my.yaml", *SMALL]) == 0
    printed, _ = said(capsys)
    experiment = Experiment.from_yaml("my.yaml")
    assert (experiment.backbone.name, experiment.data.name, experiment.search.trials) == ("convnet", "digits", 3)
    assert experiment.search.objectives == ("accuracy", "macs") and experiment.name == "my"
    for what in ("ok data", "ok split", "ok ONNX", "ok time", "an estimate"):
        assert what in printed
    assert printed.endswith("Next: aebnas search my.yaml")
    assert not Path("runs").exists()


def test_the_file_has_the_experiments_name_by_default(capsys):
    assert cli.main(["init", *SMALL, "--name", "numbers"]) == 0
    assert yaml.safe_load(Path("numbers.yaml").read_text())["name"] == "numbers"
    capsys.readouterr()


def test_a_file_that_is_there_stays_unless_it_is_forced(capsys):
    Path("my.yaml").write_text("name: mine\n")
    assert cli.main(["init", "my.yaml", *SMALL]) == 2
    assert "my.yaml is there already" in said(capsys)[1]
    assert Path("my.yaml").read_text() == "name: mine\n"
    assert cli.main(["init", "--out", "my.yaml", *SMALL, "--force"]) == 0
    assert Experiment.from_yaml("my.yaml").name == "my"
    capsys.readouterr()


def test_a_name_that_is_made_up_is_not_that_of_another_run(capsys):
    for name in ("digits-convnet", "my-birds"):
        Path(f"runs/{name}").mkdir(parents=True)
    for number in (2, 3):
        assert cli.main(["init", *SMALL]) == 0
        assert Experiment.from_yaml(f"digits-convnet-{number}.yaml").name == f"digits-convnet-{number}"
    assert cli.main(["init", "My birds.yaml", *SMALL]) == 0
    assert Experiment.from_yaml("My birds.yaml").name == "my-birds-2"
    assert cli.main(["init", "My birds.yaml", *SMALL, "--force"]) == 0
    assert Experiment.from_yaml("My birds.yaml").name == "my-birds"
    capsys.readouterr()


def test_something_that_does_not_work_is_told_and_the_file_is_kept(capsys, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("net.py").write_text("def make(num_classes):\n    raise ValueError('no weights here')\n")
    assert cli.main(["init", "my.yaml", *SMALL, "--model", "net:make"]) == 2
    printed, wrong = said(capsys)
    assert "NO backbone" in printed and "no weights here" in printed
    assert "then: aebnas check my.yaml" in wrong
    Path("my.yaml").write_text(Path("my.yaml").read_text().replace("net:make", "convnet"))
    assert cli.main(["check", "my.yaml"]) == 0
    assert "ok backbone" in said(capsys)[0]


def test_check_as_json(capsys):
    assert cli.main(["init", "my.yaml", *SMALL]) == 0
    capsys.readouterr()
    assert cli.main(["check", "my.yaml", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] and [step["what"] for step in result["steps"]][:2] == ["data", "backbone"]
    assert result["steps"][0].keys() == {"what", "ok", "text", "seconds", "hints"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init", "--yes", "--model", "resnt"], "did you mean 'resnet'"),
        (["init", "--yes", "--data", "gone.npz"], "gone.npz does not exist"),
        (["init", "--yes", "--device", "toaster"], "there is no hardware profile 'toaster'"),
        (["init", "a.yaml", "--out", "b.yaml"], "FILE and --out say the same"),
        (["check", "gone.yaml"], "gone.yaml does not exist"),
    ],
)
def test_wrong_words_are_one_sentence_and_write_nothing(arguments, message, capsys):
    assert cli.main(arguments) == 2
    assert message in said(capsys)[1]
    assert list(Path().iterdir()) == []


def test_on_a_terminal_it_asks_for_what_no_option_says(capsys, monkeypatch):
    answers = iter(["resnt", "convnet", "gone.csv", "digits", "raspberry-pi-5", "", "many", "4", "numbers"])
    asked = []

    def prompt(text, default):
        asked.append(text)
        return next(answers) or default

    monkeypatch.setattr(cli_init, "_is_terminal", lambda: True)
    monkeypatch.setattr(cli_init.typer, "prompt", prompt)
    assert cli.main(["init", "my.yaml"]) == 0
    _, wrong = said(capsys)
    experiment = Experiment.from_yaml("my.yaml")
    assert (experiment.name, experiment.backbone.name, experiment.search.trials) == ("numbers", "convnet", 4)
    assert experiment.search.objectives == ("accuracy", "macs")
    # A mistake is told, and asked for again.
    assert "did you mean 'resnet'" in wrong and "gone.csv does not exist" in wrong and "'many' is no number" in wrong
    assert len(asked) == 9 and next(answers, None) is None


@pytest.mark.parametrize(("options", "name"), [([], "birds-2"), (["--force"], "birds")])
def test_the_name_that_is_proposed_is_the_one_that_is_made_up_without_asking(options, name, monkeypatch, capsys):
    Path("runs/birds").mkdir(parents=True)
    made = []
    for terminal in (False, True):
        monkeypatch.setattr(cli_init, "_is_terminal", lambda terminal=terminal: terminal)
        monkeypatch.setattr(cli_init.typer, "prompt", lambda text, default: default)
        Path("birds.yaml").unlink(missing_ok=True)
        assert cli.main(["init", "birds.yaml", *SMALL[:-1], "--objective", "macs", *options]) == 0
        made.append(Experiment.from_yaml("birds.yaml").name)
    assert made == [name, name]
    capsys.readouterr()


def test_what_options_say_is_not_asked_for(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli_init, "_is_terminal", lambda: True)
    monkeypatch.setattr(cli_init.typer, "prompt", lambda text, default: asked.append(text) or default)
    assert cli.main(["init", "my.yaml", *SMALL[:-1], "--objective", "macs"]) == 0
    assert asked == ["A name"]
    capsys.readouterr()
