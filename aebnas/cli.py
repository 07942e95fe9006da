"""The command line: verbs to functions."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from aebnas.cli_compare import compare
from aebnas.cli_dashboard import dashboard
from aebnas.cli_device import device_app
from aebnas.cli_diagnose import diagnose
from aebnas.cli_doctor import doctor
from aebnas.cli_init import check, init
from aebnas.cli_list import list_names
from aebnas.cli_search import search
from aebnas.cli_worker import worker
from aebnas.completion import export_folders, points, profiles, run_folders
from aebnas.console import DataDir, err, out, quoted, say
from aebnas.errors import AebnasError, InputError, RunError

try:
    from typer import TyperException as UsageProblem
except ImportError:  # typer brought its own exceptions when it stopped using click
    from click import ClickException as UsageProblem  # type: ignore[no-redef, assignment, import-not-found, unused-ignore]

# torch takes a second to import: verbs import what they need, so that --help and mistakes answer at once.
app = typer.Typer(no_args_is_help=True, add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.add_typer(device_app, name="device")

RunDir = Annotated[
    Path,
    typer.Argument(help="The folder that `aebnas search` wrote.", metavar="RUN_DIR", autocompletion=run_folders),
]
_ABOUT = """Find exit branches that make a trained classifier faster on a device without losing accuracy.

[bold]aebnas search[/bold] runs the embedded example on the digits data set; [bold]aebnas init[/bold] writes an
experiment for your own model, data and device. The other verbs work on the run folder of a search, or on the network
that was exported from it. [bold]aebnas doctor[/bold] says what is missing here.

Example: [bold]aebnas search && aebnas export runs/digits --out digits-onnx && aebnas evaluate digits-onnx[/bold]
"""
EXIT_INPUT, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 130


def flowing(text: str | None) -> str:
    """Return a docstring whose paragraphs are single lines, so that help wraps where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


