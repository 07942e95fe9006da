"""The C++ sample compiles and says what EarlyExitSession says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from pictured import LINE, Case, classify, run
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


def refused(*words: object) -> str:
    """Run a program that refuses; return what it says then."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_cpp(case, program, tmp_path):
    paths = []
    for picture in case.pictures:
        with Image.open(picture) as opened:
            paths.append(tmp_path / f"{picture.stem}.{'pgm' if opened.mode == 'L' else 'ppm'}")
            opened.save(paths[-1])
    Case(case.folder, paths, case.expected, case.classes).check(run(program, case.folder, *paths))


@pytest.mark.parametrize("case", ["digits", "colour"], indirect=True)
def test_cpp_resizes_as_the_python_sample_does(case, program, tmp_path):
    """Pictures whose height shrinks more than their width are left out: Pillow 13 begins with another axis than 12."""
    random = np.random.default_rng(0)
    paths = []
    for number, shape in enumerate(
        [(3, 5), (4, 8, 3), (1, 1, 3), (8, 8), (9, 40), (7, 50, 3), (12, 20), (131, 257, 3)]
    ):
        values = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        paths.append(tmp_path / f"{number}.{'pgm' if values.mode == 'L' else 'ppm'}")
        values.save(paths[-1])
    found, expected = (LINE.findall(said) for said in (run(program, case.folder, *paths), classify(case, *paths)))
    assert [(file, name, exit_) for file, name, _, exit_ in found] == [(f, n, e) for f, n, _, e in expected]
    assert [file for file, *_ in found] == list(map(str, paths))
    np.testing.assert_allclose([float(s) for _, _, s, _ in found], [float(s) for _, _, s, _ in expected], atol=1.5e-4)


@pytest.mark.parametrize("case", ["digits"], indirect=True)
def test_cpp_says_which_picture_is_damaged(case, program, tmp_path):
    path = tmp_path / "damaged.pgm"
    for content in (b"", b"P4 8 1 a"):
        path.write_bytes(content)
        assert refused(program, case.folder, path) == f"{path} is no binary PPM or PGM file\n"
    for content in (b"P6", b"P6 # no end", b"P5 2 2 255 abc", b"P5 99999999999 2 255 abcd", b"P5 1 1 65535 ab"):
        path.write_bytes(content)
        assert refused(program, case.folder, path) == f"{path} is cut off or has no 8 bits\n"


def test_cpp_says_that_a_network_takes_no_pictures(floats, program):
    said = "this network takes no pictures as they are: manifest.json says why\n"
    assert refused(program, floats, "x.ppm") == said
