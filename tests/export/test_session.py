from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from aebnas.errors import InputError, ProfileError, RunError
from aebnas.export.session import EarlyExitSession


@pytest.mark.parametrize("branches", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["single", "staged"])
def test_onnx_gives_the_labels_and_exits_of_pytorch(toys, exported, images, branches, mode):
    labels, exits, confidence = toys[branches].predict(images)
    result = EarlyExitSession(exported[branches]).run(images, mode=mode)
    clear = toys[branches].clear(images)
    np.testing.assert_array_equal(result.labels[clear], labels[clear])
    np.testing.assert_array_equal(result.exits[clear], exits[clear])
    np.testing.assert_allclose(result.confidence[clear], confidence[clear], atol=1e-5)
    assert clear.mean() > 0.99
    assert set(exits) == set(range(branches + 1))


@pytest.mark.parametrize("confidence", ["margin", "entropy"])
def test_every_confidence_survives_the_export(new_toy, images, tmp_path, confidence):
    toy = new_toy(2, confidence)
    images = images[toy.clear(images)]
    labels, exits, _ = toy.predict(images)
    session = EarlyExitSession(toy.export(tmp_path))
    assert len(images) > 290
    for mode in ("single", "staged"):
        result = session.run(images, mode=mode)
        np.testing.assert_array_equal(result.labels, labels)
        np.testing.assert_array_equal(result.exits, exits)


def test_thresholds_per_class_are_read_from_the_manifest(toys, exported, images, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    bar = toys[1].policy.thresholds[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), "thresholds": [[bar, None, 0]]}))
    said = EarlyExitSession(folder).all_exits(images)
    expected = np.select([said[1][0] == 0, said[1][0] == 2], [said[2][0] >= np.float32(bar), True], False)
    found = EarlyExitSession(folder).run(images, mode="staged").exits
    np.testing.assert_array_equal(found == 0, expected)
    assert 0 < expected.mean() < 1


def test_results_do_not_depend_on_the_batch_size(exported, images):
    whole = EarlyExitSession(exported[3]).run(images)
    parts = EarlyExitSession(exported[3], batch_size=7).run(images)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_array_equal(whole.exits, parts.exits)


def test_auto_takes_the_single_file_for_one_image_and_the_stages_for_more(exported, images, tmp_path):
    shutil.copytree(exported[1], tmp_path / "no-stages")
    shutil.rmtree(tmp_path / "no-stages" / "staged")
    shutil.copytree(exported[1], tmp_path / "no-single")
    (tmp_path / "no-single" / "model.onnx").unlink()
    assert len(EarlyExitSession(tmp_path / "no-stages").run(images[0]).labels) == 1
    assert len(EarlyExitSession(tmp_path / "no-single").run(images[:2]).labels) == 2


def test_raw_images_are_preprocessed_as_the_manifest_says(exported):
    raw = np.random.default_rng(1).integers(0, 256, (20, 2, 8, 8), dtype=np.uint8)
    mean, std = np.array([0.4, 0.5]).reshape(2, 1, 1), np.array([0.2, 0.3]).reshape(2, 1, 1)
    prepared = ((raw / 255 - mean) / std).astype(np.float32)
    session = EarlyExitSession(exported[2])
    np.testing.assert_allclose(session.prepare(raw), prepared, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(session.run(raw).labels, session.run(prepared).labels)


def test_no_images_give_no_predictions(exported):
    result = EarlyExitSession(exported[1]).run(np.empty((0, 2, 8, 8), np.float32))
    assert (result.labels.shape, result.exits.dtype, result.confidence.dtype) == ((0,), np.int64, np.float32)


def test_the_backbone_is_the_segments_without_exits(exported, toys, images):
    import torch

    with torch.no_grad():
        expected = torch.nn.Sequential(*toys[3].segments).eval()(torch.from_numpy(images)).argmax(1).numpy()
    session = EarlyExitSession(exported[3], batch_size=64)
    np.testing.assert_array_equal(session.backbone(images), expected)
    assert session.backbone_single(images[:1]).shape == (1, 3)


def test_what_is_known_about_the_network(exported):
    session = EarlyExitSession(exported[2])
    assert session.classes == ("a", "b", "c")
    assert session.num_exits == 3
    assert session.manifest["costs"] == {"macs_mean": 12.5}
    assert session.manifest["attach_shapes"] == [[6, 8, 8], [8, 4, 4]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 8, 8), np.float32), r"shape \(3, 8, 8\): give \(N, 2, 8, 8\) or one image \(2, 8, 8\)"),
        (np.zeros((1, 1, 2, 8, 8), np.float32), "images have shape"),
        (np.zeros((2, 8, 8), np.float64), "images are float64: give uint8"),
        (np.zeros((2, 8, 8), np.int64), "images are int64: give uint8"),
    ],
)
def test_wrong_images_are_refused(exported, images, message):
    with pytest.raises(InputError, match=message):
        EarlyExitSession(exported[1]).run(images)


