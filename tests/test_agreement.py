"""PyTorch, the staged files, the single file and the one for pixels give the same label and exit, on real images."""

from __future__ import annotations

import itertools
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
from aebnas.exits.confidence import CONFIDENCES, PATIENCE, build_confidence
from aebnas.exits.decision import decide
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
    images = torch.cat([batch.images for batch in data.test.batches(1000)])[:IMAGES]
    heads = [*(branch[-1][-1] for branch in network.branches), model.head]
    with torch.no_grad():
        # Untrained logits hardly differ, and all say the same class; these spread the confidences and the labels.
        for head in heads:
            head.weight *= 60
        for head, logits in zip(heads, network(images[:1000]), strict=True):
            head.bias -= logits.mean(0)
        logits = [torch.cat(parts) for parts in zip(*map(network, images.split(1000)), strict=True)]
    return Case(data, network, images, logits)


@pytest.mark.parametrize("confidence", list(CONFIDENCES))
def test_all_three_agree_on_the_whole_test_split(case, confidence, tmp_path):
    said, sure = (values.numpy() for values in decide(build_confidence(confidence), case.logits))
    thresholds = (1.5 / PATIENCE,) * 3 if confidence == "patience" else tuple(_threshold(row) for row in sure[:-1])
    policy = Policy(confidence, thresholds)
    exits, rows = policy.leave_at(sure[:-1]), np.arange(len(case.images))
    labels, clear = said[exits, rows], _clear(case.logits)
    if confidence != "patience":
        clear &= (np.abs(sure[:-1] - np.array(thresholds)[:, None]) > NEAR).all(axis=0)

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
    # Pixels as they are stored, and those as cameras give them.
    raw = case.data.test.raw(IMAGES).numpy()
    pixels = session.run(np.ascontiguousarray(raw.transpose(0, 2, 3, 1)), mode="single")
    prepared = session.run(session.prepare(raw), mode="single")
    np.testing.assert_array_equal(pixels.labels, prepared.labels)
    np.testing.assert_array_equal(pixels.exits, prepared.exits)
    found["pixels"] = (pixels.labels, pixels.exits)
    found["predict"] = (torch.cat([p.labels for p in eager]).numpy(), torch.cat([p.exits for p in eager]).numpy())
    assert clear.mean() > 0.98
    # At the first exit nothing agrees with anything yet.
    assert np.bincount(exits, minlength=4)[confidence == "patience" :].min() >= 5
    for name, (got_labels, got_exits) in found.items():
        np.testing.assert_array_equal(got_exits[clear], exits[clear], err_msg=name)
        np.testing.assert_array_equal(got_labels[clear], labels[clear], err_msg=name)


def _clear(logits: list[torch.Tensor]) -> np.ndarray:
    """Which samples have no nearly equal labels, neither at an exit nor in the mean of those up to it."""
    means = [total / (exits + 1) for exits, total in enumerate(itertools.accumulate(z.log_softmax(1) for z in logits))]
    best = torch.stack([*logits, *means]).topk(2, dim=2).values
    clear: np.ndarray = ((best[..., 0] - best[..., 1]).min(0).values > TIE).numpy()
    return clear


def _threshold(confidences: np.ndarray) -> float:
    """A value that between half and four fifths of the samples stay below, in the middle of the widest gap."""
    around = np.sort(confidences)[round(0.5 * len(confidences)) : round(0.8 * len(confidences))]
    widest = int(np.diff(around).argmax())
    return float(np.float32(around[widest : widest + 2].mean()))
