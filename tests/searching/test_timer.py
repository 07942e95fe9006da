"""What a user is told while blocks are measured, and the exits that real images take."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from aebnas.costs.blocks import Block, TrialNetwork
from aebnas.devices.identity import identity_model
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.results import Measurement
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import Decider
from aebnas.progress import Progress
from aebnas.searching import timer as module
from aebnas.searching.timer import DeviceTimer, exporter


class Seen(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Device:
    """Measures anything in 1 ms; of every set of blocks, the first ``unsteady`` not as well as wanted."""

    profile = HardwareProfile(name="board", description="", connection="local")

    def __init__(self, unsteady: int) -> None:
        self.unsteady = unsteady

    def measure(self, jobs, arrived=lambda _: None):
        arrived(len(jobs))
        return {
            name: Measurement(1.0, 0.9, 1.1, 1.0, 1.2, runs=9, steady=number >= self.unsteady, yardstick_ms=0.1)
            for number, name in enumerate(jobs)
        }


@pytest.mark.parametrize(("unsteady", "said"), [(0, 0), (7, 1)])
def test_blocks_that_are_not_known_well_enough_are_told(unsteady, said):
    seen, model = Seen(), onnx.load_from_string(identity_model((2,)))
    confidence = build_confidence("max-probability")
    timer = DeviceTimer(Device(unsteady), (2,), lambda _: model, confidence=confidence, progress=seen)
    found = timer.blocks({f"block {number}": Block((nn.Identity(),), (2,)) for number in range(30)})
    assert len(found) == 30
    assert len(seen.lines) == said
    if said:
        assert "7 of 30 blocks are not known to 1.5 %, for protocol.time_limit_s = 60 was over" in seen.lines[0]


def test_the_share_that_is_wanted_leaves_by_what_the_exported_blocks_say():
    torch.manual_seed(0)
    confidence, first, second = build_confidence("max-probability"), nn.Linear(4, 3), nn.Linear(4, 3)
    write, images = exporter(Decider(confidence)), torch.randn(60, 4)
    other = {first: nn.Linear(4, 3), second: nn.Linear(4, 3)}

    def export(block):
        """As a conversion does: it makes of a branch what its module does not say."""
        return write(Block((other.get(block.parts[0], block.parts[0]),), block.shape, block.gated))

    stages = tuple((Block((nn.Identity(),), (4,)), Block((branch,), (4,), gated=True)) for branch in other)
    network = TrialNetwork(stages, Block((nn.Linear(4, 3),), (4,), gated=True), leaving=0.4)
    thresholds = module._thresholds(network, images, export)
    coming = images
    for branch, threshold in zip(other.values(), thresholds, strict=True):
        leaves = confidence(branch(coming)) >= threshold
        assert float(leaves.float().mean()) == pytest.approx(0.4, abs=1 / len(coming))
        coming = coming[~leaves]
