"""Which packages are installed, which extras are missing, and which versions do not go together."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from importlib import metadata

from aebnas.devices.results import Finding

Versions = Mapping[str, str | None]
# What each extra is for, and the packages it brings, as pyproject.toml has them.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "images": ("folders of images", ("Pillow",)),
    "torchvision": ("its models and data sets", ("torchvision", "Pillow")),
    "timm": ("its models", ("timm",)),
    "huggingface": ("data sets of the Hugging Face hub", ("datasets", "Pillow")),
    "tensorboard": ("training_log: tensorboard", ("tensorboard",)),
    "dashboard": ("aebnas dashboard", ("optuna-dashboard",)),
    "postgres": ("search.storage in PostgreSQL", ("psycopg",)),
    "mysql": ("search.storage in MySQL", ("PyMySQL",)),
    "grpc": ("search.storage behind Optuna's proxy", ("grpcio", "protobuf")),
    "s3": ("search.artifacts in S3", ("boto3",)),
    "notebooks": ("running the notebooks", ("nbclient", "nbformat", "ipykernel")),
}
# Imported to be sure of them: their compiled parts are what breaks.
_TRIED = ("numpy", "torch", "onnx", "onnxruntime")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")


def version_of(package: str) -> str | None:
    """Return the installed version of a package, None if it is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> list[str]:
    """Return what aebnas needs, as ``name>=version``; nothing where it runs from a folder that is not installed."""
    try:
        listed = metadata.requires("aebnas") or []
    except metadata.PackageNotFoundError:
        return []
    return [line.partition(";")[0].strip() for line in listed if "extra ==" not in line]


def core_findings(needed: list[str]) -> Iterator[Finding]:
    """Yield a finding for every package that a search needs.

    Args:
        needed: As :func:`requirements` returns them.
    """
    for requirement in needed:
        name = re.split(r"[<>=!~\[ ]", requirement, maxsplit=1)[0]
        yield _needed(name, requirement, version_of(name))


def _needed(name: str, requirement: str, version: str | None) -> Finding:
    install = f"pip install '{requirement}'"
    if version is None and name == "onnxruntime":
        # The packages for other hardware have the same module.
        version = next(filter(None, map(version_of, _RUNTIMES)), None)
    if version is None:
        return Finding(name, False, "not installed", install)
    if not _satisfies(requirement, version):
        return Finding(name, False, f"{version}, but {requirement} is needed", install)
    problem = import_problem(name) if name in _TRIED else None
    if problem is not None:
        return Finding(name, False, f"{version} cannot be imported: {problem}", f"install it again: {install}")
    return Finding(name, True, version)


def _satisfies(requirement: str, version: str) -> bool:
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:  # no dependency of ours, though nearly always there
        return True
    try:
        return bool(Requirement(requirement).specifier.contains(version, prereleases=True))
    except InvalidRequirement:
        return True


def import_problem(module: str) -> str | None:
    """Import ``module``; return in one line why that fails, None if it does not."""
    try:
        importlib.import_module(module)
    except Exception as error:  # compiled parts that do not fit raise anything
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def extra_findings(versions: Versions) -> Iterator[Finding]:
    """Yield a finding for every extra: those missing say how to have them.

    Args:
        versions: Of the packages that extras bring, by name.
    """
    for extra, (purpose, packages) in EXTRAS.items():
        missing = [package for package in packages if versions.get(package) is None]
        if missing:
            install = f"pip install 'aebnas[{extra}]'"
            yield Finding(extra, True, f"missing, for {purpose}", install)
        else:
            yield Finding(extra, True, "")


def extra_versions() -> dict[str, str | None]:
    """Return the versions of all that extras bring, and of what is known not to go together."""
    names = {package for _, packages in EXTRAS.values() for package in packages}
    return {
        name: version_of(name) for name in sorted({*names, *_RUNTIMES, "numpy", "thop", "torch", "ultralytics-thop"})
    }


def conflicts(versions: Versions, torchvision_problem: str | None = None) -> Iterator[Finding]:
    """Yield what is known not to work together.

    Args:
        versions: By package, None for what is not installed.
        torchvision_problem: Why torchvision cannot be imported, if it is installed and cannot.
    """
    torch, vision = _numbers(versions.get("torch")), _numbers(versions.get("torchvision"))
    if torch and vision and torch[0] == 2 and vision[0] == 0 and vision[1] != torch[1] + 15:
        yield Finding(
            "torchvision",
            True,
            f"torchvision {versions['torchvision']} belongs to torch 2.{vision[1] - 15}, not {versions['torch']}",
            f"pip install 'torchvision==0.{torch[1] + 15}.*'",
        )
    elif torchvision_problem is not None:
        yield Finding(
            "torchvision",
            True,
            f"cannot be imported beside torch {versions.get('torch')}: {torchvision_problem}",
            "install both from one index: a torchvision for CUDA does not fit a torch for the CPU alone",
        )
    runtimes = [name for name in _RUNTIMES if versions.get(name)]
    if len(runtimes) > 1:
        yield Finding(
            "onnxruntime",
            True,
            f"{' and '.join(runtimes)} are installed over each other",
            f"pip uninstall {' '.join(runtimes)}, then install the one that your device wants",
        )
    numpy = _numbers(versions.get("numpy"))
    if numpy and torch and numpy[0] >= 2 and torch < (2, 3):
        yield Finding(
            "numpy",
            False,
            f"numpy {versions['numpy']} does not go with torch {versions['torch']}",
            "pip install 'numpy<2'",
        )
    if versions.get("thop") and versions.get("ultralytics-thop"):
        yield Finding(
            "thop",
            True,
            "ultralytics-thop (AGPL) lies over the package thop",
            "pip uninstall ultralytics-thop thop, then pip install thop",
        )


def _numbers(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None
