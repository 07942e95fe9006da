"""Imports go one way: from a floor of the design to the floors below it, and in no circles."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import aebnas

PACKAGE = Path(aebnas.__file__).parent
FLOORS = [
    {
        "errors",
        "files",
        "inputs",
        "plugins",
        "registry",
        "settings",
        "resources",
        "progress",
        "console",
        "locks",
        "processes",
        "claims",
        "hub",
    },
    {"data", "backbones", "branches", "exits", "devices", "sharing"},
    {"spaces", "network", "costs"},
    {"experiment", "experiment_compare", "experiment_search", "training", "export"},
    {"run_folder", "store", "sealed", "rebuild", "prepare", "run"},
    {"searching", "comparing", "diagnosing", "report", "starting", "completion"},
    {
        "cli_compare",
        "cli_dashboard",
        "cli_device",
        "cli_diagnose",
        "cli_doctor",
        "cli_init",
        "cli_list",
        "cli_search",
        "cli_worker",
    },
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The single files of these floors lean on each other, in no circles. Elsewhere neighbours know nothing of each other,
# but for these: an experiment holds the settings of its training, a report reads the study that a search wrote.
LEANING = (0, 4)
SIDEWAYS = {
    ("experiment", "training"),
    ("experiment", "experiment_compare"),
    ("experiment", "experiment_search"),
    ("report", "searching"),
    ("comparing", "searching"),
    ("report", "comparing"),
    ("diagnosing", "searching"),
    ("report", "diagnosing"),
    ("starting", "searching"),
    ("cli_search", "cli_worker"),
}
NO_TORCH = ["devices", "export/session.py", "export/evaluate.py", "exits"]
HEAVY = {"torch", "thop", "optuna", "onnx", "onnxruntime", "pandas", "matplotlib", "sklearn", "numpy"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources(where: Path = PACKAGE) -> list[Path]:
    return sorted(where.rglob("*.py")) if where.is_dir() else [where]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that ``path`` imports anywhere, in functions too; ``from a import b`` may mean a.b or a."""

    def found() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                assert node.module is not None
                yield from (f"{node.module}.{name.name}" for name in node.names)

    return tuple(found())


def rooms_imported(path: Path) -> set[str]:
    """The rooms other than its own that ``path`` imports from."""
    own = {module.split(".")[1] for module in imports(path) if module.split(".")[0] == "aebnas"}
    return own - {room_of(path)}


def test_every_room_has_a_floor():
    assert {room_of(path) for path in sources()} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("room", [room for rooms in FLOORS for room in sorted(rooms)])
def test_a_room_imports_only_from_below(room):
    wrong = []
    for path in sources():
        if room_of(path) == room:
            for other in rooms_imported(path):
                # A name of aebnas/__init__ itself, such as __version__, is on no floor.
                below = other == "__version__" or FLOOR.get(other, len(FLOORS)) < FLOOR[room]
                beside = FLOOR.get(other) == FLOOR[room] and (FLOOR[room] in LEANING or (room, other) in SIDEWAYS)
                if not below and not beside:
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert wrong == []


def test_rooms_import_each_other_in_no_circles():
    below = {room: set() for room in FLOOR}
    for path in sources():
        if room_of(path) in below:
            below[room_of(path)] |= rooms_imported(path) & set(FLOOR)
    while free := {room for room, needed in below.items() if not needed}:
        below = {room: needed - free for room, needed in below.items() if room not in free}
    assert below == {}


def test_modules_of_a_room_import_each_other_in_no_circles():
    names = {path: ".".join(("aebnas", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in sources()}
    known = set(names.values())

    def needed(path: Path) -> set[str]:
        both = {prefix for module in imports(path) for prefix in (module, module.rpartition(".")[0])}
        return both & known

    below = {name: needed(path) for path, name in names.items() if path != PACKAGE / "__init__.py"}
    while free := {name for name, modules in below.items() if not modules & set(below)}:
        below = {name: modules for name, modules in below.items() if name not in free}
    assert below == {}


def test_the_root_and_the_rooms_import_nothing_heavy():
    for path in sources():
        if path.name == "__init__.py":
            assert not {module.split(".")[0] for module in imports(path)} & HEAVY, path
            if path.parent != PACKAGE:
                assert imports(path) == (), f"{path} holds more than a docstring"


@pytest.mark.parametrize("where", NO_TORCH)
def test_what_runs_on_the_target_names_no_torch(where):
    """That none comes in through other modules is tested beside the sessions, by importing them."""
    for path in sources(PACKAGE / where):
        # The confidence modules and what decides by them are exported, not executed there.
        if path not in (PACKAGE / "exits" / "confidence.py", PACKAGE / "exits" / "decision.py"):
            assert not {module.split(".")[0] for module in imports(path)} & {"torch", "thop"}, path


def test_what_is_copied_to_the_target_is_self_contained():
    """Standard library, numpy, onnxruntime and itself; and syntax that Python 3.8 reads."""
    for path in sources(PACKAGE / "devices" / "target"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
        own = {module for module in imports(path) if module.split(".")[0] == "aebnas"}
        assert all(module.startswith("aebnas.devices.target.") for module in own), path
        others = {module.split(".")[0] for module in imports(path)} - {"aebnas", "numpy", "onnxruntime"}
        assert others <= sys.stdlib_module_names, path


def test_the_public_names_are_all_there():
    assert sorted(aebnas.__all__) == sorted(aebnas._HOMES)
    for name in aebnas.__all__:
        assert getattr(aebnas, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        aebnas.serach
