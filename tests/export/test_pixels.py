"""The file that takes 8-bit pixels says of every image what preprocessing and the float file say, to the last bit."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from aebnas.errors import RunError
from aebnas.export.manifest import PIXEL_FILE, SINGLE_FILE, read_manifest
from aebnas.export.package import export_network
from aebnas.export.pixels import why_no_pixels, with_pixels
from aebnas.export.session import EarlyExitSession, open_session


@pytest.fixture(scope="module")
def raw():
    """Pixels that are all over the range, and some images of few values."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (300, 2, 8, 8), dtype=np.uint8)
    pixels[::5] = random.integers(0, 256, (60, 2, 1, 1), dtype=np.uint8)
    return pixels


def same(found, expected):
    for name in ("labels", "exits", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("branches", [0, 1, 2, 3])
def test_it_says_what_the_float_file_says(exported, raw, branches):
    session = EarlyExitSession(exported[branches])
    expected = session.run(session.prepare(raw), mode="single")
    assert len(set(expected.labels)) > 1
    assert set(expected.exits) == set(range(branches + 1))
    last = np.ascontiguousarray(raw.transpose(0, 2, 3, 1))
    same(session.run(raw, mode="single"), expected)
    same(session.run(last, mode="single"), expected)
    one = session.run(last[7])
    assert (one.labels[0], one.exits[0]) == (expected.labels[7], expected.exits[7])


def test_batches_of_pixels_are_prepared_and_run_stage_by_stage(exported, raw):
    session = EarlyExitSession(exported[2])
    expected = session.run(session.prepare(raw), mode="staged")
    same(session.run(raw), expected)
    same(session.run(raw.transpose(0, 2, 3, 1)), expected)


def test_one_image_of_pixels_takes_the_file_for_them(exported, raw, tmp_path):
    shutil.copytree(exported[2], tmp_path / "export")
    (tmp_path / "export" / SINGLE_FILE).unlink()
    session = EarlyExitSession(tmp_path / "export")
    assert session.run(raw[0]).labels.shape == (1,)
    with pytest.raises(RunError, match=r"model\.onnx is missing"):
        session.run(session.prepare(raw[0]))


def test_its_ports_are_those_of_the_contract(exported):
    model = onnx.load(exported[2] / PIXEL_FILE)
    onnx.checker.check_model(model, full_check=True)
    (given,) = model.graph.input
    assert given.name == "image"
    assert given.type.tensor_type.elem_type == TensorProto.UINT8
    assert [size.dim_value for size in given.type.tensor_type.shape.dim] == [1, 8, 8, 2]
    plain = onnx.load(exported[2] / SINGLE_FILE)
    assert list(model.graph.output) == list(plain.graph.output)
    assert read_manifest(exported[2]).values["pixels"] == {
        "file": "model_uint8.onnx",
        "input": "image",
        "shape": [1, 8, 8, 2],
        "white": 255,
        "resize": "stretch",
        "interpolation": "bilinear",
        "crop": 1.0,
    }


def test_all_behind_the_preparation_stays_where_it_was(exported):
    """Weights behind an exit are in its If and nowhere else: outside, onnxruntime would not pre-pack them."""
    plain, made = (onnx.load(exported[2] / name).graph for name in (SINGLE_FILE, PIXEL_FILE))
    assert list(made.node)[5:] == list(plain.node)
    assert [node.op_type for node in made.node[:5]] == ["Transpose", "Cast", "Mul", "Sub", "Div"]
    assert list(made.initializer)[: len(plain.initializer)] == list(plain.initializer)
    assert [tensor.name for tensor in made.initializer[len(plain.initializer) :]] == [
        f"prepare/{name}" for name in ("scale", "mean", "std")
    ]


def test_the_model_it_is_made_of_is_left_alone(exported):
    content = (exported[1] / SINGLE_FILE).read_bytes()
    model = onnx.load_from_string(content)
    with_pixels(model, {"scale": 1 / 255, "mean": [0.5], "std": [0.5]}, (2, 8, 8))
    assert model == onnx.load_from_string(content)


def test_one_mean_and_deviation_may_serve_all_channels(exported, raw):
    model = onnx.load(exported[1] / SINGLE_FILE)
    made = with_pixels(model, {"scale": 1 / 255, "mean": [0.4], "std": [0.3]}, (2, 8, 8))
    session = open_session(made.SerializeToString(), threads=1)
    found = [session.run(["logits"], {"image": np.moveaxis(image, 0, -1)[None]})[0] for image in raw[:20]]
    plain = EarlyExitSession(exported[1])._session(SINGLE_FILE)
    scaled = raw.astype(np.float32) * np.float32(1 / 255)
    inputs = (scaled - np.float32(0.4)) / np.float32(0.3)
    np.testing.assert_array_equal(found, [plain.run(["logits"], {"input": image[None]})[0] for image in inputs[:20]])


@pytest.mark.parametrize("how", ["export of before", "deleted"])
def test_without_the_file_all_is_as_before(exported, raw, tmp_path, how):
    folder = tmp_path / "export"
    shutil.copytree(exported[2], folder)
    (folder / PIXEL_FILE).unlink()
    if how == "export of before":
        path = folder / "manifest.json"
        values = json.loads(path.read_text())
        del values["files"][PIXEL_FILE], values["pixels"]
        path.write_text(json.dumps(values))
        shutil.rmtree(folder / "samples")
    for mode in ("single", "staged"):
        same(EarlyExitSession(folder).run(raw, mode=mode), EarlyExitSession(exported[2]).run(raw, mode=mode))


def test_a_damaged_file_is_named(exported, raw, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    (folder / PIXEL_FILE).write_bytes((folder / PIXEL_FILE).read_bytes()[:-10])
    with pytest.raises(RunError, match=r"model_uint8\.onnx is damaged or belongs to another export"):
        EarlyExitSession(folder).run(raw[0])


@pytest.mark.parametrize(
    ("scale", "shape", "reason"),
    [
        (1 / 255, (3, 8, 8), None),
        (1 / 16, (1, 8, 8), None),
        (1.0, (3, 8, 8), r"scaled by 1, so they are no 8-bit pixels"),
        (1 / 65535, (3, 8, 8), r"scaled by 1\.5259e-05, so they are no 8-bit pixels"),
        (0.7, (3, 8, 8), r"scaled by 0\.7, so"),
        (1 / 255, (64,), r"shape \(64,\), which is no image"),
    ],
)
def test_what_is_no_8_bit_picture_is_told(scale, shape, reason):
    said = why_no_pixels({"scale": scale}, shape)
    assert said is None if reason is None else re.search(reason, said)


def test_it_is_left_out_where_data_are_no_pixels_and_one_of_before_goes(toys, exported, images, tmp_path):
    folder, toy = tmp_path / "export", toys[1]
    shutil.copytree(exported[1], folder)
    export_network(
        folder,
        segments=toy.segments,
        branches=toy.branches,
        policy=toy.policy,
        input_shape=(2, 8, 8),
        classes="abc",
        preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        costs={},
        extra={},
    )
    assert not (folder / PIXEL_FILE).exists()
    manifest = read_manifest(folder)
    assert PIXEL_FILE not in manifest.files
    assert "no 8-bit pixels" in manifest.values["pixels"]["left_out"]
    raw = images[:5].astype(np.uint8)
    same(
        EarlyExitSession(folder).run(raw, mode="single"), EarlyExitSession(folder).run(raw.astype(np.float32), "single")
    )
