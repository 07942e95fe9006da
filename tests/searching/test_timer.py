"""What a user is told while blocks are measured, and the exits that real images take."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from aebnas.branches.linked import build_exit
from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Block, TrialNetwork
from aebnas.devices.identity import identity_model
from aebnas.devices.profile import HardwareProfile
from aebnas.devices.results import Measurement
from aebnas.exits.confidence import CONFIDENCES, build_confidence
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


CLASSES = 3


def early_exit_network(cascade="none"):
    """Three branches on a network of four values, as the cost model lays it out."""
    torch.manual_seed(3)
    branches = [build_exit(BranchSpec(str(n)), (4, 2, 2), CLASSES, cascade, first=n == 0) for n in range(3)]
    stages = []
    for number, branch in enumerate(branches):
        weights = branch[-1][-1].weight if number == 0 or cascade == "none" else branch.branch[-1][-1].weight
        weights.data.mul_(10)
        before = CLASSES if number else None
        stages.append((Block((nn.ReLU(),), (4, 2, 2)), Block((branch,), (4, 2, 2), True, classes_before=before)))
    final = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))
    return TrialNetwork(tuple(stages), Block((final,), (4, 2, 2), True, classes_before=CLASSES, last=True))


class Running(Device):
    """Remembers the models it is given, and runs them here."""

    def __init__(self) -> None:
        super().__init__(0)
        self.models = {}

    def measure(self, jobs, arrived=lambda _: None):
        self.models |= {name: job.model for name, job in jobs.items()}
        return super().measure(jobs, arrived)

    def run(self, models, inputs, *, outputs, scaled):
        self.models |= models
        found = {}
        for name, model in models.items():
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            exits = [session.run(["exit"], {"input": inputs[n : n + 1]})[0] for n in range(len(inputs))]
            found[name] = SimpleNamespace(outputs={"exit": np.stack(exits)}, latency_ms=np.ones(len(inputs)))
        return found


def timer_of(name, images=None):
    device, confidence = Running(), build_confidence(name)
    return device, DeviceTimer(device, (4, 2, 2), exporter(Decider(confidence)), confidence=confidence, images=images)


@pytest.mark.parametrize("cascade", ["none", "both"])
@pytest.mark.parametrize("name", list(CONFIDENCES))
def test_blocks_take_what_they_are_handed_and_whole_networks_leave_where_they_must(name, cascade):
    device, timer = timer_of(name)
    network = early_exit_network(cascade)
    timer.blocks({str(n): branch for n, (_, branch) in enumerate(network.stages)} | {"end": network.final})
    stateful = build_confidence(name).stateful
    assert timer.stateful == stateful
    for block in ("0", "1", "2", "end"):
        graph = onnx.load_from_string(device.models[block]).graph
        hears = ["previous"] if cascade == "both" and block in "12" else []
        state = ["state"] if stateful and block != "0" else []
        assert [value.name for value in graph.input] == ["input", *hears, *state]
        handed = ["next_state"] if stateful and block != "end" else []
        assert [value.name for value in graph.output] == ["logits", "label", "confidence", *handed]
    timer.forced({str(exit_): replace(network, exit=exit_) for exit_ in range(4)})
    for exit_ in range(4):
        session = onnxruntime.InferenceSession(device.models[str(exit_)], providers=["CPUExecutionProvider"])
        for sample in torch.randn(5, 1, 4, 2, 2).numpy():
            assert session.run(["exit"], {"input": sample})[0].item() == exit_


@pytest.mark.parametrize("cascade", ["none", "both"])
@pytest.mark.parametrize("name", ["margin", "ensemble"])
def test_the_share_that_is_wanted_leaves_behind_other_exits_too(name, cascade):
    _, timer = timer_of(name, torch.randn(80, 4, 2, 2))
    shares = timer.mixed({"network": replace(early_exit_network(cascade), leaving=0.5)})["network"].exit_shares
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.125, 0.125], atol=0.03)


@pytest.mark.parametrize("leaving", [0.3, 0.85])
def test_where_all_are_equally_sure_none_leaves(leaving):
    _, timer = timer_of("patience", torch.randn(30, 4, 2, 2))
    shares = timer.mixed({"network": replace(early_exit_network(), leaving=leaving)})["network"].exit_shares
    assert shares[0] == 0.0
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("sure", "share", "leave"),
    [
        ([0.1, 0.1, 0.1], 0.9, 0.0),
        ([0.1, 0.2, 0.2, 0.2], 0.3, 0.75),
        ([0.1, 0.1, 0.1, 0.2], 0.9, 0.25),
        ([0.1, 0.2, 0.3, 0.4], 0.5, 0.5),
    ],
)
def test_some_leave_and_some_go_on_unless_all_are_equal(sure, share, leave):
    confidences = np.array(sure, dtype=np.float32)
    assert (confidences >= module._enough(confidences, share)).mean() == leave