@app.callback(help=flowing(_ABOUT))
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and what is logged.")] = False,
) -> None:
    """Set up what is logged; what the program is for, its help says."""
    logging.basicConfig(level=logging.INFO if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")


app.command()(init)
app.command()(check)
app.command()(search)


@app.command()
def front(
    run_dir: RunDir,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Print the Pareto front of a run, with the static backbone and truncated networks beside it.

    Example: [bold]aebnas front runs/digits --format json[/bold]

    Next: [bold]aebnas export runs/digits --out DIR --pick ID[/bold] writes one of them as ONNX files.
    """
    from aebnas.report.table import front_csv, front_json, print_front
    from aebnas.run import Run

    run = Run(run_dir)
    if format == "table":
        print_front(run, out)
    else:
        sys.stdout.write(front_csv(run) if format == "csv" else front_json(run))


@app.command()
def export(
    run_dir: RunDir,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write, created when missing.")],
    pick: Annotated[
        str | None, typer.Option(help="Id of a point; `aebnas front` lists them.", autocompletion=points)
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="The most accurate point within this mean.")] = None,
    max_macs_m: Annotated[float | None, typer.Option(help="The most accurate point within these million MACs.")] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="The cheapest point with this validation accuracy, 0 to 1.")
    ] = None,
) -> None:
    """Write one point of the front as ONNX files; by default the cheapest that keeps the backbone's accuracy.

    Example: [bold]aebnas export runs/digits --out digits-onnx --max-latency-ms 0.2[/bold]

    Next: [bold]aebnas evaluate digits-onnx[/bold] measures it beside the static backbone.
    """
    from aebnas.export.samples import SAMPLES
    from aebnas.progress import ConsoleProgress
    from aebnas.report.worth import say_worth
    from aebnas.run import Run

    run = Run(run_dir)
    if pick is not None and (max_latency_ms, max_macs_m, min_accuracy) != (None, None, None):
        raise InputError("--pick names one point: leave out --max-latency-ms, --max-macs-m and --min-accuracy")
    point = run.pick(pick, max_latency_ms=max_latency_ms, max_macs_m=max_macs_m, min_accuracy=min_accuracy)
    path = run.export(point, out_dir, progress=ConsoleProgress(err))
    what = "is a static network, without an early exit" if point["static"] else "exits by itself"
    out.print(
        f"{point['id']} is in {path}: model.onnx {what}, manifest.json says how to feed it",
        soft_wrap=True,
        markup=False,
    )
    # The point is written, whatever else of the front cannot be read.
    with contextlib.suppress(RunError):
        say_worth(run, out, str(point["id"]))
    # Exports of runs from before there were samples have none.
    if (path / SAMPLES).is_dir():
        samples = f"Samples that run it in Python, JavaScript, C++ and on a web page: {path / SAMPLES}"
        out.print(samples, soft_wrap=True, markup=False)
    out.print(f"Next: [bold]aebnas evaluate {quoted(path)}[/bold]", soft_wrap=True)


@app.command()
def evaluate(
    export_dir: Annotated[
        Path,
        typer.Argument(help="What `aebnas export` wrote.", metavar="EXPORT_DIR", autocompletion=export_folders),
    ],
    data: Annotated[
        str | None, typer.Option(help="A data set's name, an .npz file or an image folder; its own by default.")
    ] = None,
    data_dir: DataDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many test samples, drawn over all classes.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="onnxruntime execution provider; the one it was exported for by default.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="A hardware profile's name or file: measure there; on this machine by default.",
            autocompletion=profiles,
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Tell recall, exit shares and mean latency of every class, too.")
    ] = False,
    uint8: Annotated[
        bool,
        typer.Option(
            "--uint8",
            help="Run model_uint8.onnx on raw pixels; the backbone, too, prepares them itself and is timed so.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure an exported network on its test split, interleaved with its static backbone.

    Balanced is the accuracy in which every class counts the same: the mean of the classes' own.

    Example: [bold]aebnas evaluate digits-onnx --json[/bold]

    Example: [bold]aebnas evaluate digits-onnx --per-class[/bold]

    Example: [bold]aebnas evaluate digits-onnx --uint8[/bold]

    Next: [bold]aebnas device measure digits-onnx[/bold] says where its time goes.
    """
    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile
    from aebnas.export.evaluate import evaluate_export
    from aebnas.export.manifest import read_manifest
    from aebnas.export.source import test_images
    from aebnas.report.classes import evaluated_classes
    from aebnas.report.evaluation import evaluation_table

    if device is not None and provider is not None:
        raise InputError("--device names a profile with its own provider: leave out --provider")
    target = contextlib.nullcontext() if device is None else Device(load_profile(device), say=say)
    images, labels = test_images(read_manifest(export_dir), data=data, data_dir=data_dir, say=say)
    with target as there:
        result = evaluate_export(export_dir, images, labels, limit=limit, provider=provider, device=there, pixels=uint8)
    if as_json:
        sys.stdout.write(json.dumps(result.to_json(per_class=per_class)) + "\n")
    else:
        out.print(evaluation_table(result))
        if per_class:
            out.print(evaluated_classes(result))


app.command()(worker)
app.command("compare")(compare)
app.command()(diagnose)


@app.command()
def plot(run_dir: RunDir) -> None:
    """Draw the plots of a run into RUN_DIR/plots.

    Example: [bold]aebnas plot runs/digits[/bold]

    Next: [bold]aebnas report runs/digits[/bold] puts them on one page with the tables.
    """
    from aebnas.report.draw import draw_all
    from aebnas.run import Run

    run = Run(run_dir)
    for path in draw_all(run, run.folder.plots):
        out.print(str(path), soft_wrap=True, markup=False)


@app.command()
def report(run_dir: RunDir) -> None:
    """Write RUN_DIR/report.html, one self-contained page.

    Example: [bold]aebnas report runs/digits[/bold]

    Next: open it in a browser; [bold]aebnas export runs/digits --out DIR[/bold] writes what it recommends.
    """
    from aebnas.report.html import write_report
    from aebnas.run import Run

    out.print(str(write_report(Run(run_dir), run_dir / "report.html")), soft_wrap=True, markup=False)


app.command()(dashboard)
app.command("list")(list_names)
app.command()(doctor)


for _verb in (*app.registered_commands, *device_app.registered_commands):
    _verb.help = flowing(_verb.callback.__doc__ if _verb.callback else None)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    # --debug works wherever it stands.
    given = [*(["--debug"] if debug else []), *(word for word in given if word != "--debug")]
    try:
        code = app(given, standalone_mode=False)
    except UsageProblem as error:
        err.print(f"[red]error:[/red] {escape(error.format_message())} (see aebnas --help)", soft_wrap=True)
        return EXIT_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except AebnasError as error:
        if debug:
            err.print_exception()
        err.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED
    if code == EXIT_INTERRUPTED:
        err.print("interrupted: the same command goes on where this one stopped")
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
