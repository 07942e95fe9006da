from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from aebnas.backbones.build import build_backbone, comes_trained, has_new_classifier, state_fingerprint, wanted_input
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import BackboneError
from aebnas.inputs import ModelInput
from aebnas.prepare import Prepared, prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.training.settings import BackboneFitSettings

timm = pytest.importorskip("timm")

SMALL = "timm:mobilenetv3_small_050"
TAG = "lamb_in1k"
TINY_VIT = {"patch_size": 16, "depth": 2, "embed_dim": 24, "num_heads": 2}
SHAPE = (3, 32, 32)


def build(name: str = SMALL, shape=SHAPE, classes: int = 5, load: bool = True, **settings) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(BackboneSettings(name=name, **settings), num_classes=classes, input_shape=shape, load=load)


@pytest.fixture
def weights(tmp_path, monkeypatch, serve) -> tuple[Path, dict[str, torch.Tensor]]:
    """The file of weights of the small model, and these; where timm looks for those of ImageNet."""
    from timm.models import _registry

    folder = tmp_path / "served"
    folder.mkdir()
    torch.manual_seed(1)
    state = timm.create_model(SMALL.partition(":")[2]).state_dict()
    torch.save(state, folder / "small.pth")
    url = f"{serve(folder)}/small.pth"
    for name in ("mobilenetv3_small_050", f"mobilenetv3_small_050.{TAG}"):
        there = _registry._model_pretrained_cfgs[name]
        here = dataclasses.replace(there, url=url, hf_hub_id=None, source=None)
        monkeypatch.setitem(_registry._model_pretrained_cfgs, name, here)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return folder / "small.pth", state


def test_a_model_takes_options_and_the_shape_and_classes_of_the_data():
    model = build("timm:vit_tiny_patch16_224", (1, 32, 48), options=TINY_VIT)
    assert model(torch.zeros(2, 1, 32, 48)).shape == (2, 5)
    assert model.pos_embed.shape == (1, 1 + 2 * 3, 24)


@pytest.mark.parametrize("tag", [TAG, "default"])
def test_weights_are_downloaded_and_other_classes_get_a_new_classifier(weights, tag):
    model = build(weights=tag)
    own = model.state_dict()
    assert own["classifier.weight"].shape[0] == 5
    assert all(torch.equal(own[key], one) for key, one in weights[1].items() if not key.startswith("classifier."))
    grey = build(weights=tag, shape=(1, 32, 32)).state_dict()
    torch.testing.assert_close(grey["conv_stem.weight"], weights[1]["conv_stem.weight"].sum(1, keepdim=True))


def test_weights_are_not_downloaded_where_somebody_brings_them(weights, tmp_path):
    assert build(weights=TAG, load=False).eval()(torch.zeros(1, *SHAPE)).shape == (1, 5)
    assert not list(tmp_path.glob("home/**/*.pth"))


def test_a_download_that_fails_says_how_to_bring_the_file(weights, tmp_path):
    file, state = weights
    file.unlink()
    with pytest.raises(BackboneError, match=r"cannot be downloaded or loaded \(.*404.*as a folder with config.json"):
        build(weights=TAG)
    # What it says helps.
    (tmp_path / "brought").mkdir()
    torch.save(state, tmp_path / "brought" / "small.pth")
    config = {"architecture": "mobilenetv3_small_050", "num_classes": 1000}
    (tmp_path / "brought" / "config.json").write_text(json.dumps(config))
    own = build("folder", checkpoint=tmp_path / "brought").state_dict()
    assert all(torch.equal(own[key], one) for key, one in state.items() if not key.startswith("classifier."))


