"""The examination of an installation: everything that a search needs, and what could be better."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from aebnas import __version__
from aebnas.devices.crowded import crowded
from aebnas.devices.profile import HardwareProfile, list_profiles, load_profile
from aebnas.devices.providers import offer
from aebnas.devices.results import Finding
from aebnas.devices.store import user_folder
from aebnas.devices.target.info import facts
from aebnas.errors import AebnasError
from aebnas.files import nearest
from aebnas.starting.health import Health, Section
from aebnas.starting.installed import (
    conflicts,
    core_findings,
    extra_findings,
    extra_versions,
    import_problem,
    requirements,
)

_GIB = 2**30
_LITTLE_GIB = 2.0
# What limits how many cores a process computes with.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def examine(run_dir: Path, *, devices: bool = False, environment: Mapping[str, str] = os.environ) -> Health:
    """Look at everything that a search needs.

    Args:
        run_dir: Where runs are to be kept; it need not be there.
        devices: Try to reach the devices of all profiles that can be measured.
        environment: The variables of this process.
    """
    versions = extra_versions()
    vision_problem = import_problem("torchvision") if versions["torchvision"] else None
    return Health(
        [
            Section("versions", list(_versions()), brief=True),
            Section("this machine", list(_machine(environment))),
            Section("disk", list(_disk(run_dir))),
            Section("extras", list(extra_findings(versions)), brief=True),
            Section("what does not go together", [*conflicts(versions, vision_problem)] or [_nothing()]),
            Section("data sets at hand", list(_data())),
            Section("devices", [_device(load_profile(name), reach=devices) for name in list_profiles()]),
        ]
    )


def _versions() -> Iterator[Finding]:
    yield Finding("aebnas", True, __version__)
    yield Finding("python", True, platform.python_version())
    needed = requirements()
    if not needed:
        yield Finding(
            "aebnas", True, "runs from a folder, not installed", "pip install -e . where its pyproject.toml is"
        )
    yield from core_findings(needed)


def _nothing() -> Finding:
    return Finding("packages", True, "nothing that is known of")


def _machine(environment: Mapping[str, str]) -> Iterator[Finding]:
    here = facts()
    yield Finding("processor", True, f"{here['machine']}, {here['cores']} cores")
    if here["memory_mib"] is not None:
        yield Finding("memory", True, f"{here['memory_mib'] / 1024:.1f} GiB")
    yield from _accelerators()
    yield Finding("onnxruntime", True, f"providers {offer(here['providers']) or 'none'}")
    governor = here["governor"]
    if governor is not None:
        fix = "" if governor == "performance" else "with the governor performance latencies vary less"
        yield Finding("clock", True, f"governor {governor}", fix)
    set_here = [f"{name}={environment[name]}" for name in _THREADS if environment.get(name)]
    if set_here:
        yield Finding(
            "threads", True, ", ".join(set_here), "training takes no more threads than that: unset it to use all"
        )
    yield from _crowded()


def _crowded() -> Iterator[Finding]:
    if import_problem("torch") is not None:
        return  # told elsewhere
    import torch

    crowd = crowded(torch.get_num_threads())
    if crowd is not None:
        yield Finding("load", True, *crowd)


def _accelerators() -> Iterator[Finding]:
    problem = import_problem("torch")
    if problem is not None:
        yield Finding("training", False, f"torch cannot be imported: {problem}", "install torch again")
        return
    import torch

    found = []
    if torch.cuda.is_available():
        found += [
            f"cuda:{number} {torch.cuda.get_device_name(number)} "
            f"({torch.cuda.get_device_properties(number).total_memory / _GIB:.0f} GiB)"
            for number in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        found.append("mps")
    threads = torch.get_num_threads()
    yield Finding("training", True, ", ".join([*found, f"cpu ({threads} thread{'s' if threads > 1 else ''})"]))


def _disk(run_dir: Path) -> Iterator[Finding]:
    yield _place(f"runs in {run_dir}", run_dir, "choose another folder with --run-dir", needed=True)
    cache = user_folder().parent
    yield _place(
        f"cache {cache}", cache, "set AEBNAS_CACHE_DIR to another folder; until then latencies are measured anew"
    )


def _place(what: str, folder: Path, fix: str, *, needed: bool = False) -> Finding:
    there = folder.absolute()
    try:
        there = nearest(folder)
        with tempfile.TemporaryFile(dir=there):
            free_gib = shutil.disk_usage(there).free / _GIB
    except OSError as error:
        return Finding(what, not needed, f"{there} cannot be written ({error.strerror})", fix)
    little = free_gib < _LITTLE_GIB
    return Finding(what, True, f"{free_gib:.1f} GiB free", f"that is little: {fix}" if little else "")


def _data() -> Iterator[Finding]:
    from aebnas.data.fashion_mnist import find_files, search_places

    yield Finding("digits", True, "comes with scikit-learn")
    try:
        folder = next(iter(find_files(search_places(None)).values())).parent
        yield Finding("fashion-mnist", True, str(folder))
    except AebnasError:
        yield Finding("fashion-mnist", True, "not found", "apt-get install dataset-fashion-mnist, or give --data-dir")
    yield Finding("your own", True, "name it with data.path; `aebnas list datasets` says in which forms")


def _device(profile: HardwareProfile, *, reach: bool) -> Finding:
    runs = f"{offer([profile.provider])}, {profile.threads} thread{'s' if profile.threads > 1 else ''}"
    if not profile.measurable:
        return Finding(profile.name, True, f"{runs}; no connection, so MACs and memory only")
    if not reach:
        return Finding(profile.name, True, f"{runs}; {profile.place}")
    from aebnas.devices.device import Device

    try:
        with Device(profile) as device:
            wrong = [finding for finding in device.check() if not finding.ok]
    except AebnasError as error:
        return Finding(profile.name, True, f"{runs}; cannot be reached", str(error))
    if wrong:
        return Finding(profile.name, True, f"{runs}; {wrong[0].what}: {wrong[0].text}", wrong[0].fix)
    return Finding(profile.name, True, f"{runs}; {profile.place}, ready")
