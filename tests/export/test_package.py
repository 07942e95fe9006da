from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from aebnas.errors import InputError, RunError
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network, update_costs
from aebnas.export.session import EarlyExitSession
from aebnas.files import digest


def test_the_folder_holds_what_the_manifest_lists(exported):
    folder = exported[2]
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.onnx")}
    stages = {f"staged/segment_{k}.onnx" for k in range(3)} | {f"staged/branch_{k}.onnx" for k in range(2)}
    assert files == set(manifest["files"]) == {"model.onnx", "model_uint8.onnx", "backbone.onnx"} | stages
    assert all(digest((folder / name).read_bytes()) == value for name, value in manifest["files"].items())
    for name in files:
        onnx.checker.check_model(onnx.load(folder / name), full_check=True)


def test_the_manifest_says_how_to_decide(exported, toys):
    manifest = json.loads((exported[2] / "manifest.json").read_text())
    assert manifest["confidence"] == "max-probability"
    assert tuple(manifest["thresholds"]) == toys[2].policy.thresholds
    assert manifest["exits"] == 3
    assert manifest["extra"] == {"id": "toy"}


def test_an_earlier_export_is_replaced(toys, images, tmp_path):
    toys[3].export(tmp_path)
    toys[1].export(tmp_path)
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == [
        "branch_0.onnx",
        "segment_0.onnx",
        "segment_1.onnx",
    ]
    assert EarlyExitSession(tmp_path).run(images).exits.max() == 1


def test_switched_off_branches_need_no_module(toys, images, tmp_path):
    toy = toys[1]
    policy = type(toy.policy)(toy.policy.confidence, (None, *toy.policy.thresholds))
    export_network(
        tmp_path,
        segments=toy.segments,
        branches=toy.branches,
        policy=policy,
        input_shape=(2, 8, 8),
        classes="abc",
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={},
        extra={},
        threads=2,
        provider="CUDAExecutionProvider",
    )
    session = EarlyExitSession(tmp_path, provider="CPUExecutionProvider")
    assert session.manifest["threads"] == 2
    assert session.manifest["provider"] == "CUDAExecutionProvider"
    assert (session.run(images).exits == toy.predict(images)[1]).all()


def test_counts_that_do_not_fit_are_refused(toys, tmp_path):
    toy = toys[2]
    with pytest.raises(ValueError, match="1 branches need 2 segments and 1 thresholds, not 3 and 2"):
        type(toy)(toy.segments, toy.branches[:1], toy.policy).export(tmp_path)
    assert not any(tmp_path.iterdir())


def test_thresholds_of_other_classes_are_refused_before_anything_is_written(toys, tmp_path):
    toy = toys[1]
    lame = type(toy)(toy.segments, toy.branches, Policy("margin", ((0.5, 0.5),)))
    with pytest.raises(InputError, match="thresholds for 2 classes, this network tells 3: give one per class"):
        lame.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_backbone_is_exported_beside_the_whole_one(toys, images, tmp_path):
    toy = toys[1]
    truncated, whole = nn.Sequential(toy.segments[0], toy.branches[0]), nn.Sequential(*toy.segments)
    export_network(
        tmp_path,
        segments=[truncated],
        branches=[],
        policy=Policy("max-probability", ()),
        input_shape=(2, 8, 8),
        classes="abc",
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={},
        extra={},
        backbone=whole,
    )
    with torch.no_grad():
        short, full = (part.eval()(torch.from_numpy(images)).argmax(1).numpy() for part in (truncated, whole))
    assert (short != full).any()
    session = EarlyExitSession(tmp_path)
    assert session.num_exits == 1
    for mode in ("single", "staged"):
        prediction = session.run(images, mode=mode)
        np.testing.assert_array_equal(prediction.labels, short)
        assert not prediction.exits.any()
    np.testing.assert_array_equal(session.backbone(images), full)


def test_costs_can_be_put_in_later(exported, images, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    before = json.loads((folder / "manifest.json").read_text())
    update_costs(folder, {"latency_ms_measured": 0.25})
    after = json.loads((folder / "manifest.json").read_text())
    assert after == {**before, "costs": {"latency_ms_measured": 0.25}}
    assert list(after) == list(before)
    assert len(EarlyExitSession(folder).run(images[:3]).labels) == 3


def test_costs_that_cannot_be_put_in_leave_the_manifest(exported, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        update_costs(folder, {"latency_ms_measured": float("nan")})
    assert (folder / "manifest.json").read_bytes() == before
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        update_costs(tmp_path / "nowhere", {})


@pytest.mark.parametrize("name", ["manifest.json", "staged/branch_0.onnx"])
def test_an_earlier_export_that_cannot_be_removed_is_a_sentence(toys, tmp_path, monkeypatch, name):
    out = toys[1].export(tmp_path / "out")
    unlink = Path.unlink

    # Not by taking the folder's permission away: root would be allowed all the same.
    def refuse(path, missing_ok=False):
        if path == out / name:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match=r"earlier export cannot be removed \(Permission denied\): choose") as caught:
        toys[1].export(out)
    assert str(out / name) in str(caught.value)


def test_a_file_in_the_place_of_the_folder_is_a_sentence(toys, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(RunError, match="out"):
        toys[1].export(tmp_path / "out")
