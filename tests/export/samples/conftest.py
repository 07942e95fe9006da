"""Networks that the samples are run with, and what npm installs for them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aebnas.export.package import export_network
from aebnas.export.samples import TEMPLATES

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so what they share must be findable

from pictured import COUNT, NAMES, Case, clear, export, pixels_of, save


@pytest.fixture(scope="module", params=["digits", "fashion-mnist", "colour"])
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    raw, white = pixels_of(request.param)
    session = export(folder, raw, white, NAMES)
    raw = raw[clear(session, raw)]
    every = session.run(raw).exits
    chosen = np.concatenate([np.flatnonzero(every == exit_)[: COUNT // 3] for exit_ in range(3)])
    assert len(chosen) == COUNT
    paths = []
    for number in chosen:
        paths.append(folder / f"picture {number}.png")
        save(raw[number], white, paths[-1])
    return Case(folder, paths, session.run(raw[chosen], mode="single"), NAMES)


@pytest.fixture
def floats(toys, tmp_path):
    """An export whose data are no 8-bit pixels."""
    toy = toys[1]
    export_network(
        tmp_path / "floats",
        segments=toy.segments,
        branches=toy.branches,
        policy=toy.policy,
        input_shape=(2, 8, 8),
        classes="abc",
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={},
        extra={},
    )
    return tmp_path / "floats"


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """The node_modules of the samples, from npm's registry; they are large, so they go when the tests are done."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine")
    root = tmp_path_factory.mktemp("npm")
    found = {}
    for name in ("javascript", "web"):
        shutil.copytree(TEMPLATES / name, root / name)
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=root / name, capture_output=True, text=True, check=False, timeout=180)
        except subprocess.TimeoutExpired:
            shutil.rmtree(root)
            pytest.skip("npm install takes too long here")
        if done.returncode:
            shutil.rmtree(root)
            pytest.skip(f"npm install does not work here: {done.stderr.strip()[-200:]}")
        found[name] = root / name / "node_modules"
    yield found
    shutil.rmtree(root)
