"""The verbs `aebnas init` and `aebnas check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from aebnas import completion
from aebnas.console import err, out, quoted
from aebnas.errors import InputError

if TYPE_CHECKING:
    from aebnas.experiment import Experiment
    from aebnas.starting.check import Step
    from aebnas.starting.choices import Choices

NOT_READY = 2
T = TypeVar("T")


def init(
    file: Annotated[
        Path | None, typer.Argument(help="The experiment file to write; NAME.yaml by default.", metavar="FILE")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="backbone: a built-in name, torchvision:NAME, timm:NAME, module:callable, or a saved model's folder.",
            autocompletion=completion.backbones,
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="backbone.checkpoint: a file with its weights.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="backbone.weights: pretrained ones of torchvision or timm; default or none, or their name."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="data: a name, torchvision:NAME, huggingface:NAME, or the path of a folder, a .csv or an .npz file.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="data.image_size: side in pixels that images are resized to.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="device: a hardware profile's name or file.", autocompletion=completion.profiles)
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="search.objectives: a cost to keep low beside accuracy; repeat for several.",
            autocompletion=completion.costs,
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="search.trials: how many networks to sample.")] = None,
    space: Annotated[
        str | None, typer.Option(help="space: a search space's name or file.", autocompletion=completion.spaces)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="name of the experiment and its run folder; FILE's, or made of data and model, by default."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: what no option says has its default.")] = False,
    out_file: Annotated[Path | None, typer.Option("--out", help="The same as FILE.", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write an experiment file for your own model, data and device, and try it out before anything takes long.

    On a terminal it asks for what no option says. The file explains every key. It is kept where something does not
    work: correct it, then [bold]aebnas check FILE[/bold] tries again.

    Example: [bold]aebnas init[/bold]

    Example: [bold]aebnas init birds.yaml --model torchvision:mobilenet_v3_small --data photos/[/bold]

    Next: [bold]aebnas search birds.yaml[/bold]
    """
    from aebnas.files import write_text
    from aebnas.starting.choices import Choices, objectives_of
    from aebnas.starting.template import experiment_text

    if file is not None and out_file is not None:
        raise InputError("FILE and --out say the same: leave one of them out")
    given: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "weights": weights,
        "data": data,
        "image_size": image_size,
        "device": device,
        "objectives": objectives_of(objective) if objective else None,
        "trials": trials,
        "space": space,
        "name": name,
    }
    # Before anything is asked, where it is known already.
    _refuse_existing(file or out_file, force)
    known = {key: value for key, value in given.items() if value is not None}
    chosen = Choices(**known)
    if not yes and _is_terminal():
        chosen = _asked(chosen, set(known), file or out_file, taken=force)
    if not chosen.name:
        chosen = replace(chosen, name=_name(chosen, file or out_file, taken=force))
    values = chosen.values()
    path = file or out_file or Path(f"{values['name']}.yaml")
    _refuse_existing(path, force)
    write_text(path, experiment_text(values, path))
    out.print(f"Written: [bold]{escape(str(path))}[/bold]. Every key is explained there.", soft_wrap=True)
    _check(path, None, as_json=False)


