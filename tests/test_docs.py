"""The pages under docs/ and the README: their links lead somewhere, their code runs, and no key is left unexplained."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aebnas.devices.profile import HardwareProfile
from aebnas.experiment import Experiment
from aebnas.settings import parse_settings
from aebnas.spaces.definition import SpaceDefinition

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
README = ROOT / "README.md"
CODE = re.compile(r"^(`{3,})(\S*).*?\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")


def load_reference():
    spec = importlib.util.spec_from_file_location("settings_reference", DOCS / "_ext" / "settings_reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["settings_reference"] = module
    spec.loader.exec_module(module)
    return module


reference = load_reference()


def prose(path: Path) -> str:
    """What a page says, with tables made and without its code."""
    return re.sub(r"`[^`\n]*`", "", CODE.sub("", reference.filled(path.read_text(encoding="utf-8"))))


def blocks(path: Path, language: str) -> list[str]:
    return [code for _, found, code in CODE.findall(path.read_text(encoding="utf-8")) if found == language]


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    text = CODE.sub("", reference.filled(path.read_text(encoding="utf-8")))
    titles = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES, README], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    wrong = []
    for link in LINK.findall(prose(path)):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        # What is outside of docs/ is not on the site.
        outside = path.parent == DOCS and DOCS.resolve() not in target.parents
        if not target.exists() or outside or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_in_the_contents():
    listed = {name for block in blocks(DOCS / "index.md", "{toctree}") for name in block.split("\n")}
    assert {path.stem for path in PAGES} - {"index"} <= listed


@pytest.mark.parametrize("picture", sorted((DOCS / "pictures").glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_brings_its_own_ground_and_says_what_it_shows(picture):
    """So that it can be read on a dark page as well as on a light one, and by who does not see it."""
    text = picture.read_text(encoding="utf-8")
    assert '<rect x="1" y="1"' in text
    assert 'fill="#ffffff"' in text.split("<rect", 2)[1]
    assert "<title" in text
    assert f"pictures/{picture.name}" in "".join(path.read_text(encoding="utf-8") for path in PAGES)


@pytest.mark.parametrize("kind", [Experiment, HardwareProfile, SpaceDefinition])
def test_every_key_of_every_file_is_explained(kind):
    dumb = [key.name for block in reference.blocks(kind) for key in block.keys if not key.meaning]
    assert dumb == []


def test_the_reference_has_every_key_that_a_file_may_have():
    def keys(values, name=""):
        for key, value in values.items():
            yield f"{name}{key}"
            if isinstance(value, dict):
                yield from keys(value, f"{name}{key}.")

    listed = {key.name for block in reference.blocks(Experiment) for key in block.keys}
    assert set(keys(yaml.safe_load(Experiment().to_yaml()))) <= listed


def test_the_reference_by_hand():
    said = {key.name: key for block in reference.blocks(Experiment) for key in block.keys}
    assert said["search.trials"].allowed == "whole number, ≥ 1"
    assert said["search.trials"].default == "`60`"
    assert said["regime.training.optimizer"].allowed == "`adamw` or `sgd`"
    assert said["regime.training.clip_norm"].allowed == "number or null, > 0"
    assert said["search.start_from"].allowed == "list of: path"
    assert said["search.target.value"].default == "must be given"
    assert "`max-probability`" in said["confidence"].allowed
    profile = {key.name: key for block in reference.blocks(HardwareProfile) for key in block.keys}
    assert profile["connection.ssh"].allowed == "text"
    assert profile["precision"].allowed == "`fp32`, `fp16` or `int8` or list of: `fp32`, `fp16` or `int8`"


def test_parts_are_listed_with_their_options():
    assert "| `conv` | `kernel: 3`, `stride: 1`, `channels: 1.0` |" in reference.filled(
        "<!-- parts: aebnas.branches.layers:LAYERS -->"
    )


@pytest.mark.parametrize("path", [*PAGES, README], ids=lambda path: path.name)
def test_experiments_and_profiles_in_pages_are_read_as_such(path):
    for code in blocks(path, "yaml"):
        values = yaml.safe_load(code)
        if "connection" in values:
            parse_settings(HardwareProfile, values, source=code)
        elif values.keys() <= Experiment.model_fields.keys() and "plugins" not in values:
            parse_settings(Experiment, values, source=code)


def run(folder: Path, *words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_own_parts_as_the_page_tells_them(tmp_path):
    page = DOCS / "extending.md"
    files: dict[str, list[str]] = {}
    for code in [*blocks(page, "python"), *blocks(page, "yaml")]:
        name, _, content = code.partition("\n")
        files.setdefault(name.removeprefix("# "), []).append(content)
    assert set(files) == {"my_parts.py", "my-space.yaml", "my-board.yaml", "mine.yaml"}
    for name, parts in files.items():
        (tmp_path / name).write_text("\n\n".join(parts))
    (commands,) = blocks(page, "sh")
    for line in commands.splitlines():
        assert line.startswith("aebnas ")
        main = "import sys; from aebnas.cli import main; sys.exit(main(sys.argv[1:]))"
        run(tmp_path, sys.executable, "-c", main, *line.split()[1:])
    assert (tmp_path / "mine-onnx" / "model.onnx").exists()


def test_choosing_as_the_page_tells_it(finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(finished.folder.path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in blocks(DOCS / "choosing.md", "python"):
        exec(compile(code, "choosing.md", "exec"), names)
    assert (tmp_path / "mine-onnx" / "model.onnx").exists()
    (target,) = blocks(DOCS / "choosing.md", "yaml")
    (tmp_path / "target.yaml").write_text(target)
    assert Experiment.from_yaml("target.yaml").search.target.min_accuracy == 0.9


def test_the_first_ten_minutes_name_commands_that_are_there(capsys):
    from aebnas import cli

    text = "".join(path.read_text(encoding="utf-8") for path in [*PAGES, README])
    shell = "".join(code for path in [*PAGES, README] for code in blocks(path, "sh"))
    named = {*re.findall(r"`aebnas ([a-z]+)", text), *re.findall(r"^aebnas ([a-z]+)", shell, re.MULTILINE)}
    assert {"search", "front", "export", "evaluate"} <= named
    for verb in sorted(named):
        assert cli.main([verb, "--help"]) == 0, verb
    capsys.readouterr()
