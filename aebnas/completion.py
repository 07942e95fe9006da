"""What a shell offers to complete a word with. Nothing here imports torch: who presses Tab waits for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import typer

from aebnas.costs.kinds import BY_LIMIT, COSTS
from aebnas.resources import resource_names

_PACKAGE = Path(__file__).resolve().parent
ACCELERATORS = ("auto", "cpu", "cuda", "mps")
# Where each kind of plug-in is registered, and by which registry.
_REGISTRIES = {
    "regimes": ("training", "REGIMES"),
    "weightings": ("training", "WEIGHTINGS"),
    "confidences": ("exits", "CONFIDENCES"),
    "backbones": ("backbones", "BACKBONES"),
    "datasets": ("data", "DATASETS"),
}
# What is written in a folder by a search, and by an export.
_RUN, _EXPORT = "experiment.yaml", "manifest.json"


def registered(kind: str) -> list[str]:
    """Return the names of one kind of plug-in, read off the sources: importing the registry would import torch."""
    room, registry = _REGISTRIES[kind]
    added = re.compile(rf"\b{registry}\.add\(\s*\"([^\"]+)\"")
    texts = (path.read_text(encoding="utf-8") for path in sorted((_PACKAGE / room).glob("*.py")))
    # Forms such as torchvision:NAME are no words that could be completed.
    return list(dict.fromkeys(name for text in texts for name in added.findall(text) if ":" not in name))


def profiles(incomplete: str) -> list[str]:
    """Return the hardware profiles that come with aebnas; the shell adds files."""
    return _beginning(resource_names("hardware_profiles"), incomplete)


def spaces(incomplete: str) -> list[str]:
    """Return the search spaces that come with aebnas; the shell adds files."""
    return _beginning(resource_names("search_spaces"), incomplete)


def accelerators(incomplete: str) -> list[str]:
    """Return what may be trained on."""
    return _beginning(ACCELERATORS, incomplete)


def costs(incomplete: str) -> list[str]:
    """Return the costs that a search can keep low."""
    return _beginning(COSTS, incomplete)


def limits(incomplete: str) -> list[str]:
    """Return the keys that a limit can be set for, with their equals signs."""
    return _beginning((f"{key}=" for key in BY_LIMIT), incomplete)


def backbones(incomplete: str) -> list[str]:
    """Return the backbones that come with aebnas."""
    return _beginning(registered("backbones"), incomplete)


def datasets(incomplete: str) -> list[str]:
    """Return the data sets that are known by name; the shell adds files."""
    return _beginning(registered("datasets"), incomplete)


def regimes(incomplete: str) -> list[str]:
    """Return the regimes, after the commas of a list too."""
    return _listed(registered("regimes"), incomplete)


def confidences(incomplete: str) -> list[str]:
    """Return the confidences, after the commas of a list too."""
    return _listed(registered("confidences"), incomplete)


def weightings(incomplete: str) -> list[str]:
    """Return the weightings of exits, after the commas of a list too."""
    return _listed(registered("weightings"), incomplete)


def run_folders(incomplete: str) -> list[str]:
    """Return the folders of runs: here, below runs/, and beside what is typed."""
    return _folders(incomplete, _RUN)


def export_folders(incomplete: str) -> list[str]:
    """Return the folders of exported networks: here, below runs/, and beside what is typed."""
    return _folders(incomplete, _EXPORT)


def results(incomplete: str) -> list[str]:
    """Return the folders of runs and of exported networks."""
    return sorted({*run_folders(incomplete), *export_folders(incomplete)})


def points(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the front of the run that is named on the command line."""
    # While the value of an option is missing, nothing before it is told apart: it is all in args.
    words = [ctx.params.get("run_dir"), ctx.params.get("folder"), *ctx.args]
    fronts = (Path(str(word)) / "front.json" for word in words if word is not None)
    try:
        rows = json.loads(next(front for front in fronts if front.is_file()).read_text(encoding="utf-8"))
        return _beginning((str(row["id"]) for row in rows), incomplete)
    except (StopIteration, OSError, ValueError, KeyError, TypeError):
        return []


def _listed(names: Iterable[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(names, last)]


def _folders(incomplete: str, holding: str) -> list[str]:
    head, _ = os.path.split(incomplete)
    below = [Path(head)] if head else [Path(), Path("runs")]
    # glob finds nothing in what is not there or cannot be read.
    found = [str(file.parent) for parent in below for file in sorted(parent.glob(f"*/{holding}"))]
    return _beginning([*found, *([incomplete] if (Path(incomplete) / holding).is_file() else [])], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
