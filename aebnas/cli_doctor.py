"""The verb `aebnas doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from aebnas import completion
from aebnas.console import out

_BROKEN = 1


def doctor(
    run_dir: Annotated[
        Path,
        typer.Option(help="Where runs are to be kept: is there room?", autocompletion=completion.run_folders),
    ] = Path("runs"),
    devices: Annotated[
        bool, typer.Option("--devices", help="Also try to reach every device that has a profile.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at this installation: versions, accelerators, disk, extras, data sets, devices, and what does not fit.

    Exit code 0 if a search can run, 1 if something that it needs is missing or broken; what is only worth knowing
    changes nothing.

    Example: [bold]aebnas doctor[/bold]

    Example: [bold]aebnas doctor --devices --json[/bold]

    Next: [bold]aebnas init[/bold] writes an experiment and tries it out.
    """
    from aebnas.starting.doctor import examine
    from aebnas.starting.health import print_health

    health = examine(run_dir, devices=devices)
    if as_json:
        sys.stdout.write(json.dumps(health.to_json()) + "\n")
    else:
        print_health(health, out)
    if not health.ok:
        raise typer.Exit(_BROKEN)
