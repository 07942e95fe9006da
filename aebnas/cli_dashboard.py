"""The verb `aebnas dashboard`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from aebnas.completion import run_folders
from aebnas.console import out, say


def dashboard(
    run_dir: Annotated[
        Path,
        typer.Argument(help="The folder of a search, finished or not.", metavar="RUN_DIR", autocompletion=run_folders),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0 takes a port that is free.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Which network it listens on; 0.0.0.0 lets other machines look.")
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Look at the trials of a search in Optuna's dashboard, while it runs or afterwards; Ctrl-C ends it.

    It only reads, wherever the search keeps its study: a file in RUN_DIR, or a database (AEBNAS_STORAGE gives the
    password again). Needs the extra dashboard: pip install 'aebnas\\[dashboard]'.

    Example: [bold]aebnas dashboard runs/digits --open[/bold]

    Next: [bold]aebnas front runs/digits[/bold] prints the networks that are worth having.
    """
    from aebnas.report.dashboard import open_dashboard
    from aebnas.run_folder import RunFolder

    folder = RunFolder(run_dir)
    shown = open_dashboard(folder, folder.experiment(), host=host, port=port, say=say)
    out.print(f"The study is at {shown.url} until Ctrl-C.", soft_wrap=True, markup=False)
    if open_page:
        webbrowser.open(shown.url)
    try:
        shown.serve()
    except KeyboardInterrupt:
        # The way to end it, and no interruption of anything.
        out.print("stopped")
