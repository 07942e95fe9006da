"""PyTorch, the staged files and the single file give the same label and the same exit, on real images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from aebnas.backbones.build import build_backbone
from aebnas.backbones.cut import cut_backbone
from aebnas.backbones.settings import BackboneSettings
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.data.load import load_data
from aebnas.data.settings import DataSettings
from aebnas.data.splits import DataBundle
from aebnas.errors import DataError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession
from aebnas.network import EarlyExitNetwork

NEAR = 1e-5  # of a threshold: there, the last digits of two runtimes may decide differently
TIE = 1e-4  # between the two best logits: there, they may give another label
IMAGES = 10_000


@dataclass
class Case:
    data: DataBundle
    network: EarlyExitNetwork
    images: torch.Tensor
    logits: list[torch.Tensor]


@pytest.fixture(scope="module", params=["digits", "fashion-mnist"])
def case(request):
    """An untrained network with three exits, all images of the test split, and what every exit says of each."""
    try:
        data = load_data(DataSettings(name=request.param), seed=0)
    except DataError as error:
        pytest.skip(str(error))  # fashion-mnist does not come with the package; digits always do
    torch.manual_seed(0)
    model = build_backbone(
        BackboneSettings(name="resnet", options={"depth": 8, "width": 4}), num_classes=10, input_shape=data.input_shape
    )
    backbone = cut_backbone(model, data.input_shape, max_points=3)
    layers = (PartSpec.of("conv", kernel=3, stride=2), PartSpec("batch-norm"), PartSpec("relu"))
    network = EarlyExitNetwork(backbone, [BranchSpec(point.name, layers) for point in backbone.attach_points]).eval()
    for head in network.branches:
        head[-1][-1].weight.data *= 60  # untrained logits hardly differ; these spread the confidences
    images = torch.cat([batch.images for batch in data.test.batches(1000)])[:IMAGES]
    with torch.no_grad():
        logits = [torch.cat(parts) for parts in zip(*map(network, images.split(1000)), strict=True)]
    return Case(data, network, images, logits)


@pytest.mark.parametrize("confidence", ["max-probability", "margin", "entropy"])
def test_all_three_agree_on_the_whole_test_split(case, confidence, tmp_path):
    measure = build_confidence(confidence)
    sure = np.stack([measure(z).numpy() for z in case.logits[:-1]])
    thresholds = tuple(_threshold(row) for row in sure)
    policy = Policy(confidence, thresholds)
    exits, rows = policy.leave_at(sure), np.arange(len(case.images))
    taken = torch.stack(case.logits)[exits, rows]
    labels, best = taken.argmax(1).numpy(), taken.topk(2).values
    clear = (best[:, 0] - best[:, 1] > TIE).numpy()

    eager = [case.network.predict(part, policy) for part in case.images.split(1000)]
    segments, branches = case.network.parts()
    export_network(
        tmp_path,
        segments=segments,
        branches=branches,
        policy=policy,
        input_shape=case.data.input_shape,
        classes=case.data.classes,
        preprocessing=case.data.preprocessing.to_json(),
        costs={},
        extra={},
    )
    session = EarlyExitSession(tmp_path)
    ran = {mode: session.run(case.images.numpy(), mode=mode) for mode in ("single", "staged")}
    found = {mode: (prediction.labels, prediction.exits) for mode, prediction in ran.items()}
    found["predict"] = (torch.cat([p.labels for p in eager]).numpy(), torch.cat([p.exits for p in eager]).numpy())
    assert (np.abs(sure - np.array(thresholds)[:, None]) > NEAR).all()
    assert clear.mean() > 0.99
    assert np.bincount(exits, minlength=4).min() >= 5
    for name, (got_labels, got_exits) in found.items():
        np.testing.assert_array_equal(got_exits, exits, err_msg=name)
        np.testing.assert_array_equal(got_labels[clear], labels[clear], err_msg=name)


def _threshold(confidences: np.ndarray) -> float:
    """A value that between half and four fifths of the samples stay below, in the middle of the widest gap."""
    around = np.sort(confidences)[round(0.5 * len(confidences)) : round(0.8 * len(confidences))]
    widest = int(np.diff(around).argmax())
    return float(np.float32(around[widest : widest + 2].mean()))
