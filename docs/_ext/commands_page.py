"""Writes the reference in docs/commands.md from the commands themselves: ``python docs/_ext/commands_page.py``.

What stands above the line MARK is written by hand and stays. A test fails where the page is behind the commands.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

PAGE = Path(__file__).parent.parent / "commands.md"
MARK = "<!-- From here on: python docs/_ext/commands_page.py -->"
_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True)
class Parameter:
    """An argument or an option: how it is written, what it is for, what holds without it."""

    words: str
    help: str
    default: str


@dataclass(frozen=True)
class Command:
    """A verb, or a group of verbs.

    Args:
        words: To be typed.
        below: Words of the verbs of a group.
    """

    words: str
    help: str
    parameters: tuple[Parameter, ...] = ()
    below: tuple[str, ...] = ()


def commands(app: typer.Typer, words: str = "aebnas") -> Iterator[Command]:
    """Yield ``app`` itself, every verb, and every group followed by its verbs."""
    below = [str(verb.name or verb.callback.__name__) for verb in app.registered_commands if verb.callback]
    below += [str(group.name) for group in app.registered_groups]
    root = app.registered_callback
    own = _parameters(root.callback) if root and root.callback else ()
    text = (root.help if root and isinstance(root.help, str) else None) or app.info.help
    yield Command(words, str(text or ""), own, tuple(f"{words} {name}" for name in below))
    for verb in app.registered_commands:
        assert verb.callback is not None
        name = verb.name or verb.callback.__name__
        text = verb.help or inspect.getdoc(verb.callback) or ""
        yield Command(f"{words} {name}", text, _parameters(verb.callback))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{words} {group.name}")


def page(app: typer.Typer, head: str) -> str:
    """Return the page: ``head`` up to the mark, and a section for every command."""
    parts = [head.partition(MARK)[0].rstrip(), MARK]
    for command in commands(app):
        parts += _section(command)
    return "\n\n".join(parts) + "\n"


def _section(command: Command) -> Iterator[str]:
    yield f"## {command.words}"
    for paragraph in re.split(r"\n\s*\n", command.help.strip()):
        yield _plain(" ".join(paragraph.split()))
    if command.below:
        yield "\n".join(f"- [{words}](#{words.replace(' ', '-')})" for words in command.below)
    if command.parameters:
        rows = (f"| {one.words} | {_cell(one.help)} | {one.default} |" for one in command.parameters)
        yield "\n".join(["| | | default |", "|---|---|---|", *rows])


def _parameters(callback: Callable[..., Any]) -> tuple[Parameter, ...]:
    hints = get_type_hints(callback, include_extras=True)
    defaults = inspect.signature(callback).parameters
    return tuple(_parameter(name, hints[name], defaults[name].default) for name in defaults)


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    kind, info = get_args(hint)
    kind, several = _plain_kind(kind)
    more = " ..." if several else ""
    if isinstance(info, ArgumentInfo):
        words = f"`{info.metavar or _values(kind)}`{more}"
    else:
        assert isinstance(info, OptionInfo)
        # In Annotated the first of its own names stands where a default would.
        named = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
        flags = sorted(named or [f"--{name.replace('_', '-')}"], key=len, reverse=True)
        value = "" if kind is bool else f" {info.metavar or _values(kind)}"
        words = f"`{', '.join(flags)}{value}`{more}"
    told = "" if default in (None, False) else f"`{default}`"
    told = "required" if default is inspect.Parameter.empty else told
    return Parameter(words.replace("|", "\\|"), str(info.help or ""), told)


def _plain_kind(kind: Any) -> tuple[Any, bool]:
    """Return a type without ``None`` and without its list, and whether there was one."""
    options = [option for option in get_args(kind) if option is not type(None)]
    if options and type(None) in get_args(kind):
        return _plain_kind(options[0])
    return (options[0], True) if get_origin(kind) is list else (kind, False)


def _values(kind: Any) -> str:
    return "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _METAVARS[kind]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return help as markdown: commands, which are bold there, as code."""
    return re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text).replace("\\[", "[")


def main() -> None:
    """Write the page."""
    from aebnas.cli import app

    PAGE.write_text(page(app, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
