"""A whole search on a small vision transformer, whose attach points are tokens, in the default space."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import aebnas
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide
from aebnas.exits.policy import Policy
from aebnas.experiment import Experiment
from aebnas.export.package import export_network
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


def test_what_is_exported_agrees_with_pytorch(run, tmp_path):
    row = next(row for row in run.rows if row["exits"])
    data, network = run.prepared().data, rebuild(row, run.prepared(), run.folder)
    images = next(iter(data.test.batches(60))).images
    with torch.no_grad():
        _, sure = decide(build_confidence("max-probability"), network(images))
    policy = Policy("max-probability", tuple(float(values.median()) for values in sure[:-1]))
    expected = network.predict(images, policy)
    segments, branches = network.parts()
    export_network(
        tmp_path,
        segments=segments,
        branches=branches,
        policy=policy,
        input_shape=data.input_shape,
        classes=data.classes,
        preprocessing=data.preprocessing.to_json(),
        costs={},
        extra={},
    )
    session = aebnas.EarlyExitSession(tmp_path)
    assert len(expected.exits.unique()) > 1
    for mode in ("staged", "single"):
        said = session.run(images.numpy(), mode=mode)
        assert (torch.as_tensor(said.labels) == expected.labels).all()
        # The image whose confidence is the threshold may leave or stay.
        assert (torch.as_tensor(said.exits) == expected.exits).sum() >= len(images) - 1


def test_the_point_that_the_search_offers_is_exported_and_as_accurate_as_it_says(run, tmp_path):
    row = run.pick()
    session = aebnas.EarlyExitSession(run.export(row, tmp_path / "out"))
    batches = list(run.prepared().data.validation.batches(60))
    images, labels = (torch.cat([getattr(batch, key) for batch in batches]) for key in ("images", "labels"))
    said = torch.as_tensor(session.run(images.numpy()).labels)
    assert float((said == labels).float().mean()) == pytest.approx(row["accuracy_val"], abs=1 / len(labels))