def test_wrong_settings_are_refused(exported, images):
    with pytest.raises(InputError, match="no mode 'fast'"):
        EarlyExitSession(exported[1]).run(images, mode="fast")
    with pytest.raises(InputError, match="threads must be at least 1, not 0"):
        EarlyExitSession(exported[1], threads=0)
    with pytest.raises(ProfileError, match="no provider 'MoonExecutionProvider'"):
        EarlyExitSession(exported[1], provider="MoonExecutionProvider")


@pytest.mark.parametrize("name", ["model.onnx", "backbone.onnx", "staged/segment_1.onnx", "staged/branch_0.onnx"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_bad_model_file_is_named(exported, images, tmp_path, name, damage):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    session = EarlyExitSession(folder)
    with pytest.raises(RunError, match=name):
        session.run(images, mode="single")
        session.run(images, mode="staged")
        session.backbone(images)


def test_a_model_that_onnxruntime_refuses_is_named(exported, images, tmp_path):
    from aebnas.files import digest

    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    (folder / "model.onnx").write_bytes(b"not a model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = digest(b"not a model")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"model\.onnx cannot be loaded"):
        EarlyExitSession(folder).run(images[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: None,
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"thresholds"', '"other"'),
        lambda text: text.replace('"format": 1', '"format": 99'),
        lambda text: text.replace('"scale": ', '"scale": "x", "old": '),
        lambda text: json.dumps({**json.loads(text), "preprocessing": {"scale": 1, "mean": [0, 0, 0], "std": [1]}}),
        lambda text: json.dumps({**json.loads(text), "files": []}),
        lambda text: json.dumps({**json.loads(text), "thresholds": [None]}),
        lambda text: json.dumps({**json.loads(text), "thresholds": [[0.5, 0.5]]}),
        lambda text: json.dumps({**json.loads(text), "thresholds": [[0.5, "a", 0.5]]}),
        lambda text: json.dumps({**json.loads(text), "thresholds": [10**400]}),
    ],
)
def test_a_bad_manifest_is_named(exported, tmp_path, change):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    text = change(path.read_text())
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=r"manifest\.json"):
        EarlyExitSession(folder)


@pytest.mark.parametrize(
    "module",
    [
        "aebnas.export.session",
        "aebnas.export.evaluate",
        "aebnas.devices.device",
        "aebnas.devices.target.agent",
        "aebnas.devices.target.commands",
        "aebnas.devices.store",
        "aebnas.devices.profile",
        "aebnas.devices.identity",
    ],
)
def test_the_target_needs_no_torch(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_provider_is_the_manifests_unless_given(exported, images, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    assert values["provider"] == "CPUExecutionProvider"

    path.write_text(json.dumps({**values, "provider": "MoonExecutionProvider"}))
    with pytest.raises(ProfileError, match="no provider 'MoonExecutionProvider': choose one of"):
        EarlyExitSession(folder)
    given = EarlyExitSession(folder, provider="CPUExecutionProvider")
    assert len(given.run(images[:3]).labels) == 3

    del values["provider"]  # as manifests were before they had it
    path.write_text(json.dumps(values))
    assert len(EarlyExitSession(folder).run(images[:3]).labels) == 3


def test_the_provider_reaches_onnxruntime(exported, images, tmp_path, monkeypatch):
    from aebnas.export import session as module

    opened = []

    def spy(model, **options):
        opened.append(options["provider"])
        return open_session(model, **{**options, "provider": "CPUExecutionProvider"})

    folder = tmp_path / "export"
    shutil.copytree(exported[1], folder)
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "provider": "MoonExecutionProvider"}))
    open_session = module.open_session
    monkeypatch.setattr(module, "open_session", spy)
    monkeypatch.setattr(module.ort, "get_available_providers", lambda: ["MoonExecutionProvider", "Sun"])
    EarlyExitSession(folder).run(images[0])
    EarlyExitSession(folder, provider="Sun").run(images[0])
    assert opened == ["MoonExecutionProvider", "Sun"]
