"""The folder of one run: what is in it, and reading and writing it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import yaml

from aebnas.devices.profile import HardwareProfile
from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.files import cannot_write, first_difference, write_text
from aebnas.locks import exclusive
from aebnas.settings import parse_settings, read_yaml
from aebnas.spaces.definition import SpaceDefinition
from aebnas.store import RecordStore, Remote, WeightStore

# Keys that say how long to search or where files lie now, not what is searched: they may change when a run goes on.
# What lies in those files is compared by its content: data and weights by fingerprint, space and profile as they are.
FREE_KEYS = (
    ("search", "trials"),
    ("search", "timeout"),
    ("search", "finalists"),
    ("search", "workers"),
    ("search", "storage"),
    ("search", "study"),
    ("search", "artifacts"),
    ("search", "starts"),
    ("search", "start_from"),
    ("search", "accuracy_drop"),
    ("search", "limits"),
    ("data", "path"),
    ("data", "data_dir"),
    ("data", "download"),
    ("data", "workers"),
    ("data", "ram_gib"),
    ("backbone", "checkpoint"),
)
# A comparison is no part of a search; what plug-ins register is told apart by its name, as what is here.
FREE_TOP = (
    "compare",
    "plugins",
    "accelerator",
    "mixed_precision",
    "cache_gib",
    "cache_dtype",
    "training_log",
    "name",
    "space",
    "device",
)
LOCK_FILES = ("run.lock", "run.pid")
# What a search makes before it has done anything that is worth keeping.
_BEGINNINGS = ("study.db", "study.db-wal", "study.db-shm", "asking.lock", "workers")
# Curves alone are no work: a backbone that was not trained to its end leaves some.
CURVES = ("training", "tensorboard")


class RunFolder:
    """Paths inside a run folder, and the records that are kept there.

    Args:
        remote: Where machines without a common disk share the records.
    """

    def __init__(self, path: Path, remote: Remote | None = None) -> None:
        self.path, self._remote = path, remote
        self.experiment_file = path / "experiment.yaml"
        self.space_file = path / "space.yaml"
        self.profile_file = path / "device.yaml"
        self.study_file = path / "study.db"
        self.backbone_file = path / "backbone.pt"
        self.front_file = path / "front.json"
        self.front_csv = path / "front.csv"
        self.summary_file = path / "summary.json"
        self.features = path / "features"
        self.latency = path / "latency"
        self.evaluations = path / "evaluations"
        self.plots = path / "plots"
        self.exports = path / "export"
        self.branches = WeightStore(path / "branches", remote)
        self.networks = WeightStore(path / "networks", remote)
        self.deployed = WeightStore(path / "deployed", remote)
        self._records = RecordStore(self.evaluations, remote)
        self._new = False

    def start(self, experiment: Experiment, space: SpaceDefinition, profile: HardwareProfile) -> None:
        """Claim the folder for ``experiment``, or go on with the same one.

        The space and the profile are kept: their files may be edited or moved later.

        Raises:
            RunError: the folder belongs to another experiment; the message names the first key that differs.
        """
        if self.experiment_file.exists():
            self.check_same(experiment, space, profile)
        elif self.path.exists() and any(map(_is_foreign, self.path.iterdir())) and not self.experiment_file.exists():
            raise RunError(f"{self.path} is not empty and holds no run: choose another folder with --run-dir")
        else:
            self._new = True
            # Never written again: its choices stand in the order in which a study knows them.
            write_text(self.space_file, yaml.safe_dump(space.model_dump(mode="json"), sort_keys=False))
        write_text(self.profile_file, yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False))
        # Last, so that its presence vouches for the other two.
        write_text(self.experiment_file, experiment.to_yaml())

    def check_same(self, experiment: Experiment, space: SpaceDefinition, profile: HardwareProfile) -> None:
        """Raise RunError where this folder holds a run of another experiment; the message names the first such key."""
        now = comparable(experiment, space, profile)
        difference = first_difference(comparable(self.experiment(), self.space(), self.profile()), now)
        if difference is not None:
            raise RunError(
                f"{self.path} holds a run whose {difference[0]} differs: choose another folder with --run-dir, "
                "or delete this one"
            )

    def sweep(self) -> None:
        """Delete what killed processes were writing, which can be gigabytes; for when nobody else is at work here."""
        for name in ("features", "branches", "networks", "deployed", "evaluations", "latency"):
            for path in (self.path / name).glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def experiment(self) -> Experiment:
        """Return the experiment of this run.

        Raises:
            RunError: there is no run here.
        """
        if not self.experiment_file.exists():
            raise RunError(f"{self.path} holds no run: give the folder that `aebnas search` wrote")
        return Experiment.from_yaml(self.experiment_file)

    def space(self) -> SpaceDefinition:
        """Return the search space of this run, as it was when the run began."""
        return parse_settings(
            SpaceDefinition, read_yaml(self.space_file, error=RunError), source=str(self.space_file), error=RunError
        )

    def profile(self) -> HardwareProfile:
        """Return the hardware profile of this run, as it was when the run was last searched."""
        return parse_settings(
            HardwareProfile, read_yaml(self.profile_file, error=RunError), source=str(self.profile_file), error=RunError
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from searching in this folder for the length of the block.

        A folder in which nothing came to be is given up again: it does not hold the next try, with the mistake
        corrected, to the wrong experiment.

        Raises:
            RunError: another process is at it; the message says which.
        """
        owner = self.path / LOCK_FILES[1]

        def busy() -> str:
            who = owner.read_text(encoding="utf-8") if owner.exists() else "unknown"
            return f"{self.path} is being searched by process {who}: wait for it, stop it, or choose another --run-dir"

        try:
            with exclusive(
                self.path, LOCK_FILES[0], busy, lambda: owner.write_text(str(os.getpid()), encoding="utf-8")
            ):
                try:
                    yield
                finally:
                    self._give_up(owner)
        finally:
            with contextlib.suppress(OSError):  # not empty
                self.path.rmdir()

    def is_led(self) -> bool:
        """Tell whether a process searches here now."""
        try:
            with filelock.FileLock(self.path / LOCK_FILES[0], timeout=0):
                return False
        except filelock.Timeout:
            return True

    @contextlib.contextmanager
    def turn_to_ask(self) -> Iterator[None]:
        """Let one process of this folder at a time ask for its next trial, so that not more are begun than wanted."""
        lock = filelock.FileLock(self.path / "asking.lock", poll_interval=0.01)
        try:
            lock.acquire()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            yield
        finally:
            lock.release()

    def _give_up(self, owner: Path) -> None:
        if self._new and not any(map(_is_work, self.path.iterdir())):
            for path in (self.experiment_file, self.space_file, self.profile_file):
                path.unlink(missing_ok=True)
            for name in _BEGINNINGS[:-1]:
                (self.path / name).unlink(missing_ok=True)
            for name in CURVES:
                shutil.rmtree(self.path / name, ignore_errors=True)
        owner.unlink(missing_ok=True)
        if not self.experiment_file.exists():
            (self.path / LOCK_FILES[0]).unlink(missing_ok=True)

    def read_evaluation(self, key: str) -> dict[str, Any] | None:
        """Return the stored evaluation of ``key``; None if there is none or it is damaged (it is then made again)."""
        return self._records.get(key)

    def write_evaluation(self, key: str, record: dict[str, Any]) -> None:
        """Keep the evaluation of ``key``."""
        self._records.put(key, record)


def _is_foreign(path: Path) -> bool:
    """Tell whether a file is none of those that a search may leave before its experiment file is there."""
    early = (*LOCK_FILES, "space.yaml", "device.yaml", "workers")
    return path.name not in early and not (path.name.startswith(".") and path.name.endswith(".tmp"))


def _is_work(path: Path) -> bool:
    return _is_foreign(path) and path.name not in ("experiment.yaml", *_BEGINNINGS, *CURVES)


def comparable(experiment: Experiment, space: SpaceDefinition, profile: HardwareProfile) -> dict[str, Any]:
    """Return all that a run's results depend on; of the profile what latencies do, for limits may change."""
    values: dict[str, Any] = experiment.model_dump(mode="json")
    for key in FREE_TOP:
        values.pop(key)
    for block, key in FREE_KEYS:
        values[block].pop(key)
    values["space"] = space.model_dump(mode="json", exclude={"description"})
    device = profile.model_dump(
        mode="json", include={"provider", "provider_options", "threads", "affinity", "precision", "power"}
    )
    # ssh's own options may change: they say how the device is reached, not which it is.
    values["device"] = {**device, "connection": profile.place}
    return values
