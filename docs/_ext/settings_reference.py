"""Tables of every key of a YAML file, made from the settings classes that read it.

In a page, the line ``<!-- settings: package.module:Class -->`` becomes tables of the class's keys, and the line
``<!-- parts: package.module:REGISTRY -->`` one of what is registered there, with its options.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aebnas.settings import Settings

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARK = re.compile(r"^<!-- (settings|parts): ([\w.]+):(\w+) -->$", re.MULTILINE)
_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Any: "anything"}
_BOUNDS = {
    "ge": "≥ {}",
    "gt": "> {}",
    "le": "≤ {}",
    "lt": "< {}",
    "min_length": "at least {}",
    "max_length": "at most {}",
}
_KEYS = "keys"
# Names that are looked up elsewhere: what may stand at these keys is known there.
_NAMES = {
    "accelerator": "aebnas.training.accelerator:CHOICES",
    "backbone.name": "aebnas.backbones.build:BACKBONES",
    "compare.cost": "aebnas.costs.kinds:COSTS",
    "confidence": "aebnas.exits.confidence:CONFIDENCES",
    "data.name": "aebnas.data.load:DATASETS",
    "device": "aebnas.devices.profile:list_profiles",
    "regime.name": "aebnas.training.regimes:REGIMES",
    "regime.weighting": "aebnas.training.objective:WEIGHTINGS",
    "search.target.cost": "aebnas.costs.kinds:COSTS",
    "space": "aebnas.spaces.definition:space_names",
}


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, what may stand there, its default as YAML and what it means."""

    name: str
    allowed: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Block:
    """Keys that stand together under ``name``, which is empty at the top of the file."""

    name: str
    meaning: str
    keys: tuple[Key, ...]


def blocks(kind: type[Settings], name: str = "") -> Iterator[Block]:
    """Yield the block that ``kind`` reads and then, depth first, those inside it."""
    # A class that changes a default of its base says no more of it than the base does.
    described = {key: text for base in reversed(kind.__mro__) for key, text in described_in(base).items()}
    fields = {key: field for key, field in kind.model_fields.items() if not field.exclude}
    keys = [_key(f"{name}.{key}".lstrip("."), field, described.get(key, "")) for key, field in fields.items()]
    yield Block(name, summary(kind), tuple(keys))
    for key, field in fields.items():
        for inner in settings_in(field.annotation):
            yield from blocks(inner, f"{name}.{key}".lstrip("."))


def settings_in(annotation: Any) -> list[type[Settings]]:
    """Return the settings classes that ``annotation`` is or has among its forms."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [inner for option in get_args(annotation) for inner in settings_in(option)]


def allowed(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Say in words what ``annotation`` takes within the bounds of ``metadata``."""
    plain = [one for given in metadata for one in (given.metadata if isinstance(given, FieldInfo) else [given])]
    bounds = [text.format(getattr(one, key)) for one in plain for key, text in _BOUNDS.items() if hasattr(one, key)]
    words = _words(annotation)
    return f"{words}, {' and '.join(bounds)}" if bounds else words


def _words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in _FORMS:
        return _FORMS[origin](get_args(annotation))
    if settings_in(annotation):
        return _KEYS
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    raise TypeError(f"no words for {annotation!r}: teach them to {__file__}")


def _any_of(options: tuple[Any, ...]) -> str:
    words = [_words(option) for option in options if option is not type(None)]
    if "number" in words:
        words = [word for word in words if word != "whole number"]
    return either(words + ["null"] * (type(None) in options))


_FORMS: dict[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: lambda inside: allowed(inside[0], inside[1:]),
    Literal: lambda values: either([f"`{value}`" for value in values]),
    Union: _any_of,
    types.UnionType: _any_of,
    tuple: lambda inside: f"list of: {_words(inside[0])}",
    list: lambda inside: f"list of: {_words(inside[0])}",
    dict: lambda inside: f"by name: {_words(inside[1])}",
}


def either(words: list[str]) -> str:
    """Join words as alternatives."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _key(name: str, field: FieldInfo, described: str) -> Key:
    words = allowed(field.annotation, field.metadata)
    if name in _NAMES:
        words += f": {', '.join(f'`{known}`' for known in _known(_NAMES[name]))}"
    inner = settings_in(field.annotation)
    words = words.replace(_KEYS, f"[keys](#{name.replace('.', '')})")
    meaning = described or (summary(inner[0]) if inner else "")
    return Key(name, words, _default(field), meaning)


def _known(where: str) -> Iterable[str]:
    found = _named(*where.split(":"))
    return found() if callable(found) else found  # type: ignore[no-any-return]


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "must be given"
    if isinstance(default, Settings):
        return ""
    plain = list(default) if isinstance(default, tuple) else default
    if plain == "":
        return "empty"
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f"`{text}`"


def summary(thing: Any) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")


def described_in(kind: type) -> dict[str, str]:
    """Return what a class says of each of its keys, in their descriptions or under ``Attributes`` or ``Args``."""
    found: dict[str, str] = {}
    for section in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        title, _, rest = section.partition("\n")
        if title in ("Attributes:", "Args:"):
            for entry in re.split(r"\n(?=    \w)", rest):
                name, colon, text = entry.strip().partition(":")
                if colon:
                    found[name] = " ".join(text.split()).replace("``", "`")
    fields: dict[str, FieldInfo] = getattr(kind, "model_fields", {})
    return found | {name: field.description for name, field in fields.items() if field.description}


def settings_text(kind: type[Settings]) -> str:
    """Return the tables of every block of ``kind`` as Markdown."""
    parts = []
    for block in blocks(kind):
        if block.name:
            parts.append(f"### `{block.name}`\n\n{block.meaning}")
        rows = [(f"`{key.name}`", key.allowed, key.default, key.meaning) for key in block.keys]
        parts.append(table(("key", "takes", "default", "what it is"), rows))
    return "\n\n".join(parts)


def parts_text(registry: Any) -> str:
    """Return a table of what is in ``registry`` (name -> factory), with the options of each, as Markdown."""
    rows = []
    for name in registry:
        options = [
            p for p in inspect.signature(registry[name], eval_str=True).parameters.values() if p.kind is p.KEYWORD_ONLY
        ]
        said = ", ".join(f"`{option.name}: {option.default}`" for option in options)
        rows.append((f"`{name}`", said, summary(registry[name])))
    return table(("kind", "options and defaults", "what it is"), rows)


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


_MAKERS: dict[str, Callable[[Any], str]] = {"settings": settings_text, "parts": parts_text}


def filled(text: str) -> str:
    """Return a page with tables in the place of its marks."""
    return _MARK.sub(lambda mark: _MAKERS[mark[1]](_named(mark[2], mark[3])), text)


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
