"""The YAML files that come with the package: search spaces, hardware profiles, experiments."""

from __future__ import annotations

from pathlib import Path


def resource_folder(name: str) -> Path:
    """Return the folder of packaged files called ``name``: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_resources" / name
    return installed if installed.is_dir() else package.parent / name


def resource_names(folder: str) -> list[str]:
    """Return the names (without ``.yaml``) of the packaged files in ``folder``, sorted."""
    return sorted(path.stem for path in resource_folder(folder).glob("*.yaml"))
