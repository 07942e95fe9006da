"""The verb `aebnas worker`, and the options that say where the processes of a search meet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aebnas.completion import accelerators, run_folders
from aebnas.console import DataDir, err, out

if TYPE_CHECKING:
    from aebnas.run_folder import RunFolder
    from aebnas.searching.study import Address

_STORAGE_HELP = (
    "search.storage: URL of the study's database, postgresql://USER:PASSWORD@HOST/DATABASE say. A password is kept "
    "nowhere: give it again, here or in AEBNAS_STORAGE."
)
Storage = Annotated[str | None, typer.Option(help=_STORAGE_HELP, envvar="AEBNAS_STORAGE", show_envvar=False)]
Artifacts = Annotated[
    str | None,
    typer.Option(help="search.artifacts: folder or s3://BUCKET/PREFIX that machines without a common disk share."),
]
Study = Annotated[
    str | None, typer.Option(help="search.study: its name in that database; the experiment's name by default.")
]


def worker(
    run_dir: Annotated[
        Path,
        typer.Argument(
            help="The folder of the search, or one of this machine's own with --storage.",
            metavar="RUN_DIR",
            autocompletion=run_folders,
        ),
    ],
    storage: Annotated[str | None, typer.Option(help=_STORAGE_HELP)] = None,
    artifacts: Artifacts = None,
    study: Study = None,
    data_dir: DataDir = None,
    accelerator: Annotated[
        str | None, typer.Option(help="accelerator: auto, cpu, cuda or mps.", autocompletion=accelerators)
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that it trains with; all by default.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a search that has not begun.")] = 0.0,
) -> None:
    """Help a search that runs elsewhere: on this machine, on the same disk, or through a database and shared files.

    Example: [bold]aebnas worker runs/digits[/bold]

    On another machine: [bold]aebnas worker /tmp/digits --study digits --artifacts s3://bucket/prefix --wait 600[/bold]
    """
    import torch

    from aebnas.progress import ConsoleProgress
    from aebnas.run_folder import RunFolder
    from aebnas.searching.worker import Helped, help_search, once_begun

    if threads is not None:
        torch.set_num_threads(threads)
    folder, progress = RunFolder(run_dir), ConsoleProgress(err)
    own = {"accelerator": accelerator}

    def help_it() -> Helped:
        address = _address(folder, storage, artifacts, study)
        return help_search(folder, address, own=own, data_dir=data_dir, progress=progress)

    helped = once_begun(
        help_it,
        wait_s=wait,
        say=progress.say,
    )
    out.print(f"{helped.trials} trials run here.", soft_wrap=True)
    if helped.closed:
        out.print("The search is finished: the run folder of the process that led it holds the front.", soft_wrap=True)
    elif helped.led:
        out.print("There is nothing left to help with: the search verifies its finalists now.", soft_wrap=True)
    else:
        out.print("The process that led the search is gone: run the same `aebnas search` again.", soft_wrap=True)


def _address(folder: RunFolder, storage: str | None, artifacts: str | None, study: str | None) -> Address:
    """Return where the search meets, by the options or by what the folder says."""
    from aebnas.errors import InputError
    from aebnas.searching.meeting import NoSearch
    from aebnas.searching.study import STORAGE_VARIABLE, Address

    if folder.experiment_file.exists():
        kept = folder.experiment()
        if storage is not None and kept.search.storage is None:
            raise InputError(f"the search in {folder.path} keeps its study there: leave out --storage")
        here = Address.of(folder, kept, storage)
        return Address(here.url, study or here.study, artifacts or here.artifacts)
    url = storage or os.environ.get(STORAGE_VARIABLE)
    if url is None:
        raise NoSearch(
            f"{folder.path} holds no run: give the folder of a search, or with --storage and --artifacts a new one"
        )
    if study is None:
        raise InputError("--study is missing: give the name of the search's experiment, or its search.study")
    return Address(url, study, artifacts)
