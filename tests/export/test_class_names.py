"""Names of classes, odd ones too, from the data to predictions and tables."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.utils.data import TensorDataset

from aebnas.data.load import bundle_from_datasets
from aebnas.errors import InputError
from aebnas.export.evaluate import evaluate_export
from aebnas.export.manifest import read_manifest
from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession, Prediction
from aebnas.export.source import _class_numbers
from aebnas.report.classes import evaluated_classes
from aebnas.report.evaluation import evaluation_table

ODD = ("猫, noir", "", "猫, noir")


@pytest.fixture
def odd(toys, tmp_path):
    """The network with two branches, whose three classes have odd names."""
    toy = toys[2]
    return export_network(
        tmp_path / "odd",
        segments=toy.segments,
        branches=toy.branches,
        policy=toy.policy,
        input_shape=(2, 8, 8),
        classes=ODD,
        preprocessing={"scale": 1.0, "mean": [0.0, 0.0], "std": [1.0, 1.0]},
        costs={},
        extra={},
    )


def test_data_keep_their_names():
    images, labels = torch.zeros(30, 1, 4, 4), torch.arange(30) % 3
    bundle = bundle_from_datasets(TensorDataset(images, labels), TensorDataset(images, labels), classes=ODD)
    assert bundle.classes == ODD


@pytest.mark.parametrize("mode", ["single", "staged"])
def test_a_prediction_knows_the_names(odd, images, mode):
    session = EarlyExitSession(odd)
    assert session.classes == ODD
    found = session.run(images[:12], mode)
    assert found.names == [ODD[label] for label in found.labels]
    assert session.run_single(images[:1]).names == found.names[:1]


def test_no_images_have_no_names(odd):
    assert EarlyExitSession(odd).run(np.zeros((0, 2, 8, 8), np.float32)).names == []


def test_without_names_numbers_take_their_place():
    assert Prediction(np.array([2, 0]), np.zeros(2), np.zeros(2)).names == ["2", "0"]


def test_a_table_tells_classes_of_one_name_apart(odd, images):
    labels = np.arange(40) % 2  # nothing of the third class
    result = evaluate_export(odd, images[:40], labels, repeats=1)
    assert [one.name for one in result.classes] == list(ODD)
    assert result.balanced_accuracy == pytest.approx(np.mean([one.recall for one in result.classes[:2]]))
    values = result.to_json(per_class=True)
    assert json.loads(json.dumps(values, allow_nan=False))["per_class"][2]["recall"] is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(evaluation_table(result))
    console.print(evaluated_classes(result))
    shown = console.export_text()
    for name in ("猫, noir (class 0)", "(class 1)", "猫, noir (class 2)"):
        assert name in shown
    assert "balanced accuracy leaves out 1 of 3 classes, without a sample here" in " ".join(shown.split())


def test_its_own_classes_are_matched_by_number(odd):
    """By name, the third class would be taken for the first."""
    known = read_manifest(odd).classes
    assert _class_numbers("folder", ODD, known).tolist() == [0, 1, 2]


def test_labels_that_the_network_does_not_know_are_refused(odd, images):
    with pytest.raises(InputError, match="labels lie between 0 and 3, but the network tells classes 0 to 2"):
        evaluate_export(odd, images[:4], np.arange(4))
