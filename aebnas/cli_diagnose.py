"""The verb `aebnas diagnose`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aebnas.completion import points, results
from aebnas.console import DataDir, err, out
from aebnas.errors import InputError

if TYPE_CHECKING:
    from aebnas.diagnosing.subject import Subject

RESULT = "diagnostics.json"


def diagnose(
    folder: Annotated[
        Path,
        typer.Argument(
            help="What `aebnas search` or `aebnas export` wrote.",
            metavar="RUN_DIR|EXPORT_DIR",
            autocompletion=results,
        ),
    ],
    pick: Annotated[
        str | None,
        typer.Option(
            help="Of a run: id of a point, `aebnas front` lists them; its default pick without.",
            autocompletion=points,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the figures; RUN_DIR/diagnostics/ID or EXPORT_DIR/diagnostics."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Say how well the exits of a network know when to leave: failure prediction, ranking, calibration, the oracle.

    Of a run the point is rebuilt in PyTorch, of an export the ONNX files are run; both on validation and test.

    Example: [bold]aebnas diagnose runs/digits[/bold]

    Example: [bold]aebnas diagnose digits-onnx --json[/bold]
    """
    from aebnas.diagnosing.diagnosis import diagnose as diagnosed
    from aebnas.files import write_json
    from aebnas.report.diagnosis_figures import draw_diagnosis
    from aebnas.report.diagnosis_tables import diagnosis_tables

    subject, target = _subject(folder, pick, data_dir)
    target = out_dir or target
    found = diagnosed(subject)
    pictures = draw_diagnosis(found, target)
    result = {**found.to_json(), "plots": list(map(str, pictures))}
    write_json(target / RESULT, result)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    early, confidence = len(subject.names) - 1, subject.policy.confidence
    exits = "early exit" if early == 1 else "early exits"
    out.print(f"{subject.id} of {subject.source}: {early} {exits}, {confidence}", soft_wrap=True, markup=False)
    for table in diagnosis_tables(found):
        out.print(table)
    out.print("Findings", style="bold")
    for sentence in found.findings:
        out.print(f"- {sentence}", highlight=False, markup=False)
    out.print(f"All figures are in {target / RESULT}, the pictures beside it.", soft_wrap=True, markup=False)


def _subject(folder: Path, pick: str | None, data_dir: Path | None) -> tuple[Subject, Path]:
    """Return what is diagnosed, and the folder that the figures go to by default."""
    from aebnas.data.placing import options_of
    from aebnas.diagnosing.of_export import subject_of_export
    from aebnas.diagnosing.of_run import subject_of_run
    from aebnas.export.manifest import MANIFEST
    from aebnas.progress import ConsoleProgress
    from aebnas.run import Run

    if (folder / MANIFEST).is_file():
        if pick is not None:
            raise InputError("--pick chooses a point of a run: an export holds one network, leave --pick out")
        return subject_of_export(folder, data_dir=data_dir), folder / "diagnostics"
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give a folder that `aebnas search` or `aebnas export` wrote")
    run = Run(folder)
    if data_dir is not None:
        run = Run(folder, experiment=run.experiment.override(options_of(run.experiment.data, data_dir)))
    subject = subject_of_run(run, pick, progress=ConsoleProgress(err))
    return subject, folder / "diagnostics" / subject.id
