"""The verbs of `aebnas device`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aebnas.completion import profiles
from aebnas.console import out, say
from aebnas.errors import InputError

if TYPE_CHECKING:
    from aebnas.devices.device import Device
    from aebnas.export.breakdown import Breakdown

_HELP = (
    "Hardware profiles: the devices that networks are searched for.\n\n"
    "Example: [bold]aebnas device show raspberry-pi-5-ssh > my-board.yaml[/bold], edit it, then "
    "[bold]aebnas device check my-board.yaml[/bold]"
)
device_app = typer.Typer(no_args_is_help=True, help=_HELP)
Profile = Annotated[str, typer.Argument(help="A profile's name or file.", metavar="PROFILE", autocompletion=profiles)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NOT_READY = 2
PICTURE = "where-the-time-goes.png"


@device_app.command("list")
def device_list() -> None:
    """List the hardware profiles that come with aebnas.

    Example: [bold]aebnas device list[/bold]

    Next: [bold]aebnas device show NAME > my-board.yaml[/bold] is where a profile of your own begins.
    """
    from aebnas.devices.profile import list_profiles

    for name in list_profiles():
        sys.stdout.write(f"{name}\n")


@device_app.command("show")
def device_show(profile: Profile) -> None:
    """Print one hardware profile, with the keys that it leaves out.

    Example: [bold]aebnas device show raspberry-pi-5 > my-board.yaml[/bold]

    Next: [bold]aebnas device check my-board.yaml[/bold] says whether it can be measured on.
    """
    import yaml

    from aebnas.devices.profile import load_profile

    sys.stdout.write(yaml.safe_dump(load_profile(profile).model_dump(mode="json"), sort_keys=False))


@device_app.command("check")
def device_check(profile: Profile, as_json: AsJson = False) -> None:
    """Say whether a device has what measuring needs, and how to get what is missing; exit code 0 if nothing is.

    Example: [bold]aebnas device check my-board.yaml[/bold]

    Next: [bold]aebnas init --device my-board.yaml[/bold] writes an experiment for it.
    """
    from dataclasses import asdict

    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile
    from aebnas.report.device import findings_table

    chosen = load_profile(profile)
    with Device(chosen, say=say) as device:
        findings = device.check()
    ready = all(finding.ok for finding in findings)
    if as_json:
        sys.stdout.write(json.dumps({"ready": ready, "findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        out.print(findings_table(findings, f"{chosen.name}: {'ready' if ready else 'not ready'}"))
    if not ready:
        raise typer.Exit(NOT_READY)


@device_app.command("measure")
def device_measure(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="A folder that `aebnas export` wrote; or ONNX files, measured interleaved.",
            metavar="EXPORT_DIR|MODEL.onnx...",
        ),
    ],
    device: Annotated[
        str | None,
        typer.Option(
            help="A hardware profile's name or file; this machine by default, for a folder as it says.",
            autocompletion=profiles,
        ),
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="The picture of a folder; EXPORT_DIR/where-the-time-goes.png by default.", metavar="FILE.png"
        ),
    ] = None,
) -> None:
    """Measure at batch 1 on a device, and say where the time goes.

    An exported network is taken apart: segments, branches, gates, the whole file forced to every exit, the static
    backbone, operator types, memory; predicted against measured, as tables and as a picture. ONNX files: latency,
    memory, size, operator types.

    Example: [bold]aebnas device measure digits-onnx[/bold]

    Example: [bold]aebnas device measure digits-onnx --device my-board.yaml --plot board.png[/bold]

    Example: [bold]aebnas device measure digits-onnx/model.onnx digits-onnx/backbone.onnx[/bold]
    """
    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile

    folders = [path for path in models if path.is_dir()]
    if folders:
        if len(models) > 1:
            raise InputError(f"{folders[0]} is a folder: give one exported folder alone, or ONNX files")
        _measure_export(folders[0], device, as_json, plot)
        return
    if plot is not None:
        raise InputError("--plot draws where the time of an exported folder goes: give the folder, or leave --plot out")
    contents = {str(path): _content(path) for path in models}
    with Device(load_profile(device or "local"), say=say) as target:
        _measure_models(target, contents, as_json)


def _measure_export(folder: Path, device: str | None, as_json: bool, plot: Path | None) -> None:
    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile
    from aebnas.export.breakdown import take_apart
    from aebnas.export.implied import implied_profile
    from aebnas.export.manifest import MANIFEST, read_manifest
    from aebnas.report.breakdown_figure import breakdown_figure
    from aebnas.report.style import save

    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} has no {MANIFEST}, so it is no export: give a folder that `aebnas export` wrote")
    picture = plot or folder / PICTURE
    if picture.suffix.lower() != ".png":
        raise InputError(f"--plot writes a PNG: give a name that ends in .png instead of {picture}")
    manifest = read_manifest(folder)
    profile = implied_profile(manifest) if device is None else load_profile(device)
    with Device(profile, say=say) as target:
        found = take_apart(folder, target)
        about = {
            "export": str(folder),
            "plot": str(picture),
            "precision": str(manifest.values.get("precision", "fp32")),
        }
        _print_breakdown(found, target, about, as_json)
    # After the figures are out: a picture that cannot be written costs none of them.
    save(breakdown_figure(found, f"Where the time of {folder.resolve().name} goes on {profile.name}"), picture)
    if not as_json:
        out.print(f"The picture is {picture}.", soft_wrap=True, markup=False)


def _print_breakdown(found: Breakdown, target: Device, about: dict[str, str], as_json: bool) -> None:
    from aebnas.report.breakdown import breakdown_json, breakdown_tables

    facts, profile = target.facts(), target.profile
    if as_json:
        about |= {"device": profile.name, "machine": facts.machine, "onnxruntime": facts.onnxruntime or ""}
        ran = {"provider": profile.provider, "threads": profile.threads, "noise_pct": target.noise_pct}
        sys.stdout.write(json.dumps({**about, **ran, **breakdown_json(found)}) + "\n")
        return
    for table in breakdown_tables(found):
        out.print(table)
    out.print(
        f"{profile.name}: {profile.provider}, {profile.threads} thread{'s' if profile.threads > 1 else ''}, batch 1, "
        f"random input; the network is in {about['precision']}, the backbone in fp32",
        soft_wrap=True,
        markup=False,
    )
    _print_noise(target, found.unsteady)


def _measure_models(target: Device, contents: dict[str, bytes], as_json: bool) -> None:
    from aebnas.devices.device import Job
    from aebnas.report.device import MeasuredModel, measurements_table, operators_table

    # Never from memory: who asks wants to know how it is now.
    measured = target.measure({name: Job(content) for name, content in contents.items()})
    nodes = target.nodes(contents)
    found = {
        name: MeasuredModel(len(content) / 2**20, measured[name], nodes[name]) for name, content in contents.items()
    }
    facts, noise_pct = target.facts(), target.noise_pct
    if as_json:
        about = {"device": target.profile.name, "machine": facts.machine, "onnxruntime": facts.onnxruntime}
        listed = [{"model": name, **model.to_json()} for name, model in found.items()]
        sys.stdout.write(json.dumps({**about, "noise_pct": noise_pct, "models": listed}) + "\n")
        return
    out.print(measurements_table(found))
    out.print(operators_table(found))
    _print_noise(target, [name for name, model in found.items() if not model.measurement.steady])


def _print_noise(target: Device, unsteady: list[str]) -> None:
    facts, protocol = target.facts(), target.profile.protocol
    out.print(
        f"{facts.machine}, onnxruntime {facts.onnxruntime}; this machine varies by {target.noise_pct:.1f} %",
        markup=False,
    )
    if unsteady:
        out.print(
            f"* not within {protocol.precision_pct:g} % after protocol.time_limit_s = {protocol.time_limit_s:g} s: "
            f"{', '.join(unsteady)}; stop what else runs there, or raise the limit",
            soft_wrap=True,
            markup=False,
        )


def _content(path: Path) -> bytes:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise InputError(f"{path} is no file: give the path of an ONNX file")
    try:
        # With the weights that may lie in a file beside it.
        return bytes(onnx.load(path).SerializeToString())
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path} is no ONNX file that can be read: {' '.join(str(error).split())}") from error
