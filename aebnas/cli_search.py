"""The verb `aebnas search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aebnas import completion
from aebnas.cli_worker import Artifacts, Storage, Study
from aebnas.console import DataDir, err, out, quoted
from aebnas.errors import InputError


def search(
    experiment: Annotated[
        Path | None,
        typer.Argument(help="The experiment file; the embedded digits example by default.", metavar="EXPERIMENT.yaml"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Where everything is kept; runs/NAME by default.", autocompletion=completion.run_folders),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="search.trials: how many networks to sample.")] = None,
    timeout: Annotated[float | None, typer.Option(help="search.timeout: seconds after which no trial starts.")] = None,
    device: Annotated[
        str | None, typer.Option(help="device: a hardware profile's name or file.", autocompletion=completion.profiles)
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            help="search.objectives: a cost to keep low beside accuracy: latency_ms, macs ...; repeat for several.",
            autocompletion=completion.costs,
        ),
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(
            help="search.limits: latency_p95_ms=1.5, model_mib=2 ...; repeat for several.",
            metavar="KEY=MAX",
            autocompletion=completion.limits,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="search.workers: processes that run trials; threads are divided among them.")
    ] = None,
    storage: Storage = None,
    artifacts: Artifacts = None,
    study: Study = None,
    data_dir: DataDir = None,
    accelerator: Annotated[
        str | None, typer.Option(help="accelerator: auto, cpu, cuda or mps.", autocompletion=completion.accelerators)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="seed: of the splits, the weights and the sampler.")] = None,
) -> None:
    """Search, verify the finalists, print the front. The same command goes on with an interrupted search.

    [bold]aebnas init[/bold] writes an experiment file. While it runs, [bold]aebnas worker[/bold] helps it from other
    processes and machines, and [bold]aebnas dashboard[/bold] shows its trials.

    Example: [bold]aebnas search experiments/fashion-mnist.yaml --trials 80 --limits latency_p95_ms=0.4[/bold]

    Next: [bold]aebnas export RUN_DIR --out DIR[/bold] writes the network that is marked in the table.
    """
    from aebnas.data.placing import options_of
    from aebnas.experiment import Experiment
    from aebnas.progress import ConsoleProgress
    from aebnas.report.table import print_front
    from aebnas.searching.search import search as run_search

    base = Experiment.embedded() if experiment is None else Experiment.from_yaml(experiment)
    options = {
        "search.trials": trials,
        "search.timeout": timeout,
        "device": device,
        "search.objectives": ["accuracy", *objectives] if objectives else None,
        **_limits(limits or []),
        "search.workers": workers,
        "search.storage": storage,
        "search.artifacts": artifacts,
        "search.study": study,
        **options_of(base.data, data_dir),
        "accelerator": accelerator,
        "seed": seed,
    }
    run = run_search(base.override(options), run_dir=run_dir, progress=ConsoleProgress(err))
    print_front(run, out)
    # Only now: what draws would take 0.1 GiB all through the search.
    from aebnas.report.draw import draw_all

    draw_all(run, run.folder.plots)
    _say_next(run.folder.path, static=bool(run.pick()["static"]))


def _limits(given: list[str]) -> dict[str, float]:
    """Return KEY=MAX words as options of the experiment."""
    options = {}
    for word in given:
        key, _, value = word.partition("=")
        try:
            options[f"search.limits.{key}"] = float(value)
        except ValueError:
            raise InputError(f"--limits {word!r} is no KEY=MAX: write --limits latency_ms=0.5, say") from None
    return options


def _say_next(path: Path, *, static: bool) -> None:
    """Name the verbs that come next; where the pick is static, it has no exits to diagnose."""
    export = f"{path.name}-onnx"
    out.print("\nNext:", style="bold")
    for command, what in (
        (f"export {quoted(path)} --out {quoted(export)}", "the network marked in the table, as ONNX files"),
        (f"evaluate {quoted(export)}", "its accuracy and latency, measured beside the backbone's"),
        *([] if static else [(f"diagnose {quoted(path)}", "how well its exits know when to leave")]),
        (f"report {quoted(path)}", "everything on one page"),
    ):
        out.print(f"  [bold]aebnas {command}[/bold]  [dim]{what}[/dim]", soft_wrap=True)
    out.print(f"Plots are in {path / 'plots'}.", soft_wrap=True, markup=False)
