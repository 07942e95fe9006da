"""The samples are in every export, and what keeps them from being written is told."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess

import pytest

from aebnas.cli import main
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import RunError, RunFailed
from aebnas.export import package
from aebnas.export.samples import FILES, TEMPLATES, read_samples
from aebnas.export.session import EarlyExitSession
from aebnas.inputs import ModelInput
from aebnas.rebuild import export_row, rebuild
from aebnas.run_folder import RunFolder


def test_every_sample_is_in_every_export(exported):
    for folder in exported.values():
        assert {name: (folder / "samples" / name).read_bytes() for name in FILES} == read_samples()


def test_every_template_is_written():
    found = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == set(FILES)


def test_an_installation_without_the_samples_is_told_before_anything_is_removed(toys, tmp_path, monkeypatch):
    out = toys[1].export(tmp_path / "out")
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    (tmp_path / "templates" / "web" / "index.html").unlink()
    monkeypatch.setattr(package, "read_samples", lambda: read_samples(tmp_path / "templates"))
    with pytest.raises(
        RunFailed, match=r"web/index\.html cannot be read \(No such file.*is not whole, install it again"
    ):
        toys[1].export(out)
    assert EarlyExitSession(out).num_exits == 2


def test_samples_that_cannot_be_written_are_named(toys, tmp_path):
    (tmp_path / "samples").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*samples.*choose another folder"):
        toys[1].export(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_disk_that_samples_do_not_fit_on_is_told(toys, small_disk, monkeypatch):
    monkeypatch.setattr(package, "read_samples", lambda: {"README.md": bytes(2 << 20)})
    with pytest.raises(RunFailed, match=r"cannot write .*README\.md: No space left on device; free some space"):
        toys[1].export(small_disk / "out")
    assert not (small_disk / "out" / "manifest.json").exists()


def test_an_export_to_a_read_only_disk_is_told(toys, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RunError, match=r"cannot write .*: Read-only file system"):
        toys[1].export(small_disk / "out")


def test_export_says_where_the_samples_are(finished, tmp_path, capsys):
    assert main(["export", str(finished.folder.path), "--out", str(tmp_path / "out")]) == 0
    assert f"a web page: {tmp_path / 'out' / 'samples'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "samples" / "README.md").exists()


def test_the_manifest_says_how_pictures_were_resized(prepared, tmp_path):
    wanted = ModelInput((8, 8), (0.5,), (0.5,), interpolation="bicubic", crop=0.9)
    for resize, expected in [("crop", ("crop", "bicubic", 0.9)), ("stretch", ("stretch", "bicubic", 1.0))]:
        changed = dataclasses.replace(
            prepared,
            data=dataclasses.replace(prepared.data, wanted=wanted),
            experiment=prepared.experiment.override({"data.resize": resize}),
        )
        folder = RunFolder(tmp_path / resize)
        row = {"id": "backbone", "static": True, "exits": [], "weights": {"branches": []}, "thresholds": []}
        row |= {"exit_shares": [1.0], "confidence": None}
        profile = HardwareProfile(name="paper", description="d", connection="none")
        out = export_row(row, rebuild(row, changed, folder), changed, tmp_path / resize, profile, folder)
        pixels = json.loads((out / "manifest.json").read_text())["pixels"]
        assert (pixels["resize"], pixels["interpolation"], pixels["crop"]) == expected
