"""The C++ sample compiles and says what EarlyExitSession says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest
from pictured import Case, run
from PIL import Image

from aebnas.export.samples import TEMPLATES


def of_python(folder: Path) -> Path:
    """Lay the library of Python's onnxruntime down as a release does; headers do not come with it."""
    (folder / "lib").mkdir(parents=True)
    for library in (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"):
        major = library.name.removeprefix("libonnxruntime.so.").split(".")[0]
        for name in ("libonnxruntime.so", f"libonnxruntime.so.{major}"):
            (folder / "lib" / name).symlink_to(library)
    return folder


@pytest.fixture(scope="session")
def program(tmp_path_factory) -> Path:
    """The C++ sample, compiled against the ONNX Runtime in ONNXRUNTIME_ROOT, or one that the compiler finds itself.

    Where it finds the headers only, it is linked to the library of Python's onnxruntime: newer ones take older headers.
    """
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("there is no cmake or no C++ compiler on this machine")
    build = tmp_path_factory.mktemp("cpp")
    command = ["cmake", "-S", TEMPLATES / "cpp", "-B", build, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"]
    roots = [os.environ.get("ONNXRUNTIME_ROOT", ""), of_python(tmp_path_factory.mktemp("python"))]
    for root in roots:
        done = subprocess.run([*command, f"-DONNXRUNTIME_ROOT={root}"], capture_output=True, text=True, check=False)
        if "ONNXRUNTIME_LIBRARY" not in done.stderr:
            break
    if "ONNXRUNTIME" in done.stderr:
        pytest.skip(
            "there is no ONNX Runtime for C++ on this machine: set ONNXRUNTIME_ROOT to an unpacked release, "
            "or install libonnxruntime-dev"
        )
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
