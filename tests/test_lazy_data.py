"""Images that are read from disk teach a backbone the same as images in memory, and give the same features."""

from __future__ import annotations

import pytest
import torch

from aebnas import prepare as module
from aebnas.errors import RunError
from aebnas.inputs import ModelInput
from aebnas.prepare import data_of, prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder
from aebnas.store import state_of
from aebnas.training.features import FeatureStore

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def experiments(toy_images, toy_experiment):
    """The toy data as image files: in memory, read here, read by two processes."""

    def make(**data):
        augment = {"flip": True, "shift": 1}
        values = {"name": "folder", "path": str(toy_images), "grey": True, "augment": augment, **data}
        return toy_experiment(data=values, backbone_training__epochs=2)

    return make(), make(ram_gib=0, workers=0), make(ram_gib=0, workers=2)


@pytest.fixture(scope="module")
def prepared_all(experiments, tmp_path_factory):
    def make(experiment):
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        return prepare(experiment, folder, device=CPU, progress=Progress())

    return [make(experiment) for experiment in experiments]


def test_backbones_are_the_same(prepared_all):
    first, *others = (state_of(prepared.backbone) for prepared in prepared_all)
    for other in others:
        assert other.keys() == first.keys()
        for name, value in first.items():
            torch.testing.assert_close(other[name], value)


def test_features_are_the_same_and_images_are_read_once(prepared_all, tmp_path):
    found = []
    for number, prepared in enumerate(prepared_all):
        store = FeatureStore(
            prepared.backbone,
            prepared.data,
            folder=tmp_path / str(number),
            key="key",
            budget_gib=1,
            device=CPU,
            progress=Progress(),
            copies=2,
        )
        batches = list(store.split("train", 0).batches(64, seed=1))
        found.append((torch.cat([batch.images for batch in batches]), store.logits("validation")))
    for features, logits in found[1:]:
        torch.testing.assert_close(features, found[0][0])
        torch.testing.assert_close(logits, found[0][1])


def test_what_the_backbone_wants_goes_with_the_data(experiments, monkeypatch):
    wanted = ModelInput((4, 4), (0.5,), (0.25,))
    monkeypatch.setattr("aebnas.prepare.wanted_input", lambda settings: wanted)
    experiment = experiments[0].override({"data.normalise": "backbone"})
    data = data_of(experiment)
    assert data.wanted == wanted
    assert (data.preprocessing.mean, data.preprocessing.std) == ((0.5,), (0.25,))


def no_training(*_, **__):
    raise AssertionError("the backbone was trained")


@pytest.fixture
def small_sample(monkeypatch):
    """So that moments of all images are other ones."""
    monkeypatch.setattr("aebnas.data.parts.MOMENT_IMAGES", 50)


@pytest.mark.parametrize(("first", "then"), [(0, 1), (1, 0)])
def test_a_run_goes_on_wherever_its_images_are_held(experiments, first, then, tmp_path, monkeypatch, small_sample):
    folder = RunFolder(tmp_path / "run")
    made = prepare(experiments[first], folder, device=CPU, progress=Progress())
    monkeypatch.setattr(module, "train_backbone", no_training)
    again = prepare(experiments[then], folder, device=CPU, progress=Progress())
    assert again.fingerprint == made.fingerprint
    assert again.data.preprocessing == made.data.preprocessing


def test_a_run_of_before_goes_on_with_its_own_data(experiments, tmp_path, monkeypatch, small_sample):
    folder = RunFolder(tmp_path / "run")
    earlier = data_of(experiments[0]).before()
    with monkeypatch.context() as patch:
        patch.setattr(module, "data_of", lambda *_: earlier)
        made = prepare(experiments[0], folder, device=CPU, progress=Progress())
    monkeypatch.setattr(module, "train_backbone", no_training)
    again = prepare(experiments[0], folder, device=CPU, progress=Progress())
    assert again.fingerprint == made.fingerprint
    assert again.data.fingerprint == earlier.fingerprint != data_of(experiments[0]).fingerprint
    assert again.data.preprocessing == earlier.preprocessing
    with pytest.raises(RunError, match="belongs to other data or another model"):
        prepare(experiments[0].override({"data.image_size": 6}), folder, device=CPU, progress=Progress())
