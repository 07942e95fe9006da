"""All commands: their help, their page, and what a shell completes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aebnas import cli, completion
from aebnas.backbones.build import BACKBONES
from aebnas.data.load import DATASETS
from aebnas.exits.confidence import CONFIDENCES
from aebnas.training.objective import WEIGHTINGS
from aebnas.training.regimes import REGIMES

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("commands_page", ROOT / "docs" / "_ext" / "commands_page.py")
commands_page = importlib.util.module_from_spec(_spec)
sys.modules["commands_page"] = commands_page  # dataclasses look their module up
_spec.loader.exec_module(commands_page)
COMMANDS = {command.words: command for command in commands_page.commands(cli.app)}


@pytest.mark.parametrize("words", COMMANDS)
def test_help_of_every_command_has_an_example_of_itself(words, capsys):
    assert cli.main([*words.split()[1:], "--help"]) == 0
    printed = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "Example:" in printed
    assert words in printed.partition("Example:")[2]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_is_explained(words):
    assert [parameter.words for parameter in COMMANDS[words].parameters if not parameter.help] == []


def test_the_page_of_the_commands_is_in_step_with_them():
    written = commands_page.PAGE.read_text(encoding="utf-8")
    assert written == commands_page.page(cli.app, written), "run python docs/_ext/commands_page.py"
    assert all(f"\n## {words}\n" in written for words in COMMANDS)


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("regimes", REGIMES),
        ("weightings", WEIGHTINGS),
        ("confidences", CONFIDENCES),
        ("backbones", BACKBONES),
        ("datasets", DATASETS),
    ],
)
def test_names_read_off_the_sources_are_those_that_are_registered(kind, registry):
    assert sorted(completion.registered(kind)) == sorted(name for name in registry if ":" not in name)


def completed(words: str, folder: Path) -> list[str]:
    """What bash is offered for the last of ``words``, by the protocol that the installed script uses."""
    given = words.split(" ")
    found = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'aebnas'; from aebnas.cli import main; sys.exit(main([]))"],
        env={
            **os.environ,
            "_AEBNAS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(given) - 1),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs, one of them with a front, and an export."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("runs/birds", "runs/boats", "elsewhere/birds2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "experiment.yaml").write_text("name: x\n")
    (folder / "runs" / "birds" / "front.json").write_text('[{"id": "ab12"}, {"id": "backbone"}]')
    (folder / "birds-onnx").mkdir()
    (folder / "birds-onnx" / "manifest.json").write_text("{}")
    (folder / "runs" / "no-run").mkdir()
    return folder


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("aebnas dia", ["diagnose"]),
        ("aebnas device m", ["measure"]),
        ("aebnas front ", ["runs/birds", "runs/boats"]),
        ("aebnas front runs/bo", ["runs/boats"]),
        ("aebnas front elsewhere/", ["elsewhere/birds2"]),
        ("aebnas dashboard runs/bi", ["runs/birds"]),
        ("aebnas diagnose bi", ["birds-onnx"]),
        ("aebnas evaluate ", ["birds-onnx"]),
        ("aebnas export runs/birds --pick a", ["ab12"]),
        ("aebnas search --device rasp", ["raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-5-ssh"]),
        ("aebnas device check jet", ["jetson-orin-nano"]),
        ("aebnas search --objectives latency_p", ["latency_p95_ms"]),
        ("aebnas search --limits mo", ["model_mib="]),
        ("aebnas init --space aeb", ["aebnas-layers", "aebnas-stages"]),
        ("aebnas init --data dig", ["digits"]),
        ("aebnas compare --regimes disjoint,cgt-", ["disjoint,cgt-hard", "disjoint,cgt-soft"]),
        ("aebnas compare --confidences ent", ["entropy"]),
        ("aebnas list back", ["backbones"]),
        ("aebnas search --accel", ["--accelerator"]),
    ],
)
def test_bash_completes(words, expected, runs):
    assert completed(words, runs) == expected


def test_completing_imports_nothing_heavy(runs):
    """Every word of the tests above, in one process that says what it has imported."""
    code = (
        "import os, sys\n"
        "from aebnas import cli, completion\n"
        "for offer in ('profiles', 'spaces', 'regimes', 'confidences', 'costs', 'limits', 'backbones', 'datasets',"
        " 'run_folders', 'export_folders', 'results', 'accelerators', 'weightings'):\n"
        "    assert getattr(completion, offer)('') or offer in ('run_folders', 'export_folders', 'results'), offer\n"
        "heavy = {'torch', 'numpy', 'optuna', 'onnxruntime', 'onnx', 'pandas', 'matplotlib', 'sklearn', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=runs, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_shell_is_given_its_script():
    found = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'aebnas'; from aebnas.cli import main; sys.exit(main([]))"],
        env={**os.environ, "_AEBNAS_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_AEBNAS_COMPLETE=complete_bash" in found.stdout and "complete -o default" in found.stdout
