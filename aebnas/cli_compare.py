"""The verb `aebnas compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from aebnas import completion
from aebnas.console import DataDir, err, out
from aebnas.errors import InputError

_STDOUT = Path("-")
# A part of what was asked for is missing.
_FAILED = 1


def compare(
    experiment: Annotated[
        Path | None,
        typer.Argument(help="The experiment file; the embedded digits example by default.", metavar="EXPERIMENT.yaml"),
    ] = None,
    regimes: Annotated[
        str | None,
        typer.Option(
            help="compare.variants: regimes, each NAME or NAME:key=value+key=value, with commas between; differences "
            "are to the first one.",
            metavar="A,B:KEY=VALUE,C",
            autocompletion=completion.regimes,
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="compare.seeds: of initialisation and batch order.")] = None,
    confidences: Annotated[
        str | None,
        typer.Option(
            help="Each variant with each of these, trained once.", metavar="A,B", autocompletion=completion.confidences
        ),
    ] = None,
    weightings: Annotated[
        str | None,
        typer.Option(
            help="Each variant that weighs its exits with each of these.",
            metavar="A,B",
            autocompletion=completion.weightings,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Each variant with each value of a setting; repeat for several.", metavar="KEY=V,V"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="compare.epochs: of every variant, its trained backbone included.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept; runs/NAME-compare by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, which share the threads.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures to this file too; - prints them.", metavar="FILE")
    ] = None,
    data_dir: DataDir = None,
    accelerator: Annotated[
        str | None, typer.Option(help="accelerator: auto, cpu, cuda or mps.", autocompletion=completion.accelerators)
    ] = None,
) -> None:
    """Train the same network under several regimes, with several seeds, and print what each is worth.

    The same command goes on with an interrupted comparison; more variants and seeds may be added to one.

    Example: [bold]aebnas compare --regimes disjoint,joint,cgt-soft:tau=0.8 --seeds 3[/bold]

    Next: set regime.name of the experiment to the best one, and search with it.
    """
    from aebnas.comparing.compare import compare as run_compare
    from aebnas.comparing.summary import summarise
    from aebnas.comparing.variants import crossed
    from aebnas.data.placing import check_data_dir, options_of
    from aebnas.experiment import Experiment
    from aebnas.files import write_text
    from aebnas.progress import ConsoleProgress
    from aebnas.report.comparison import comparison_json, print_comparison
    from aebnas.report.comparison_files import write_comparison

    base = Experiment.embedded() if experiment is None else Experiment.from_yaml(experiment)
    words = list(base.compare.variants) if regimes is None else _words(regimes)
    choices = _choices(confidences, weightings, settings or [])
    options: dict[str, Any] = {
        "compare.variants": crossed(words, choices, base),
        "compare.seeds": seeds,
        "compare.epochs": epochs,
        **options_of(base.data, data_dir),
        "accelerator": accelerator,
    }
    chosen = base.override(options)
    check_data_dir(chosen.data)
    found = run_compare(chosen, run_dir=run_dir, workers=workers, progress=ConsoleProgress(err))
    summary = summarise(found)
    written = write_comparison(summary, found.folder)
    if json_file == _STDOUT:
        sys.stdout.write(comparison_json(summary))
    else:
        print_comparison(summary, out)
        if json_file is not None:
            write_text(json_file, comparison_json(summary))
        out.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True, markup=False)
    if found.failures:
        names = escape(", ".join(found.failures))
        err.print(f"[red]failed:[/red] {names}; the same command tries again", soft_wrap=True)
        raise typer.Exit(_FAILED)


def _choices(confidences: str | None, weightings: str | None, settings: list[str]) -> dict[str, list[str]]:
    """Return key -> values of the options that multiply variants; what is given for a key twice is joined."""
    given = [("confidence", confidences), ("weighting", weightings)]
    for word in settings:
        key, equals, values = word.partition("=")
        if not equals:
            raise InputError(f"--set {word!r} is no KEY=V,V: write --set label_smoothing=0,0.1, say")
        given.append((key.strip(), values))
    choices: dict[str, list[str]] = {}
    for key, text in given:
        if text is not None:
            choices[key] = list(dict.fromkeys([*choices.get(key, []), *_words(text)]))
    return choices


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(f"there is nothing in {text!r}: write values with commas between")
    return words
