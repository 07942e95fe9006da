"""A toy data set, and a whole search on it that takes seconds and that many tests read."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine

from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle
from aebnas.devices.profile import load_profile
from aebnas.experiment import Experiment
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.search import search
from aebnas.spaces.definition import load_space

torch.set_num_threads(1)


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """A study commits every gene; waiting each time until it is on the disk would be most of the time of the tests."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session", autouse=True)
def _measurements_of_the_tests_are_theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither does a test read what its user has measured, nor does it leave anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AEBNAS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


CLASSES = 4
SPACE = """\
slots: 1
max_exits: 2
layers:
  conv1: [{kind: conv, kernel: 1}, batch-norm, relu]
heads:
  pooled-linear: pooled-linear
  grid-linear-2: {kind: grid-linear, size: 2}
"""
# Nothing is measured on it, so a search costs no time for it and gives the same figures everywhere.
PROFILE = """\
name: paper
description: A device that cannot be measured from here
connection: none
"""


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz (8x8 images of 4 noisy patterns), space.yaml and device.yaml."""
    folder = tmp_path_factory.mktemp("toy")
    random = np.random.default_rng(0)
    patterns = random.integers(40, 216, (CLASSES, 8, 8))

    def part(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % CLASSES
        # Half of the images are easy and half are hard, so that exiting early is worth something.
        noise = random.normal(0, 1, (count, 8, 8)) * np.where(random.random(count) < 0.5, 20, 90)[:, None, None]
        return np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels

    (x_train, y_train), (x_test, y_test) = part(320), part(120)
    np.savez(folder / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (folder / "space.yaml").write_text(SPACE)
    (folder / "device.yaml").write_text(PROFILE)
    return folder


@pytest.fixture(scope="session")
def toy_data(toy_files: Path) -> DataBundle:
    return load_data(DataSettings(name="npz", path=toy_files / "data.npz", validation=0.25), seed=0)


@pytest.fixture(scope="session")
def toy_experiment(toy_files: Path) -> Callable[..., Experiment]:
    """Make an experiment of seconds; keyword arguments are dotted keys with two underscores for the dot."""
    values = {
        "name": "toy",
        "data": {"name": "npz", "path": str(toy_files / "data.npz"), "validation": 0.25},
        "backbone": {"name": "convnet", "options": {"depth": 4, "width": 4}},
        "backbone_training": {"epochs": 6, "batch_size": 32},
        "attach": {"points": 2},
        "space": str(toy_files / "space.yaml"),
        "regime": {"training": {"epochs": 3, "batch_size": 32, "lr": 0.05}, "final_epochs": 4},
        "search": {"trials": 4, "finalists": 2, "population": 4, "objectives": ["accuracy", "macs"], "starts": False},
        "device": str(toy_files / "device.yaml"),
        "accelerator": "cpu",
    }

    def make(**options: object) -> Experiment:
        return Experiment.model_validate(values).override({k.replace("__", "."): v for k, v in options.items()})

    return make


@pytest.fixture(scope="session")
def start() -> Callable[[RunFolder, Experiment], None]:
    """Claim a folder for an experiment as a search does, with the space and the profile that the experiment names."""

    def claim(folder: RunFolder, experiment: Experiment) -> None:
        folder.start(experiment, load_space(experiment.space), load_profile(experiment.device))

    return claim


@pytest.fixture(scope="session")
def finished(toy_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search that counted MACs; not to be written to."""
    return search(toy_experiment(), run_dir=tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished search, to be damaged or gone on with."""
    shutil.copytree(finished.folder.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="session")
def prepared(toy_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Toy data and the trained backbone, cut at two points; not to be written to."""
    folder = RunFolder(tmp_path_factory.mktemp("prepared"))
    return prepare(toy_experiment(), folder, device=torch.device("cpu"), progress=Progress())


class PostgresServer:
    """A real PostgreSQL server in a temporary folder, which tests may kill and start again."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = ["--auth=trust", "--username=tester", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", "-D", folder / "data", *options)

    def url(self, database: str) -> str:
        return f"postgresql://tester@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, again after :meth:`kill` too, and wait until it answers."""
        for _ in range(120):
            if self._process is None or self._process.poll() is not None:
                # After a kill, what is left of its children may keep it from starting for a moment.
                self._process = self._launch()
            if self._run("pg_isready", "-h", "127.0.0.1", "-p", self.port, check=False).returncode == 0:
                return
            time.sleep(0.25)
        pytest.fail(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it and every process of it at once, as a power failure would: kill -9."""
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = children.read_text().split() if children.exists() else []
        for pid in (self._process.pid, *map(int, pids)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        self.start()
        self._databases += 1
        name = f"test{self._databases}"
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "tester", name)
        return self.url(name)

    def _launch(self) -> subprocess.Popen[bytes]:
        # No waiting for the disk: what these tests kill are processes, and the kernel keeps what they wrote.
        settings = [f"--{key}" for key in ("fsync=off", "max_connections=200", "shared_buffers=32MB")]
        place = ["-D", self._folder / "data", "-k", self._folder, "-h", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            command = [self._programs / "postgres", *place, *settings]
            return subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd=self._folder)

    def _run(self, program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = [self._programs / program, *map(str, arguments)]
        return subprocess.run(command, check=check, capture_output=True, user=self._user, cwd=self._folder)


def _postgres_programs() -> Path | None:
    """Return the folder of the server's programs, which Debian keeps from the path."""
    found = shutil.which("postgres")
    folders = [*([Path(found).resolve().parent] if found else []), *Path("/usr/lib/postgresql").glob("*/bin")]
    needed = ("postgres", "initdb", "createdb", "pg_isready")
    return next((folder for folder in folders if all((folder / name).exists() for name in needed)), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of all tests; what kills it starts it again through :func:`postgres`."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL (extra postgres) is not installed")
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server on this machine")
    # It refuses to run as root, and pytest's own folders are closed to other users.
    user = ("postgres" if _is_user("postgres") else "nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="aebnas-postgres-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user)
        server = PostgresServer(programs, Path(name), user)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _is_user(name: str) -> bool:
    pwd = pytest.importorskip("pwd")
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    return postgres_server.create_database()
