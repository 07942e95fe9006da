"""PyTorch, the staged files and the single file give the same label and the same exit, on real images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.errors import DataError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession
from aebnas.network import EarlyExitNetwork

NEAR = 1e-5  # of a threshold: there, the last digits of two runtimes may decide differently
IMAGES = 10_000


@pytest.fixture(scope="module")
def fashion():
    try:
        return load_data(DataSettings(name="fashion-mnist"), seed=0)
    except DataError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("confidence", ["max-probability", "margin", "entropy"])
def test_all_three_agree_on_the_whole_test_split(fashion, confidence, tmp_path):
    torch.manual_seed(0)
    model = build_backbone(
        BackboneSettings(name="resnet", options={"depth": 8, "width": 8}), num_classes=10, input_shape=(1, 28, 28)
    )
    backbone = cut_backbone(model, (1, 28, 28), max_points=3)
    layers = (PartSpec.of("conv", kernel=3, stride=2), PartSpec("batch-norm"), PartSpec("relu"))
    specs = [BranchSpec(point.name, layers) for point in backbone.attach_points]
    network = EarlyExitNetwork(backbone, specs).eval()
    for head in network.branches:
        head[-1][-1].weight.data *= 20  # untrained logits hardly differ; these spread the confidences
    images = torch.cat([batch.images for batch in fashion.test.batches(1000)])[:IMAGES]

    with torch.no_grad():
        logits = [torch.cat(parts) for parts in zip(*map(network, images.split(1000)), strict=True)]
    measure = build_confidence(confidence)
    sure = np.stack([measure(z).numpy() for z in logits[:-1]])
    thresholds = tuple(float(np.float32(np.quantile(row, 0.6))) for row in sure)
    policy = Policy(confidence, thresholds)
    exits = policy.leave_at(sure)
    labels = np.stack([z.argmax(1).numpy() for z in logits])[exits, np.arange(len(exits))]
    clear = (np.abs(sure - np.array(thresholds)[:, None]) > NEAR).all(axis=0)

    eager = [network.predict(part, policy) for part in images.split(1000)]
    segments, branches = network.parts()
    export_network(
        tmp_path,
        segments=segments,
        branches=branches,
        policy=policy,
        input_shape=(1, 28, 28),
        classes=fashion.classes,
        preprocessing=fashion.preprocessing.to_json(),
        costs={},
        extra={},
    )
    session = EarlyExitSession(tmp_path)
    ran = {mode: session.run(images.numpy(), mode=mode) for mode in ("single", "staged")}
    found = {mode: (prediction.labels, prediction.exits) for mode, prediction in ran.items()}
    found["predict"] = (torch.cat([p.labels for p in eager]).numpy(), torch.cat([p.exits for p in eager]).numpy())
    assert clear.mean() > 0.99
    assert len(np.unique(exits)) == 4
    for name, (got_labels, got_exits) in found.items():
        assert (got_exits[clear] == exits[clear]).all(), name
        assert (got_labels[clear] == labels[clear]).all(), name
