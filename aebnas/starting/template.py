"""An experiment file that explains itself: the keys that matter with their values, all others as comments."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aebnas.devices.profile import list_profiles
from aebnas.exits.confidence import CONFIDENCES
from aebnas.experiment import Experiment
from aebnas.settings import Settings
from aebnas.spaces.definition import space_names
from aebnas.training.regimes import REGIMES

_WIDTH = 96
# A comparison of regimes is another story than a search; these come from Python.
_LEFT_OUT = ("compare", "model", "datasets")
# Told here: of the model nothing but their names is known, or what is known is for the reference.
_WORDS = {
    "name": "names the run folder too: runs/NAME",
    "seed": "of the splits, the weights and the sampler",
    "data": "The images: where they are, how they are split and prepared.",
    "backbone": "The trained classifier that exits are added to.",
    "data.name": "digits, fashion-mnist, npz, folder, csv, torchvision:NAME, huggingface, huggingface:NAME, or "
    "module:callable that gives torch Datasets",
    "backbone.name": "a built-in name (`aebnas list backbones`), torchvision:NAME, timm:NAME, "
    "package.module:callable, or folder",
    "backbone_training": "Trains the backbone where it comes without weights, or with a new classifier.",
    "backbone_training.epochs": "passes over the training images",
    "backbone_training.lr": "peak learning rate; small where the weights are pretrained",
    "attach": "Where exits may hang.",
    "*.batch_size": "images, or features of them, per step of the optimiser",
    "*.weight_decay": "of all weights that the optimiser moves",
    "*.class_weights": "none, or balanced: a sample's loss is multiplied by N / (classes x samples of its class)",
    "regime": "How branches are trained.",
    "regime.training": "For every candidate; finalists train for final_epochs.",
    "search": "How long to search, and for what.",
    "search.trials": "how many networks to sample; a search can be gone on with and more asked for",
}


def experiment_text(values: Mapping[str, Any], file: Path) -> str:
    """Return the text of an experiment file with ``values``, block by block.

    Lines such as ``#key: value`` are the defaults of all other keys: without their # they say what holds anyway.
    """
    head = [
        "# An experiment of aebnas, written by `aebnas init`.",
        f"#   aebnas check {file}    does it run? a minute or so",
        f"#   aebnas search {file}   the same command goes on where it was interrupted",
        "# Keys behind a # have their default here: take the # away to change one.",
    ]
    return "\n".join([*head, *_block(Experiment, values, ""), ""])


def _block(kind: type[Settings], values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, field in kind.model_fields.items():
        key = f"{prefix}{name}"
        if key in _LEFT_OUT:
            continue
        inner = _settings_in(field.annotation)
        given = values.get(name)
        if not prefix:
            yield ""
        yield from _comment(_about(kind, name, field, key), indent)
        if inner is not None and isinstance(given, Mapping):
            yield f"{indent}{name}:"
            yield from _block(inner, given, f"{key}.")
        elif name in values:
            yield f"{indent}{name}: {_flow(given)}"
        else:
            yield f"{indent}#{name}: {_flow(_default(field))}"


def _about(kind: type[Settings], name: str, field: FieldInfo, key: str) -> str:
    """Return what a key means and may be, as far as its own words do not say it."""
    inner = _settings_in(field.annotation)
    given = _WORDS.get(key) or _WORDS.get(f"*.{name}") or field.description or _documented(kind).get(name)
    text = given or (_first_line(inner) if inner is not None else "") or name.replace("_", " ")
    choices = _choices(key, field.annotation)
    missing = [choice for choice in choices if not re.search(rf"(?<![\w-]){re.escape(choice)}(?![\w-])", text)]
    return f"{text}: {', '.join(choices)}" if missing else text


def _choices(key: str, annotation: Any) -> list[str]:
    named: dict[str, Callable[[], list[str]]] = {
        "space": space_names,
        "device": list_profiles,
        "regime.name": lambda: list(REGIMES),
        "confidence": lambda: list(CONFIDENCES),
    }
    if key in named:
        return named[key]()
    options = [annotation, *get_args(annotation)]
    return [str(value) for option in options if get_origin(option) is Literal for value in get_args(option)]


def _documented(kind: type[Settings]) -> dict[str, str]:
    """Return what the sections Attributes and Args of a docstring say of each key."""
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return {key: _as_comment(text) for key, text in found.items()}


def _first_line(kind: type[Settings]) -> str:
    return _as_comment((kind.__doc__ or "").strip().partition("\n")[0])


def _as_comment(text: str) -> str:
    plain = text.rstrip(".").replace("``", "`")
    return plain[:1].lower() + plain[1:] if plain[1:2].islower() else plain


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _settings_in(annotation: Any) -> type[Settings] | None:
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, Settings):
            return option
    return None


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return None if value is PydanticUndefined else value


def _flow(value: Any) -> str:
    plain = value.model_dump(mode="json") if isinstance(value, Settings) else _plain(value)
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value