def check(
    experiment: Annotated[Path, typer.Argument(help="The experiment file.", metavar="EXPERIMENT.yaml")],
    run_dir: Annotated[Path | None, typer.Option(help="Where it is to be kept; runs/NAME by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try out whether an experiment will run, in a minute or so: data, model, split, ONNX, device, disk, time.

    Nothing is trained or written. Exit code 0 if all is well, 2 if something has to be changed; each line says what.

    Example: [bold]aebnas check birds.yaml[/bold]

    Next: [bold]aebnas search birds.yaml[/bold]
    """
    _check(experiment, run_dir, as_json=as_json)


def _check(path: Path, run_dir: Path | None, *, as_json: bool) -> None:
    from aebnas.experiment import Experiment
    from aebnas.starting.check import try_out

    experiment: Experiment = Experiment.from_yaml(path)
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if not as_json:
            _show(step)

    well = try_out(experiment, run_dir=run_dir or Path("runs") / experiment.name, tell=tell)
    if as_json:
        sys.stdout.write(json.dumps({"ok": well, "steps": [asdict(step) for step in steps]}) + "\n")
    elif well:
        out.print(f"\nNext: [bold]aebnas search {quoted(path)}[/bold]", soft_wrap=True)
    else:
        err.print(f"\nCorrect {escape(str(path))}, then: aebnas check {quoted(path)}", soft_wrap=True, highlight=False)
    if not well:
        raise typer.Exit(NOT_READY)


def _show(step: Step) -> None:
    line = Table.grid(padding=(0, 1))
    line.add_column(width=2)
    line.add_column(width=13)
    line.add_column(overflow="fold")
    mark = "[green]ok[/green]" if step.ok else "[red]NO[/red]"
    line.add_row(mark, step.what, f"{escape(step.text)} [dim]{step.seconds:.1f} s[/dim]")
    for hint in step.hints:
        line.add_row("[yellow] ![/yellow]", "", escape(hint))
    out.print(line)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _refuse_existing(path: Path | None, force: bool) -> None:
    if path is not None and path.exists() and not force:
        raise InputError(f"{path} is there already: choose another name, or write over it with --force")


def _name(chosen: Choices, file: Path | None, *, taken: bool = False) -> str:
    """Return a name for the experiment: its file's, or one made of data and model; another run's only if ``taken``."""
    from aebnas.starting.choices import default_name, free_name, plain_name

    made = (plain_name(file.stem) if file is not None else "") or default_name(chosen.data, chosen.model)
    return made if taken else free_name(made, own=file)


def _asked(chosen: Choices, known: set[str], file: Path | None, *, taken: bool) -> Choices:
    """Ask for what is not ``known`` yet; an answer that will not do is asked for again.

    Args:
        taken: Whether another run's name may be proposed.
    """
    from aebnas.devices.profile import load_profile
    from aebnas.starting.choices import (
        backbone_of,
        data_of,
        default_objectives,
        objectives_of,
    )

    def model(answer: str) -> str:
        backbone_of(answer)
        return answer

    def data(answer: str) -> str:
        data_of(answer)
        return answer

    def device(answer: str) -> str:
        load_profile(answer)
        return answer

    err.print("Enter takes what stands in brackets; Ctrl-C leaves.", style="dim")
    if "model" not in known:
        about = "Your model: a name of `aebnas list backbones`, torchvision:NAME, timm:NAME, module:callable, a folder"
        chosen = replace(chosen, model=_ask(about, chosen.model, model))
    if "checkpoint" not in known and "weights" not in known and ":" in chosen.model:
        about = "A file with its weights (none: pretrained ones of the library, else it is trained here)"
        chosen = replace(chosen, checkpoint=_ask(about, "none", lambda answer: _weights_file(chosen.model, answer)))
    if "data" not in known:
        about = "Your data: a folder of images, a .csv or .npz file, torchvision:NAME, huggingface:NAME, or digits"
        chosen = replace(chosen, data=_ask(about, chosen.data, data))
    if "device" not in known:
        about = "The device it is for: a name of `aebnas device list`, or your own profile's file"
        chosen = replace(chosen, device=_ask(about, chosen.device, device))
    if "objectives" not in known:
        about = "What to keep low beside accuracy: latency_ms, macs, energy_mj ... with commas between"
        default = ",".join(default_objectives(chosen.device))
        chosen = replace(chosen, objectives=_ask(about, default, lambda answer: objectives_of([answer])))
    if "trials" not in known:
        chosen = replace(chosen, trials=_ask("How many networks to sample", str(chosen.trials), _count))
    if "name" not in known:
        chosen = replace(chosen, name=_ask("A name", _name(chosen, file, taken=taken), str))
    return chosen


def _ask(about: str, default: str, take: Callable[[str], T]) -> T:
    while True:
        answer = str(typer.prompt(about, default=default)).strip()
        try:
            return take(answer)
        except InputError as error:
            err.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True, highlight=False)


def _weights_file(model: str, answer: str) -> Path | None:
    from aebnas.starting.choices import backbone_of

    if answer == "none":
        return None
    backbone_of(model, Path(answer))
    return Path(answer)


def _count(answer: str) -> int:
    if not answer.isdigit() or int(answer) < 1:
        raise InputError(f"{answer!r} is no number from 1: give how many")
    return int(answer)
