"""A toy data set, and a whole search on it that takes seconds and that many tests read."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
from benchmarks.postgres import PostgresServer
from benchmarks.postgres import postgres_server as running_server

torch.set_num_threads(1)
# A shell that starts tests in the background lets them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_torchvision_be_imported() -> torch.library.Library | None:
    """Declare the two operators that torchvision's import asks for, where its binary does not fit a torch without CUDA.

    Nothing that the tests use calls them. Users install a torchvision that fits, which needs none of this.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return None
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        return library
    return None


_DECLARED = _let_torchvision_be_imported()


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
def toy_images(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the toy data as a folder of image files; grey ones."""
    pillow = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("toy images")
    arrays = np.load(toy_files / "data.npz")
    for part in ("train", "test"):
        for place, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            folder = root / part / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            pillow.fromarray(image).save(folder / f"{place:04}.png")
    return root


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


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve a folder to this machine alone, as ``python -m http.server`` does; return the address."""
    with contextlib.ExitStack() as stack:

        def start(folder: Path, handler: type[SimpleHTTPRequestHandler] = SimpleHTTPRequestHandler) -> str:
            quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder))))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a small disk")
    yield disk
    # What has a file open there does not keep it.
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of all tests; what kills it starts it again through :func:`postgres`."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL (extra postgres) is not installed")
    # No waiting for the disk: what these tests kill are processes, and the kernel keeps what they wrote.
    with running_server("fsync=off", "max_connections=200", "shared_buffers=32MB") as server:
        if server is None:
            pytest.skip("there is no PostgreSQL server on this machine")
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database."""
    return postgres_server.create_database()
