"""Where the command line prints to, and what its verbs have in common."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

# Into a file or a pipe a table may be wide: nobody folds it there.
_PIPED_WIDTH = 160
out = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPED_WIDTH)

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder that the data set's files lie in, or what data.path names, where that was moved."),
]


def quoted(path: Path | str) -> str:
    """Return ``path`` as it is written in a shell's command, as markup."""
    return escape(shlex.quote(str(path)))


def say(text: str) -> None:
    """Print a line about what goes on to stderr; names in it are no markup."""
    err.print(text, soft_wrap=True, markup=False)
