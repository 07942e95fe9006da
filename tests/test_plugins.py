"""Parts of the user's own: found by name in a file, in this process and in others."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from aebnas.branches.layers import LAYERS
from aebnas.errors import ExperimentError
from aebnas.exits.confidence import CONFIDENCES
from aebnas.experiment import Experiment
from aebnas.plugins import load_plugins

PLUGIN = """\
from torch import nn

from aebnas.branches.layers import LAYERS
from aebnas.exits.confidence import CONFIDENCES, MaxProbability


@LAYERS.add("{name}")
def layer(shape):
    return nn.Identity()


@CONFIDENCES.add("{name}")
class Sure(MaxProbability):
    pass
"""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """What these tests register is forgotten."""
    for registry in (LAYERS, CONFIDENCES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.fixture
def plugin(tmp_path):
    def write(name):
        path = tmp_path / f"{name}.py"
        path.write_text(PLUGIN.format(name=name))
        return path

    return write


def run_python(code, *words):
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)


def test_what_a_file_registers_is_known_to_the_experiment_that_names_it(plugin, tmp_path, monkeypatch):
    path = plugin("of_a_file")
    (tmp_path / "mine.yaml").write_text("plugins: [of_a_file.py]\nconfidence: of_a_file\n")
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.from_yaml("mine.yaml")
    assert "of_a_file" in LAYERS
    # Absolute, so that the run can be gone on with from another folder. Loaded twice, it would be registered twice.
    assert experiment.plugins == (str(path),)
    assert experiment.override({"seed": 1}).plugins == (str(path),)


def test_a_module_is_imported_by_its_name(plugin, tmp_path, monkeypatch):
    plugin("of_a_module")
    monkeypatch.syspath_prepend(tmp_path)
    assert Experiment(plugins=("of_a_module",), confidence="of_a_module").confidence == "of_a_module"


def test_another_process_that_is_sent_the_experiment_has_its_parts(plugin, tmp_path):
    sent = tmp_path / "experiment.pickle"
    sent.write_bytes(pickle.dumps(Experiment(plugins=(str(plugin("sent")),))))
    code = (
        "import pickle, sys; from pathlib import Path; from aebnas.branches.layers import LAYERS; "
        "pickle.loads(Path(sys.argv[1]).read_bytes()); sys.exit('sent' not in LAYERS)"
    )
    done = run_python(code, sent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.py", None, r"plugins: .*nowhere\.py does not exist: check the path"),
        ("no_such_module_at_all", None, "plugins: cannot import 'no_such_module_at_all'"),
        ("broken.py", "1 / 0", "fails .ZeroDivisionError: division by zero.: repair that module"),
        ("wrong.py", "def", "fails .SyntaxError: .*: repair that module"),
        ("lacking.py", "import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(name, content, message, tmp_path):
    if name.endswith(".py"):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        name = str(path)
    with pytest.raises(ExperimentError, match=message):
        Experiment(plugins=(name,))


def test_a_file_that_failed_is_read_again_once_it_is_repaired(tmp_path):
    path = tmp_path / "repaired.py"
    path.write_text("1 / 0")
    with pytest.raises(ExperimentError):
        load_plugins([str(path)])
    path.write_text(PLUGIN.format(name="repaired"))
    load_plugins([str(path)])
    assert "repaired" in LAYERS


def test_a_word_in_place_of_a_list_is_a_mistake_in_the_key(tmp_path):
    (tmp_path / "mine.yaml").write_text("plugins: mine.py\n")
    with pytest.raises(ExperimentError, match="plugins: must be a list"):
        Experiment.from_yaml(tmp_path / "mine.yaml")
