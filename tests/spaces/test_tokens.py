"""A whole search on a small vision transformer, whose attach points are tokens, in the default space."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import aebnas
from aebnas.exits.policy import Policy, thresholds_from_json
from aebnas.experiment import Experiment
from aebnas.rebuild import rebuild
from aebnas.run import Run
from aebnas.searching.search import search

VIT = {"patch_size": 2, "depth": 4, "embed_dim": 24, "num_heads": 2}


@pytest.fixture(scope="module")
def run(toy_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Run:
    pytest.importorskip("timm")
    experiment = toy_experiment(
        backbone={"name": "timm:vit_tiny_patch16_224", "options": VIT},
        space="compact",
        attach__points=3,
        search__starts=True,
        search__trials=3,
        search__finalists=1,
    )
    return search(experiment, run_dir=tmp_path_factory.mktemp("tokens") / "run")


def test_branches_hang_at_tokens_and_are_made_for_them(run):
    points = run.prepared().backbone.attach_points
    assert [point.shape for point in points] == [(17, 24)] * 3
    found = [part for row in run.rows for part in row["exits"]]
    assert found and all(part["head"]["kind"] == "token-linear" for part in found)
    layers = [layer for part in found for layer in part["layers"]]
    assert layers and all(layer["kind"].startswith("token-") for layer in layers)


@pytest.mark.parametrize("mode", ["staged", "single"])
def test_what_is_exported_agrees_with_pytorch(run, tmp_path, mode):
    row = max((row for row in run.rows if row["exits"]), key=lambda row: sorted(row["exit_shares"])[-2])
    session = aebnas.EarlyExitSession(run.export(row, tmp_path / "out"))
    images = next(iter(run.prepared().data.test.batches(64))).images
    network = rebuild(row, run.prepared(), run.folder)
    expected = network.predict(images, Policy(row["confidence"], thresholds_from_json(row["thresholds"])))
    said = session.run(images.numpy(), mode=mode)
    assert len(set(said.exits)) > 1
    assert torch.equal(torch.as_tensor(said.labels), expected.labels)
    assert torch.equal(torch.as_tensor(said.exits), expected.exits)
