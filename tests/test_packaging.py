"""What users install: the wheel is whole, works away from the checkout, and says of itself what is true."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import aebnas

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RESOURCES = ("search_spaces", "hardware_profiles", "experiments")
EXPERIMENT = """\
name: installed
data: {name: digits}
backbone: {name: convnet, options: {depth: 4, width: 4}}
backbone_training: {epochs: 1}
attach: {points: 2}
regime: {training: {epochs: 1}, final_epochs: 1}
search: {trials: 2, finalists: 1, objectives: [accuracy, macs]}
device: raspberry-pi-5
"""


def run(*words: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of an sdist and of the wheel that was made of it, without a network."""
    pytest.importorskip("build", reason="the package build is not installed (extra dev)")
    pytest.importorskip("hatchling", reason="the build backend is not installed (extra dev)")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A fresh environment with the wheel; what it depends on comes from this one, the checkout does not."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    # A path in a .pth file is not searched for other .pth files, so that of a checkout in development has no effect.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    # But for what keeps distutils alive, which a user's own setuptools brings.
    for path in Path(sysconfig.get_paths()["purelib"]).glob("distutils-precedence.pth"):
        shutil.copy(path, packages)
    where = run(python, "-c", "import aebnas; print(aebnas.__file__)", cwd=folder).strip()
    assert Path(where).is_relative_to(folder)
    return folder


def test_the_wheel_holds_all_that_the_package_reads(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    own = [path.relative_to(ROOT).as_posix() for path in (ROOT / "aebnas").rglob("*") if path.is_file()]
    wanted = {name for name in own if "__pycache__" not in name}
    wanted |= {f"aebnas/_resources/{folder}/{path.name}" for folder in RESOURCES for path in (ROOT / folder).iterdir()}
    assert "aebnas/py.typed" in wanted
    assert wanted <= names
    # And nothing but that.
    assert {name.split("/")[0] for name in names} == {"aebnas", f"aebnas-{aebnas.__version__}.dist-info"}


def test_the_sdist_holds_tests_and_pages_and_no_runs(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("tests/conftest.py", "docs/index.md", "docs/conf.py", "notebooks/quickstart.ipynb", "CITATION.cff"):
        assert wanted in names
    assert {"benchmarks/search.py", "search_spaces/compact.yaml", "Makefile", "LICENSE"} <= names
    assert not {name.split("/")[0] for name in names} & {"runs", ".venv", "dist", ".git", ".mypy_cache"}


def test_an_installed_package_works_in_another_folder(installed, tmp_path):
    command = installed / "venv" / "bin" / "aebnas"
    assert {"disjoint", "joint", "calex"} <= set(run(command, "list", "regimes", cwd=tmp_path).split())
    for kind, folder in (("spaces", "search_spaces"), ("device", "hardware_profiles")):
        words = ("device", "list") if kind == "device" else ("list", kind)
        assert run(command, *words, cwd=tmp_path).split() == sorted(
            path.stem for path in (ROOT / folder).glob("*.yaml")
        )
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    run(command, "search", "mine.yaml", cwd=tmp_path)
    run(command, "report", "runs/installed", cwd=tmp_path)
    assert "<html" in (tmp_path / "runs" / "installed" / "report.html").read_text(encoding="utf-8")
    run(command, "export", "runs/installed", "--out", "mine-onnx", cwd=tmp_path)
    run(command, "evaluate", "mine-onnx", "--limit", "20", "--json", cwd=tmp_path)


def test_the_versions_of_python_that_are_named_are_the_same_everywhere():
    oldest = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])[1]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert named[0] == oldest
    for file in ("README.md", "Makefile", ".ci/run", "docs/start.md"):
        assert f"Python {oldest} or newer" in (ROOT / file).read_text(encoding="utf-8"), file
    major, minor = oldest.split(".")
    assert f"({major}, {minor})" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_extra_that_is_not_a_tool_is_in_dev():
    extras = PROJECT["optional-dependencies"]
    inside = re.search(r"aebnas\[([\w,]+)\]", " ".join(extras["dev"]))[1].split(",")
    assert sorted(inside) == sorted(set(extras) - {"dev"})


def test_the_citation_is_whole():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert (cited["type"], cited["title"]) == ("software", "aebnas")
    assert str(cited["version"]) == aebnas.__version__ == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["message"]
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in PROJECT["authors"]]
    methods = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    known = set(re.findall(r"\d{4}\.\d{5}", methods)) | {"2512.10671", "2508.21495"}
    for paper in cited["references"]:
        assert paper["type"] == "article"
        assert paper["title"]
        assert all(author.keys() == {"family-names", "given-names"} for author in paper["authors"])
        (number,) = [identifier["value"].removeprefix("arXiv:") for identifier in paper["identifiers"]]
        assert number in known
        assert 2000 + int(number[:2]) == paper["year"]
