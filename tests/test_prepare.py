"""Data and the trained, cut backbone: made once, found again, never mixed up."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from aebnas import prepare as module
from aebnas.backbones.build import build_backbone
from aebnas.errors import RunError, TrainingError
from aebnas.experiment import Experiment
from aebnas.prepare import prepare
from aebnas.progress import Progress
from aebnas.run_folder import RunFolder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def make(folder):
    return lambda experiment: prepare(experiment, folder, device=CPU, progress=Progress())


@pytest.fixture
def quick(toy_experiment):
    return toy_experiment(backbone_training__epochs=1)


@pytest.fixture
def own_model(toy_experiment):
    torch.manual_seed(3)
    return build_backbone(toy_experiment().backbone, num_classes=4, input_shape=(1, 8, 8))


def weights(prepared):
    return {name: tensor.clone() for name, tensor in prepared.backbone.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def no_training(*_, **__):
    raise AssertionError("the backbone was trained")


def test_the_backbone_is_trained_once_and_ready_for_use(make, quick, monkeypatch, folder):
    first = make(quick)
    assert len(first.backbone.attach_points) == 2
    assert not any(part.training for part in [*first.backbone.modules(), *first.backbone.segments.modules()])
    assert not any(parameter.requires_grad for parameter in first.backbone.parameters())
    assert len(folder.path.joinpath("backbone.pt").read_bytes()) > 0
    monkeypatch.setattr(module, "train_backbone", no_training)
    again = make(quick)
    assert same(weights(first), weights(again))
    assert first.fingerprint == again.fingerprint


def test_the_same_seed_trains_the_same_backbone_elsewhere(make, quick, tmp_path):
    elsewhere = prepare(quick, RunFolder(tmp_path / "other"), device=CPU, progress=Progress())
    assert same(weights(make(quick)), weights(elsewhere))


@pytest.mark.parametrize("kept", [0, 40, 0.7])
def test_a_damaged_backbone_is_put_aside_and_trained_again(make, quick, folder, kept, caplog):
    before = make(quick).fingerprint
    content = folder.backbone_file.read_bytes()
    folder.backbone_file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert make(quick).fingerprint == before
    assert "backbone.pt is damaged (cut short, or its checksum differs): put aside" in caplog.text


@pytest.mark.parametrize("options", [{"backbone_training__lr": 0.01}, {"seed": 1}, {"data__validation": 0.4}])
def test_a_backbone_of_other_data_or_training_is_refused(make, quick, folder, options):
    make(quick)
    before = folder.backbone_file.read_bytes()
    other = quick.override({key.replace("__", "."): value for key, value in options.items()})
    with pytest.raises(
        RunError, match=r"backbone\.pt belongs to other data or another model: choose another --run-dir"
    ):
        make(other)
    assert folder.backbone_file.read_bytes() == before


def test_training_that_fails_keeps_nothing(make, quick, folder):
    with pytest.raises(TrainingError, match=r"^backbone_training failed: .*lower the learning rate"):
        make(quick.override({"backbone_training.lr": 1e38, "backbone_training.schedule": "constant"}))
    assert not folder.backbone_file.exists()


def test_a_checkpoint_is_used_as_it_is(make, quick, monkeypatch, own_model, tmp_path):
    torch.save(own_model.state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr(module, "train_backbone", no_training)
    prepared = make(quick.override({"backbone.checkpoint": tmp_path / "w.pt"}))
    assert same(weights(prepared), own_model.state_dict())


def test_a_backbone_without_training_is_used_as_it_is(make, quick, monkeypatch):
    monkeypatch.setattr(module, "train_backbone", no_training)
    experiment = Experiment.model_validate({**quick.model_dump(), "backbone_training": None})
    assert make(experiment).fingerprint == make(experiment).fingerprint


def test_an_own_model_keeps_its_weights(make, toy_data, own_model):
    before = {name: tensor.clone() for name, tensor in own_model.state_dict().items()}
    prepared = make(Experiment(name="own", model=own_model, datasets=toy_data))
    assert same(weights(prepared), before)
    assert prepared.data is toy_data
    # The user's object is left alone: not even frozen.
    assert prepared.backbone.model is not own_model
    assert all(parameter.requires_grad for parameter in own_model.parameters())


def test_an_own_model_with_other_weights_is_refused(make, toy_data, own_model):
    experiment = Experiment(name="own", model=own_model, datasets=toy_data)
    make(experiment)
    with torch.no_grad():
        own_model.head.bias.add_(1.0)
    with pytest.raises(RunError, match=r"belongs to other data or another model"):
        make(experiment)


def test_an_own_model_is_trained_on_request(make, toy_data, own_model):
    before = {name: tensor.clone() for name, tensor in own_model.state_dict().items()}
    training = {"epochs": 1, "batch_size": 32}
    prepared = make(Experiment(name="own", model=own_model, datasets=toy_data, backbone_training=training))
    assert not same(weights(prepared), before)
    assert same(own_model.state_dict(), before)
    assert same(prepared.initial, before)


def test_the_weights_before_the_training_are_kept(make, quick, folder):
    first = make(quick)
    torch.manual_seed(quick.seed)
    untrained = build_backbone(quick.backbone, num_classes=4, input_shape=(1, 8, 8)).state_dict()
    assert same(first.initial, untrained)
    assert not same(weights(first), untrained)
    record = torch.load(folder.backbone_file, weights_only=True)
    assert record.keys() == {"key", "state", "initial"}
    assert same(record["initial"], untrained)
    assert same(record["state"], weights(first))
    assert same(make(quick).initial, untrained)


def test_a_backbone_that_comes_trained_has_no_weights_before(make, toy_data, own_model, quick, tmp_path):
    experiment = Experiment(name="own", model=own_model, datasets=toy_data)
    assert (make(experiment).initial, make(experiment).initial) == (None, None)


def test_a_checkpoint_may_move_but_not_change(make, quick, own_model, tmp_path):
    for name in ("here.pt", "there.pt"):
        torch.save(own_model.state_dict(), tmp_path / name)
    first = make(quick.override({"backbone.checkpoint": tmp_path / "here.pt"}))
    assert first.initial is None
    assert make(quick.override({"backbone.checkpoint": tmp_path / "there.pt"})).fingerprint == first.fingerprint
    with torch.no_grad():
        own_model.head.bias.add_(1.0)
    torch.save(own_model.state_dict(), tmp_path / "there.pt")
    with pytest.raises(RunError, match=r"belongs to other data or another model"):
        make(quick.override({"backbone.checkpoint": tmp_path / "there.pt"}))


def test_what_came_from_python_is_asked_for(make, toy_data):
    with pytest.raises(RunError, match=r"data came from Python: use aebnas\.Run in Python with the same datasets"):
        make(Experiment(data={"name": "custom"}))
    with pytest.raises(RunError, match=r"model came from Python: use aebnas\.Run in Python with the same model"):
        make(Experiment(backbone={"name": "custom"}, datasets=toy_data))


def test_the_fingerprint_depends_on_data_and_weights(prepared, toy_data, own_model, tmp_path):
    def fingerprint(number, model, data):
        experiment = Experiment(name="own", model=model, datasets=data)
        return prepare(experiment, RunFolder(tmp_path / str(number)), device=CPU, progress=Progress()).fingerprint

    first = fingerprint(0, own_model, toy_data)
    assert fingerprint(1, own_model, toy_data) == first
    assert fingerprint(2, own_model, dataclasses.replace(toy_data, fingerprint="other")) != first
    nn.init.ones_(own_model.head.bias)
    assert fingerprint(3, own_model, toy_data) != first
