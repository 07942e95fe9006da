"""A whole search for a device that runs fp32 and int8."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aebnas.export.session import EarlyExitSession
from aebnas.searching.search import search


@pytest.fixture(scope="module", params=["[fp32, int8]", "int8"])
def run(toy_experiment, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("small")
    profile = folder / "device.yaml"
    profile.write_text(f"name: paper\ndescription: d\nconnection: none\nprecision: {request.param}\n")
    return search(toy_experiment(device=str(profile), search__trials=8), run_dir=folder / "run")


def test_every_exported_network_has_the_precision_and_the_accuracy_of_its_row(run):
    test = run.prepared().data.test
    images = torch.cat([batch.images for batch in test.batches(512)]).numpy()
    exported = [row for row in run.rows if row["accuracy_test"] is not None]
    assert any(row["finalist"] for row in exported)
    for row in exported:
        session = EarlyExitSession(run.folder.exports / row["id"])
        assert session.manifest["precision"] == row["precision"]
        right = session.run(images).labels == test.labels.numpy()
        assert row["accuracy_test"] == pytest.approx(right.mean(), abs=1.5 / len(right))


def test_static_backbones_stand_beside_the_front_in_every_precision(run):
    front = run.front()
    static = front[front["id"].str.startswith("backbone")].set_index("id")
    assert static["precision"].to_dict() == {"backbone": "fp32", "backbone-int8": "int8"}
    allowed = set(run.folder.profile().precisions)
    assert set(front[~front["static"]]["precision"]) <= allowed
    assert set(front[~front["id"].isin(["backbone"])]["precision"]) <= allowed


def test_a_point_that_is_no_finalist_is_exported_in_its_precision(run, tmp_path):
    points = {row["precision"]: row for row in run.rows if not row["finalist"] and not row["static"]}
    assert points
    for precision, row in points.items():
        out = run.export(row, tmp_path / precision)
        assert json.loads((out / "manifest.json").read_text())["precision"] == precision
        assert np.isin(EarlyExitSession(out).run(np.zeros((1, 1, 8, 8), np.float32)).labels, range(4)).all()


def test_trials_try_every_precision(run):
    records = [json.loads(path.read_text()) for path in run.folder.evaluations.iterdir()]
    assert {record["spec"]["precision"] for record in records} == set(run.folder.profile().precisions)
