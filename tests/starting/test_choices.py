"""From a few words to the keys of an experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from aebnas.errors import InputError
from aebnas.starting.choices import (
    Choices,
    backbone_of,
    data_of,
    default_name,
    default_objectives,
    free_name,
    objectives_of,
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of images, one of a saved data set, a saved model, and files."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos/cat", "saved", "model"):
        Path(folder).mkdir(parents=True)
    Path("saved/dataset_dict.json").write_text("{}")
    for file in ("table.csv", "arrays.npz", "weights.pt", "notes.txt"):
        Path(file).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("word", "block"),
    [
        ("digits", {"name": "digits"}),
        ("fashion-mnist", {"name": "fashion-mnist"}),
        ("photos", {"name": "folder", "path": "photos"}),
        ("photos/", {"name": "folder", "path": "photos/"}),
        ("saved", {"name": "huggingface", "path": "saved"}),
        ("table.csv", {"name": "csv", "path": "table.csv"}),
        ("arrays.npz", {"name": "npz", "path": "arrays.npz"}),
        ("torchvision:CIFAR10", {"name": "torchvision:CIFAR10"}),
        ("huggingface:beans", {"name": "huggingface:beans"}),
        ("my_package.data:make", {"name": "my_package.data:make"}),
    ],
)
def test_what_data_is_shows_in_its_name_or_in_what_lies_there(word, block, here):
    assert data_of(word) == block


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("gone.csv", "gone.csv does not exist"),
        ("notes.txt", "notes.txt is no .npz or .csv file and no folder"),
        ("folder", "needs its path"),
    ],
)
def test_data_that_is_none_is_one_sentence(word, message, here):
    with pytest.raises(InputError, match=message):
        data_of(word)


@pytest.mark.parametrize(
    ("given", "block"),
    [
        (("resnet",), {"name": "resnet"}),
        (("resnet", Path("weights.pt")), {"name": "resnet", "checkpoint": "weights.pt"}),
        (("model",), {"name": "folder", "checkpoint": "model"}),
        (("timm:resnet18",), {"name": "timm:resnet18", "weights": "default"}),
        (("torchvision:resnet18", None, "none"), {"name": "torchvision:resnet18"}),
        (
            ("torchvision:resnet18", None, "IMAGENET1K_V1"),
            {"name": "torchvision:resnet18", "weights": "IMAGENET1K_V1"},
        ),
        (("torchvision:resnet18", Path("weights.pt")), {"name": "torchvision:resnet18", "checkpoint": "weights.pt"}),
        (("net:make", Path("weights.pt")), {"name": "net:make", "checkpoint": "weights.pt"}),
    ],
)
def test_what_a_model_is_shows_in_its_name(given, block, here):
    assert backbone_of(*given) == block


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("resnt",), "did you mean 'resnet'"),
        (("weights.pt",), "holds weights only: name the model with --model"),
        (("resnet", Path("gone.pt")), "--checkpoint gone.pt is no file"),
        (("model", Path("weights.pt")), "leave --checkpoint out"),
        (("timm:resnet18", Path("weights.pt"), "default"), "exclude each other"),
        (("resnet", None, "default"), "--weights are those of torchvision:NAME and timm:NAME"),
    ],
)
def test_a_model_that_is_none_is_one_sentence(given, message, here):
    with pytest.raises(InputError, match=message):
        backbone_of(*given)


def test_a_device_that_cannot_be_measured_on_gets_macs():
    assert default_objectives("local") == ("latency_ms",)
    assert default_objectives("raspberry-pi-5") == ("macs",)
    assert Choices(device="raspberry-pi-5").values()["search"]["objectives"] == ["accuracy", "macs"]


def test_objectives_may_be_listed_with_commas():
    assert objectives_of(["latency_ms,macs", "accuracy", "macs"]) == ("latency_ms", "macs")


def test_a_size_that_is_given_counts(here):
    values = Choices(data="photos", image_size=64).values()
    assert values["data"] == {"name": "folder", "path": "photos", "image_size": 64}


@pytest.mark.parametrize(
    ("data", "model", "name"),
    [
        ("digits", "resnet", "digits-resnet"),
        ("~/My photos/", "torchvision:mobilenet_v3_small", "my-photos-mobilenet_v3_small"),
        ("/data/birds.csv", "/models/net/", "birds-net"),
        ("huggingface:org/beans", "package.net:make", "beans-make"),
        # What is long is cut at the end of a word, of the data rather than of the model.
        ("/data/oxford-iiit-pet-images-64x64", "torchvision:mobilenet_v3_small", "oxford-mobilenet_v3_small"),
        ("/data/oxford-iiit-pet-images-64x64", "torchvision:resnet18", "oxford-iiit-pet-resnet18"),
        ("photos", "timm:vit_base_patch16_224.augreg_in21k", "photos-vit_base_patch16"),
        (f"/data/{'x' * 40}", "resnet", f"{'x' * 21}-resnet"),
    ],
)
def test_a_name_is_made_that_a_folder_can_have(data, model, name):
    assert default_name(data, model) == name


def test_names_that_are_taken_get_a_number(here):
    assert free_name("birds") == "birds"
    Path("birds.yaml").touch()
    Path("runs/birds-2").mkdir(parents=True)
    assert free_name("birds") == "birds-3"
    assert free_name("birds", own=Path("birds.yaml")) == "birds"
    assert free_name("birds-2", own=Path("birds-2.yaml")) == "birds-2-2"
    assert free_name("cats") == "cats"


def test_pretrained_weights_bring_their_own_preparation_and_are_only_adjusted(here):
    pytest.importorskip("timm", reason="the extra timm is not installed")
    values = Choices(model="timm:resnet18", data="photos").values()
    assert values["data"] == {"name": "folder", "path": "photos", "image_size": [224, 224], "normalise": "backbone"}
    assert values["backbone_training"]["lr"] < Choices(data="photos").values()["backbone_training"]["lr"]
