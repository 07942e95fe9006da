from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from aebnas.backbones.build import build_backbone, comes_trained, has_new_classifier, wanted_input
from aebnas.backbones.classifier import adapt_input, last_layer, replace_classifier
from aebnas.backbones.settings import BackboneSettings
from aebnas.errors import BackboneError, InputError, MissingExtraError
from aebnas.inputs import ModelInput

torchvision = pytest.importorskip("torchvision")

SMALL = "torchvision:shufflenet_v2_x0_5"
SHAPE = (3, 32, 32)


def build(name: str = SMALL, shape=SHAPE, classes: int = 5, load: bool = True, **settings) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(BackboneSettings(name=name, **settings), num_classes=classes, input_shape=shape, load=load)


@pytest.fixture
def served(tmp_path: Path, serve) -> tuple[Path, str]:
    """A folder, and the address at which this machine alone can read it."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder, serve(folder)


@pytest.fixture
def weights(served, tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """Weights of the small model, where torchvision looks for those of ImageNet."""
    folder, address = served
    torch.manual_seed(1)
    state = torchvision.models.get_model(SMALL.partition(":")[2]).state_dict()
    content = io.BytesIO()
    torch.save(state, content)
    name = f"small-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content.getvalue())
    value = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(value, "url", f"{address}/{name}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return state


def test_a_model_without_weights_takes_options_and_the_classes_of_the_data():
    model = build("torchvision:mobilenet_v2", options={"width_mult": 0.25})
    assert model(torch.zeros(2, *SHAPE)).shape == (2, 5)
    assert model.features[0][0].out_channels == 8


@pytest.mark.parametrize("weights_name", ["IMAGENET1K_V1", "default", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"])
def test_weights_are_downloaded_and_other_classes_get_a_new_classifier(weights, weights_name):
    model = build(weights=weights_name)
    own = model.state_dict()
    assert own["fc.weight"].shape == (5, 1024)
    assert all(torch.equal(own[key], value) for key, value in weights.items() if not key.startswith("fc."))
    same = build(weights=weights_name, classes=1000).state_dict()
    assert all(torch.equal(same[key], value) for key, value in weights.items())


def test_weights_are_not_downloaded_where_somebody_brings_them(weights, tmp_path):
    assert build(weights="DEFAULT", load=False).eval()(torch.zeros(1, *SHAPE)).shape == (1, 5)
    assert not list(tmp_path.glob("home/**/*.pth"))


def test_a_download_that_fails_says_how_to_bring_the_file(weights, served, tmp_path):
    folder, address = served
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(BackboneError, match=r"cannot be downloaded \(HTTP Error 404.*by hand") as caught:
        build(weights="DEFAULT")
    place = tmp_path / "home" / "hub" / "checkpoints" / file.name
    assert f"bring {address}/{file.name} here by hand, as {place}" in str(caught.value)
    # What it says helps.
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    build(weights="DEFAULT")


def test_a_damaged_download_is_none(weights, served):
    (file,) = served[0].iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BackboneError, match=r"cannot be downloaded .*damaged"):
        build(weights="DEFAULT")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "torchvision:resnet19"}, "torchvision has no model 'resnet19': did you mean torchvision:resnet"),
        ({"name": "torchvision:fasterrcnn_resnet50_fpn"}, "has no model 'fasterrcnn_resnet50_fpn'"),
        ({"name": "torchvision:ops"}, r"torchvision.models.list_models\(\) lists all"),
        ({"weights": "IMAGENET1K_V7"}, "backbone.weights: there is no weights of .* did you mean 'IMAGENET1K_V1'"),
        ({"options": {"widht": 1}}, "cannot be built with options {'widht': 1} .*unexpected keyword"),
        ({"name": "torchvision:googlenet", "options": {"aux_logits": True}}, "aux_logits must be false"),
    ],
)
def test_what_torchvision_does_not_have_is_said(settings, message):
    with pytest.raises(BackboneError, match=message) as caught:
        build(**{"name": SMALL, **settings})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_library_that_is_not_there_names_its_extra(monkeypatch):
    import importlib

    def absent(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"aebnas\[torchvision\]"):
        build()


def test_a_library_that_does_not_fit_pytorch_says_so(monkeypatch):
    import importlib

    def broken(name: str):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BackboneError, match=r"nms does not exist.*fits PyTorch"):
        build()


def test_prefixes_of_libraries_win_over_modules_of_the_same_name():
    with pytest.raises(BackboneError, match="torchvision has no model 'models'"):
        build("torchvision:models")
    options = {
        "image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8
    }  # fmt: skip
    assert build("torchvision.models:VisionTransformer", options=options).eval()(torch.zeros(1, *SHAPE)).shape == (1, 5)


def test_what_weights_want_to_see():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    settings = BackboneSettings(name="torchvision:resnet50", weights="IMAGENET1K_V2")
    assert wanted_input(settings) == ModelInput((224, 224), mean, std, "bilinear", 224 / 232)
    assert wanted_input(BackboneSettings(name="torchvision:resnet50")) is None
    assert wanted_input(BackboneSettings()) is None


def test_weights_for_other_classes_are_to_be_trained():
    settings = BackboneSettings(name=SMALL, weights="DEFAULT")
    assert has_new_classifier(settings, 5) and not comes_trained(settings, 5)
    assert not has_new_classifier(settings, 1000) and comes_trained(settings, 1000)
    assert not comes_trained(BackboneSettings(name=SMALL), 1000)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out_with_and_without_weights(name, monkeypatch):
    whole = torchvision.models.get_model(name, init_weights=False, aux_logits=True).state_dict()
    kind = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(kind, "get_state_dict", lambda self, **_: whole)
    settings = {"name": f"torchvision:{name}", "shape": (3, 75, 75)}
    plain, trained = build(**settings), build(**settings, weights="DEFAULT")
    assert plain.state_dict().keys() == trained.state_dict().keys() < whole.keys()
    assert not plain.transform_input
    # Weights of these take images normalised in another way; whoever brings them needs the same model.
    assert trained.transform_input and build(**settings, weights="DEFAULT", load=False).transform_input
    assert trained.train()(torch.zeros(2, 3, 75, 75)).shape == (2, 5)
    with pytest.raises(BackboneError, match=r"take images of 3 channels and the data have 1: set data.grey to false"):
        build(f"torchvision:{name}", (1, 75, 75), weights="DEFAULT")


def test_a_file_with_auxiliary_classifiers_fits_a_model_without(tmp_path):
    whole = torchvision.models.get_model("googlenet", init_weights=False, aux_logits=True, num_classes=5).state_dict()
    torch.save(whole, tmp_path / "google.pth")
    model = build("torchvision:googlenet", checkpoint=tmp_path / "google.pth")
    assert torch.equal(model.fc.weight, whole["fc.weight"])


def test_grey_images_are_answered_as_before(weights):
    colour, grey = build(weights="DEFAULT", classes=1000).eval(), build(weights="DEFAULT", shape=(1, 32, 32)).eval()
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        as_colour = colour.conv1(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey.conv1(image), as_colour)
    assert build(shape=(4, 32, 32)).conv1[0].in_channels == 4


def test_the_two_ends_of_a_classifier():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=True), nn.Flatten(), nn.Linear(4 * 64, 7, bias=False))
    replace_classifier(model, 3)
    assert last_layer(model)[0] == "2" and model[2].weight.shape == (3, 256) and model[2].bias is None
    bias = model[0].bias.clone()
    adapt_input(model, 2, trained=True)
    assert model(torch.zeros(1, 2, 8, 8)).shape == (1, 3) and torch.equal(model[0].bias, bias)
    with pytest.raises(BackboneError, match="no linear layer or convolution"):
        last_layer(nn.Flatten())
    with pytest.raises(BackboneError, match=r"set data.grey to false"):
        adapt_input(nn.Sequential(nn.Linear(3, 3)), 1, trained=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "DEFAULT"}, "weights are those of torchvision:NAME and timm:NAME, not of resnet"),
        ({"name": SMALL, "weights": "DEFAULT", "checkpoint": "x.pt"}, "weights and checkpoint exclude each other"),
        ({"name": "folder"}, "checkpoint is missing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises((ValueError, InputError), match=message):
        BackboneSettings(**settings)


def test_libraries_have_models_for_images_only():
    with pytest.raises(BackboneError, match="takes images"):
        build(shape=(10,))
