"""The base of every typed settings block that a YAML file is read into."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from aebnas.errors import InputError
from aebnas.registry import unknown_name


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys and values of the wrong type."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


# Where pydantic's own words would speak of Python to somebody who wrote YAML.
_PLAINLY = {
    "model_type": "must hold keys and values",
    "model_attributes_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be text, in quotes if it looks like a number",
    "invalid_key": "keys must be text, in quotes if they look like a number",
    "missing": "is missing",
}
S = TypeVar("S", bound=Settings)
# A key that takes several forms tells them apart by tags that begin so; they are no keys and stay out of messages.
FORM = "form:"


def parse_settings(kind: type[S], values: Any, *, source: str, error: type[InputError] = InputError) -> S:
    """Turn plain ``values`` into ``kind``; a wrong one raises ``error``, one sentence naming ``source`` and key."""
    if not isinstance(values, dict):
        raise error(f"{source} must hold keys and values, not {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except ValidationError as problem:
        raise error(f"{source}: {_first_problem(kind, problem)}") from None


def completed(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain ``values`` that an earlier version wrote of a ``kind``, with the defaults of keys that are new."""
    found = dict(values)
    for name, field in kind.model_fields.items():
        if name not in found and not field.is_required():
            found[name] = to_jsonable_python(field.get_default(call_default_factory=True))
        elif isinstance(found.get(name), dict):
            inner = [one for one in (field.annotation, *get_args(field.annotation)) if _is_model(one)]
            if len(inner) == 1:
                found[name] = completed(inner[0], found[name])
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def read_yaml(path: Path, *, error: type[InputError] = InputError) -> Any:
    """Read one YAML document; ``error`` names the file, and the line where it breaks."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} does not exist: check the path") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"cannot read {path}: {problem}") from None
    # safe_load lets the ValueError of a date or a number that is none through.
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        parts = [getattr(problem, "context", None), getattr(problem, "problem", None)]
        reason = ", ".join(part for part in parts if part) or str(problem).splitlines()[0]
        raise error(f"{path} is not valid YAML{where}: {reason}") from None


def _first_problem(kind: type[Settings], problem: ValidationError) -> str:
    first = problem.errors()[0]
    location = [part for part in map(str, first["loc"]) if not part.startswith(FORM)]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        return unknown_name("key", key, _sibling_keys(kind, location))
    message = _PLAINLY.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    given = (
        ""
        if first["type"] in ("missing", "invalid_key") or isinstance(first.get("input"), (dict, BaseModel))
        else f" (got {first.get('input')!r})"
    )
    # What a validator of several keys says begins with the one it means.
    return f"{message}{given}" if message.startswith(key) else f"{key}: {message}{given}"


def _sibling_keys(kind: type[Settings], location: list[str]) -> list[str]:
    fields, prefix = kind.model_fields, location[:-1]
    for part in prefix:
        annotation = fields[part].annotation if part in fields else None
        inner = _settings_in(annotation)
        if inner is None:
            return []
        fields = inner.model_fields
    return [".".join([*prefix, name]) for name, field in fields.items() if not field.exclude]


def _settings_in(annotation: Any) -> type[Settings] | None:
    """Return the settings block that ``annotation`` is, or offers among other forms."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (_settings_in(option) for option in getattr(annotation, "__args__", ()))
    return next((inner for inner in found if inner is not None), None)