@pytest.fixture
def no_hub(tmp_path, monkeypatch) -> list[float]:
    """A Hub at a port where nobody listens, and an empty cache of it; returns how long anybody waited for it."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    return naps


def test_a_hub_that_is_not_there_is_not_asked_again_and_again(no_hub):
    from huggingface_hub import constants

    with pytest.raises(BackboneError, match=r"loaded \(http://127.0.0.1:\d+ cannot be reached: .*bring the repository"):
        build(weights=TAG)
    assert not no_hub and not constants.HF_HUB_OFFLINE


def test_without_a_hub_weights_that_were_downloaded_are_found(no_hub, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    name = SMALL.partition(":")[2]
    state = timm.create_model(name).state_dict()
    kept = tmp_path / "hub" / f"models--timm--{name}.{TAG}"
    for folder in ("refs", "snapshots/0123"):
        (kept / folder).mkdir(parents=True)
    (kept / "refs" / "main").write_text("0123", encoding="utf-8")
    save_file(state, kept / "snapshots" / "0123" / "model.safetensors")
    own = build(weights=TAG, classes=1000).state_dict()
    assert all(torch.equal(own[key], one) for key, one in state.items()) and not no_hub


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "timm:resnet19"}, r"timm has no model 'resnet19': did you mean timm:resnet.*timm.list_models\(\)"),
        ({"name": "timm:create_model"}, "timm has no model 'create_model'"),
        ({"name": "timm:resnet18.a1_in1k"}, "take timm:resnet18, and a1_in1k as backbone.weights"),
        ({"weights": "lamb_in2k"}, "did you mean 'lamb_in1k'"),
        ({"name": "timm:vit_tiny_patch16_224", "options": {"deph": 2}}, "cannot be built with options {'deph': 2}"),
    ],
)
def test_what_timm_does_not_have_is_said(settings, message):
    with pytest.raises(BackboneError, match=message) as caught:
        build(**{"name": SMALL, **settings})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_weights_want_to_see():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    settings = BackboneSettings(name=SMALL, weights=TAG)
    assert wanted_input(settings) == ModelInput((224, 224), mean, std, "bicubic", 0.875)
    vit = BackboneSettings(name="timm:vit_tiny_patch16_224", weights="default", options={"img_size": 96})
    found = wanted_input(vit)
    assert found is not None and found.size == (96, 96) and found.mean == (0.5, 0.5, 0.5)
    assert wanted_input(BackboneSettings(name=SMALL)) is None


def test_weights_for_other_classes_are_to_be_trained():
    settings = BackboneSettings(name=SMALL, weights=TAG)
    assert has_new_classifier(settings, 5) and not comes_trained(settings, 5)
    assert comes_trained(settings, 1000)


def test_a_run_trains_pretrained_weights_for_its_own_classes_and_knows_them_without_the_file(
    weights, toy_experiment, tmp_path
):
    def ready(training: object, as_kept: bool = False) -> Prepared:
        experiment = toy_experiment(backbone={"name": SMALL, "weights": TAG}, attach__points=1)
        experiment = experiment.model_copy(update={"backbone_training": training})
        folder = RunFolder(tmp_path / "run")
        return prepare(experiment, folder, device=torch.device("cpu"), progress=Progress(), as_kept=as_kept)

    with pytest.raises(BackboneError, match=r"backbone_training is null, and the weights .* its classifier is new"):
        ready(None)
    trained = ready(BackboneFitSettings(epochs=1, batch_size=64))
    # What it began with is what was downloaded, for a regime that trains everything anew.
    name = "blocks.1.0.conv_pw.weight"
    assert trained.initial is not None and torch.equal(trained.initial[name], weights[1][name])
    weights[0].unlink()
    shutil.rmtree(tmp_path / "home")
    assert ready(BackboneFitSettings(epochs=1, batch_size=64), as_kept=True).fingerprint == trained.fingerprint


@pytest.fixture
def folder(tmp_path) -> Path:
    """A trained vision transformer for 7 classes and 32x32 images, as timm hands one on."""
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model"
    path.mkdir()
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32, **TINY_VIT)
    safetensors.save_file(model.state_dict(), path / "model.safetensors")
    described = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "input_size": [3, 32, 32], "interpolation": "bilinear",
                 "crop_pct": 1.0, "fixed_input_size": True, "first_conv": "patch_embed.proj", "classifier": "head",
                 "num_classes": 7, "unheard_of": 1}  # fmt: skip
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 7,
        "model_args": {**TINY_VIT, "img_size": 32},
        "pretrained_cfg": described,
    }
    (path / "config.json").write_text(json.dumps(config))
    return path


def reference(folder: Path) -> nn.Module:
    from safetensors.torch import load_file

    model = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32, **TINY_VIT)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def test_a_folder_is_a_trained_backbone(folder):
    settings = BackboneSettings(name="folder", checkpoint=folder)
    model = build("folder", checkpoint=folder, classes=7).eval()
    images = torch.randn(2, *SHAPE)
    assert torch.equal(model(images), reference(folder)(images))
    assert comes_trained(settings, 7) and not comes_trained(settings, 5)
    assert has_new_classifier(settings, 5)
    assert wanted_input(settings) == ModelInput((32, 32), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bilinear", 1.0)
    assert state_fingerprint(build("folder", checkpoint=folder, classes=7, load=False)) != state_fingerprint(model)


def test_a_folder_fits_other_classes_channels_and_sizes(folder):
    model = build("folder", (1, 48, 48), checkpoint=folder).eval()
    trained = reference(folder)
    assert model(torch.zeros(2, 1, 48, 48)).shape == (2, 5)
    assert torch.equal(model.blocks[1].attn.qkv.weight, trained.blocks[1].attn.qkv.weight)
    torch.testing.assert_close(model.patch_embed.proj.weight, trained.patch_embed.proj.weight.sum(1, keepdim=True))
    assert len(cut_backbone(model, (1, 48, 48)).attach_points) == 2


def test_a_folder_of_ours_and_one_of_torchvision(tmp_path):
    pytest.importorskip("torchvision")
    for name, architecture, options in (
        ("ours", "resnet", {"depth": 8, "width": 4}),
        ("theirs", "torchvision:shufflenet_v2_x0_5", {}),
    ):
        path = tmp_path / name
        path.mkdir()
        source = build(architecture, classes=7, options=options)
        torch.save({"state_dict": source.state_dict()}, path / "best.pt")
        config = {"architecture": architecture, "options": options, "num_classes": 7}
        (path / "config.json").write_text(json.dumps(config))
        assert state_fingerprint(build("folder", checkpoint=path, classes=7)) == state_fingerprint(source)
        assert build("folder", checkpoint=path, classes=2).eval()(torch.zeros(1, *SHAPE)).shape == (1, 2)
        assert wanted_input(BackboneSettings(name="folder", checkpoint=path)) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold an object"),
        ("{}", "has no key 'architecture'"),
        ('{"architecture": "os:system"}', "of no library known here"),
        ('{"architecture": "vit_tinny"}', "timm has no model"),
        ('{"architecture": "resnet", "num_classes": 0}', "at least 1"),
        ('{"architecture": "resnet", "options": 3}', "options must be an object"),
        ('{"architecture": "resnet18"}', "cannot be built .*Missing key"),
        ('{"architecture": "resnet"}', "has unknown"),
    ],
)
def test_a_config_that_is_wrong_says_what_is(folder, config, message):
    (folder / "config.json").write_text(config)
    with pytest.raises(BackboneError, match=message) as caught:
        build("folder", checkpoint=folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "config.json does not exist"),
        (lambda path: (path / "model.safetensors").unlink(), "holds no weights"),
        (lambda path: (path / "model.safetensors").write_bytes(b"no"), "cannot be read as weights"),
        (lambda path: (path / "model.safetensors").rename(path / "a.pt") and (path / "b.pt").touch(), "a.pt, b.pt"),
    ],
)
def test_a_folder_that_is_wrong_says_what_is(folder, damage, message):
    damage(folder)
    with pytest.raises(BackboneError, match=message):
        build("folder", checkpoint=folder)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(BackboneError, match="is no folder"):
        build("folder", checkpoint=tmp_path / "x.pt")


def test_a_checkpoint_with_another_classifier_says_what_to_do(folder):
    settings = {"name": "timm:vit_tiny_patch16_224", "options": TINY_VIT, "checkpoint": folder / "model.safetensors"}
    assert torch.equal(build(**settings, classes=7).head.weight, reference(folder).head.weight)
    with pytest.raises(
        BackboneError, match=r"a classifier for 7 classes and the data set has 5: .*backbone.name folder"
    ):
        build(**settings)
