"""The verbs of `aebnas device`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aebnas.console import err, out
from aebnas.errors import InputError

if TYPE_CHECKING:
    from aebnas.devices.device import Device

device_app = typer.Typer(no_args_is_help=True, help="Hardware profiles: the devices that networks are searched for.")
Profile = Annotated[str, typer.Argument(help="A profile's name or file.", metavar="PROFILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NOT_READY = 2


@device_app.command("list")
def device_list() -> None:
    """List the hardware profiles that come with aebnas.

    Example: [bold]aebnas device list[/bold]
    """
    from aebnas.devices.profile import list_profiles

    for name in list_profiles():
        sys.stdout.write(f"{name}\n")


@device_app.command("show")
def device_show(profile: Profile) -> None:
    """Print one hardware profile, with the keys that it leaves out.

    Example: [bold]aebnas device show raspberry-pi-5 > my-board.yaml[/bold]
    """
    import yaml

    from aebnas.devices.profile import load_profile

    sys.stdout.write(yaml.safe_dump(load_profile(profile).model_dump(mode="json"), sort_keys=False))


@device_app.command("check")
def device_check(profile: Profile, as_json: AsJson = False) -> None:
    """Say whether a device has what measuring needs, and how to get what is missing; exit code 0 if nothing is.

    Example: [bold]aebnas device check my-board.yaml[/bold]
    """
    from dataclasses import asdict

    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile
    from aebnas.report.device import findings_table

    chosen = load_profile(profile)
    with Device(chosen, say=_say) as device:
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
    models: Annotated[list[Path], typer.Argument(help="ONNX files; measured interleaved.", metavar="MODEL.onnx...")],
    device: Annotated[str, typer.Option(help="A hardware profile's name or file.")] = "local",
    as_json: AsJson = False,
) -> None:
    """Measure ONNX files at batch 1 on a device: latency, memory, size, and where the time goes.

    Example: [bold]aebnas device measure digits-onnx/model.onnx digits-onnx/backbone.onnx[/bold]
    """
    from aebnas.devices.device import Device
    from aebnas.devices.profile import load_profile

    contents = {str(path): _content(path) for path in models}
    with Device(load_profile(device), say=_say) as target:
        _measure_models(target, contents, as_json)


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
    out.print(f"{facts.machine}, onnxruntime {facts.onnxruntime}; this machine varies by {noise_pct:.1f} %")
    if not all(model.measurement.steady for model in found.values()):
        limit_s, precision_pct = target.profile.protocol.time_limit_s, target.profile.protocol.precision_pct
        out.print(
            f"* not within {precision_pct:g} % after protocol.time_limit_s = {limit_s:g} s: "
            "stop what else runs there, or raise the limit"
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


def _say(text: str) -> None:
    err.print(text, soft_wrap=True)
