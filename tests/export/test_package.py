from __future__ import annotations

import json

import onnx
import pytest

from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession
from aebnas.files import digest


def test_the_folder_holds_what_the_manifest_lists(exported):
    folder = exported[2]
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.onnx")}
    stages = {f"staged/segment_{k}.onnx" for k in range(3)} | {f"staged/branch_{k}.onnx" for k in range(2)}
    assert files == set(manifest["files"]) == {"model.onnx", "backbone.onnx"} | stages
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
