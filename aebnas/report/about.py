"""What a run was made with: its settings, seeds, device, versions and machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import yaml

from aebnas import __version__
from aebnas.errors import RunError
from aebnas.export.manifest import MANIFEST
from aebnas.files import read_json
from aebnas.report.markup import Markup, bullets, tag
from aebnas.run import BACKBONE_ID, Run

_PACKAGES = ("torch", "onnxruntime", "onnx", "optuna", "numpy", "thop")


def about_section(run: Run) -> list[Markup]:
    """Return the parts of the section; the long ones can be unfolded."""
    profile = run.folder.profile()
    device = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    space = yaml.safe_dump(run.folder.space().model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    experiment = run.experiment
    return [
        bullets(
            [
                f"seed {experiment.seed}; data {experiment.data.name}, backbone {experiment.backbone.name}",
                f"device {profile.name}: {profile.provider}, threads {profile.threads}, "
                f"precision {', '.join(profile.precisions)}, {_place(profile.place)}",
            ]
        ),
        _folded("Configuration: experiment.yaml as it was run", experiment.to_yaml()),
        _folded("Device profile: device.yaml", device),
        _folded("Search space: space.yaml", space),
        tag("h3", "Versions that exported the networks"),
        bullets(_exported(run)),
        tag("h3", "Versions and machine that wrote this report"),
        bullets([f"aebnas {__version__}, Python {platform.python_version()}", *_versions(), _machine()]),
    ]


def _place(place: str) -> str:
    return {"local": "measured on the machine that searched", "none": "not measured"}.get(place, f"measured on {place}")


def _folded(title: str, text: str) -> Markup:
    return tag("details", tag("summary", tag("h3", title)), tag("pre", tag("code", text), tabindex="0"), class_="block")


def _exported(run: Run) -> Iterator[str]:
    """Yield versions as the manifest of the exported backbone has them."""
    file = run.folder.exports / BACKBONE_ID / MANIFEST
    if not file.exists():
        yield "unknown: this run has no exported backbone"
        return
    manifest = read_json(file)
    versions = manifest.get("versions") if isinstance(manifest, dict) else None
    if not isinstance(versions, dict):
        raise RunError(f"{file} is damaged: delete {file.parent} and run the same search again")
    yield from (f"{name} {number}" for name, number in versions.items())


def _versions() -> Iterator[str]:
    for package in _PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:  # a runtime under another name, such as onnxruntime-gpu
            yield f"{package}: installed under another name"


def _machine() -> str:
    return f"{platform.system()} on {platform.machine()}, {os.cpu_count()} processors"
