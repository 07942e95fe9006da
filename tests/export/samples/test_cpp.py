"""The C++ sample compiles and says what EarlyExitSession says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pictured import Case, run
from PIL import Image

from aebnas.export.samples import TEMPLATES


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """The C++ sample, compiled against the ONNX Runtime in ONNXRUNTIME_ROOT, or one that the compiler finds itself."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake or no C++ compiler on this machine")
    build = tmp_path_factory.mktemp("cpp")
    command = ["cmake", "-S", TEMPLATES / "cpp", "-B", build, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"]
    if root := os.environ.get("ONNXRUNTIME_ROOT"):
        command.append(f"-DONNXRUNTIME_ROOT={root}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ONNXRUNTIME" in done.stderr:
        pytest.skip("there are no headers of ONNX Runtime on this machine: set ONNXRUNTIME_ROOT to an unpacked release")
    assert done.returncode == 0, done.stderr
    run("cmake", "--build", build)
    return build / "classify"


def test_cpp(case, program, tmp_path):
    paths = []
    for picture in case.pictures:
        with Image.open(picture) as opened:
            paths.append(tmp_path / f"{picture.stem}.{'pgm' if opened.mode == 'L' else 'ppm'}")
            opened.save(paths[-1])
    Case(case.folder, paths, case.expected, case.classes).check(run(program, case.folder, *paths))
