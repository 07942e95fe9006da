from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from aebnas.backbones.cut import SegmentedBackbone, cut_backbone
from aebnas.branches.linked import CASCADES, LinkedBranch
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BranchError, InputError
from aebnas.exits.confidence import CONFIDENCES, build_confidence
from aebnas.exits.decision import decide
from aebnas.exits.policy import Policy
from aebnas.network import EarlyExitNetwork

INPUT, CLASSES = (2, 8, 8), 4
POINTS = ("0", "1", "2")
LAYERS = {
    "0": (PartSpec.of("conv", kernel=3, stride=2), PartSpec("batch-norm"), PartSpec("relu")),
    "1": (),
    "2": (PartSpec("max-pool"),),
}
HEADS = {"0": PartSpec("pooled-linear"), "1": PartSpec.of("grid-linear", size=2), "2": PartSpec("expand-mix")}
SPECS = {name: BranchSpec(name, LAYERS[name], HEADS[name]) for name in POINTS}


def new_backbone() -> SegmentedBackbone:
    torch.manual_seed(0)

    def block(inputs: int, outputs: int) -> nn.Module:
        # The in-place activation of the next block would spoil the features that a branch reads.
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(nn.ReLU(inplace=True), conv, nn.BatchNorm2d(outputs))

    model = nn.Sequential(
        block(2, 4), block(4, 8), block(8, 8), block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )
    model[-1].weight.data.mul_(8)
    return cut_backbone(model, INPUT, modules=list(POINTS))


def new_network(*names: str, cascade: str = "none") -> EarlyExitNetwork:
    network = EarlyExitNetwork(new_backbone(), [SPECS[name] for name in names], cascade)
    for branch in network.branches:  # fresh ones are sure of nothing
        alone = branch.branch if isinstance(branch, LinkedBranch) else branch
        alone[-1][-1].weight.data.mul_(8)
        if isinstance(branch, LinkedBranch) and branch.inputs is not None:
            nn.init.normal_(branch.inputs.weight, std=2)  # it begins at nothing
    return network.eval()


NETWORKS = {names: new_network(*names) for names in [(), ("0",), ("2",), ("0", "1"), ("0", "1", "2")]}
CASCADED = {cascade: new_network("0", "1", "2", cascade=cascade) for cascade in CASCADES[1:]}
IMAGES = torch.randn(64, *INPUT, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_hand(network: EarlyExitNetwork, policy: Policy, images: torch.Tensor):
    """Every exit that is on for every sample; then, sample by sample, the first that is sure enough."""
    mask = [threshold is not None for threshold in policy.thresholds]
    said, sure = decide(build_confidence(policy.confidence), network(images), mask)
    on, labels, exits, confidences, distances = np.flatnonzero([*mask, True]), [], [], [], []
    for sample in range(len(images)):
        for place, exit_ in enumerate(on):
            label, score = int(said[place, sample]), float(sure[place, sample])
            limit = -np.inf if exit_ == len(mask) else policy.thresholds[exit_]
            limit = limit[label] if isinstance(limit, tuple) else limit
            if limit is not None and exit_ < len(mask):
                distances.append(abs(score - limit))
            if limit is not None and score >= limit:
                break
        labels.append(label)
        exits.append(int(exit_))
        confidences.append(score)
    return labels, exits, torch.tensor(confidences), min(distances, default=1.0)


NUMBER = st.floats(0, 1) | st.sampled_from([0.0, 2.0])  # 0: everybody leaves, 2: nobody
THRESHOLD = NUMBER | st.tuples(*[st.none() | NUMBER] * CLASSES)


def check(network: EarlyExitNetwork, policy: Policy, images: torch.Tensor) -> None:
    labels, exits, confidence, nearest = by_hand(network, policy, images)
    # The last bits of a confidence may depend on the batch it is computed in; patience counts.
    assume(policy.confidence == "patience" or nearest > 1e-5)
    result = network.predict(images, policy)
    assert result.labels.tolist() == labels
    assert result.exits.tolist() == exits
    torch.testing.assert_close(result.confidence, confidence, atol=1e-5, rtol=0)
    assert (result.labels.dtype, result.exits.dtype, result.confidence.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )


@pytest.mark.parametrize("names", NETWORKS, ids=lambda names: "-".join(names) or "bare")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_real_exiting_gives_what_computing_everything_gives(names, data):
    thresholds = data.draw(st.tuples(*[st.none() | THRESHOLD] * len(names)))
    policy = Policy(data.draw(st.sampled_from(list(CONFIDENCES))), thresholds)
    start, count = data.draw(st.integers(0, 50)), data.draw(st.integers(1, 14))
    check(NETWORKS[names], policy, IMAGES[start : start + count])


@pytest.mark.parametrize("cascade", CASCADES[1:])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cascaded_branches_hear_those_of_their_own_samples(cascade, data):
    on = data.draw(st.integers(0, 3))
    thresholds = (*data.draw(st.tuples(*[THRESHOLD] * on)), *[None] * (3 - on))
    policy = Policy(data.draw(st.sampled_from(list(CONFIDENCES))), thresholds)
    start, count = data.draw(st.integers(0, 50)), data.draw(st.integers(1, 14))
    check(CASCADED[cascade], policy, IMAGES[start : start + count])


def test_a_branch_that_hears_one_which_is_off_is_refused():
    network = CASCADED["both"]
    for mask, deaf in (
        ([False, True, False], 1),
        ([True, False, True], 2),
        ([False, False, True], 2),
        ([False, True, True], 1),
    ):
        with pytest.raises(InputError, match=rf"branch {deaf} of a cascaded network hears .* before it, which is off"):
            network.parts(mask)
        with pytest.raises(InputError, match="switch off only the last branches"):
            network.predict(IMAGES, Policy("margin", tuple(0.5 if on else None for on in mask)))
    assert len(network.parts([True, True, False])[1]) == 2


def test_the_random_images_leave_at_every_exit():
    network = NETWORKS["0", "1", "2"]
    _, sure = decide(build_confidence("margin"), network(IMAGES))
    policy = Policy("margin", tuple(float(score.quantile(0.7)) for score in sure[:-1]))
    result = network.predict(IMAGES, policy)
    assert set(result.exits.tolist()) == {0, 1, 2, 3}
    np.testing.assert_array_equal(result.exits, policy.leave_at(sure[:-1].numpy()))


def count_rows(parts: list[nn.Module]) -> list[int]:
    rows = [0] * len(parts)

    def counting(index):
        def hook(module, arguments):
            rows[index] += len(arguments[0])

        return hook

    for index, part in enumerate(parts):
        part.register_forward_pre_hook(counting(index))
    return rows


@pytest.mark.parametrize(
    ("thresholds", "exit_", "at_branches", "at_segments"),
    [
        ((0.0, 0.0, 0.0), 0, [5, 0, 0], [5, 0, 0, 0]),
        ((2.0, 0.0, 0.5), 1, [5, 5, 0], [5, 5, 0, 0]),
        ((2.0, 2.0, 2.0), 3, [5, 5, 5], [5, 5, 5, 5]),
        ((None, 2.0, None), 3, [0, 5, 0], [5, 5, 5, 5]),
        ((None, None, 0.0), 2, [0, 0, 5], [5, 5, 5, 0]),
        ((None, None, None), 3, [0, 0, 0], [5, 5, 5, 5]),
    ],
)
def test_what_lies_behind_an_exit_or_is_off_is_not_executed(thresholds, exit_, at_branches, at_segments):
    network = new_network("0", "1", "2")
    branches, segments = count_rows(list(network.branches)), count_rows(list(network.backbone.segments))
    result = network.predict(IMAGES[:5], Policy("max-probability", thresholds))
    assert result.exits.tolist() == [exit_] * 5
    assert branches == at_branches
    assert segments == at_segments


def test_a_confidence_that_equals_the_threshold_leaves():
    network = new_network("0")
    for parameter in network.branches[0][-1][-1].parameters():
        nn.init.zeros_(parameter)  # each of the 4 classes gets exactly a quarter
    above = float(np.nextafter(np.float32(0.25), np.float32(1)))
    for threshold, exit_ in ((0.25, 0), (above, 1)):
        assert network.predict(IMAGES[:3], Policy("max-probability", (threshold,))).exits.tolist() == [exit_] * 3


def test_samples_that_left_are_not_computed_further():
    network = new_network("0")
    sure = build_confidence("margin")(network(IMAGES)[0])
    policy = Policy("margin", (float(sure.detach().quantile(0.6)),))
    segments = count_rows(list(network.backbone.segments))
    left = int((network.predict(IMAGES, policy).exits == 0).sum())
    assert 0 < left < len(IMAGES)
    assert segments == [len(IMAGES)] + [len(IMAGES) - left] * 3


def test_forward_gives_the_logits_of_every_exit_and_the_last_is_the_backbone():
    network = NETWORKS["0", "1", "2"]
    logits = network(IMAGES)
    assert [z.shape for z in logits] == [(64, CLASSES)] * 4
    torch.testing.assert_close(logits[-1], network.backbone.model(IMAGES))
    here = IMAGES
    for segment, branch, expected in zip(network.backbone.segments, network.branches, logits, strict=False):
        here = segment(here)
        torch.testing.assert_close(branch(here.clone()), expected)


def test_the_order_in_which_branches_are_given_says_nothing():
    network = EarlyExitNetwork(new_backbone(), [SPECS["2"], SPECS["0"]])
    assert network.specs == (SPECS["0"], SPECS["2"])
    assert network.points == (0, 2)


def test_gradients_reach_everything_in_front_of_an_exit():
    network = new_network("0", "1", "2").train()
    logits = network(IMAGES[:8])
    for exit_, z in enumerate(logits):
        network.zero_grad()
        z.square().sum().backward(retain_graph=True)
        moved = {name.split(".")[1] for name, p in network.backbone.named_parameters() if p.grad is not None}
        assert moved == (set("012"[: exit_ + 1]) if exit_ < 3 else {"0", "1", "2", "3", "6"})
        for number, branch in enumerate(network.branches):
            assert all((p.grad is not None) == (number == exit_) for p in branch.parameters())
    network.zero_grad()
    sum(z.square().sum() for z in network(IMAGES[:8])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_backbone_is_shared_and_listed_once():
    backbone = new_backbone()
    network = EarlyExitNetwork(backbone, [SPECS["0"], SPECS["1"]])
    own = set(map(id, backbone.model.parameters()))
    assert own <= set(map(id, network.parameters()))
    assert len(list(network.parameters())) == len(own) + sum(len(list(b.parameters())) for b in network.branches)
    other = EarlyExitNetwork(backbone, [SPECS["2"]])
    with torch.no_grad():
        next(backbone.model.parameters()).add_(1)
    torch.testing.assert_close(other.eval()(IMAGES)[-1], network.eval()(IMAGES)[-1], atol=0, rtol=0)
    torch.testing.assert_close(backbone.model.eval()(IMAGES), network(IMAGES)[-1])


def test_modes_reach_segments_and_branches():
    network = new_network("0", "2")
    for mode in (True, False):
        network.train(mode)
        segments, branches = network.parts()
        for part in (network.backbone.model, *segments, *branches):
            assert all(module.training == mode for module in part.modules())


@pytest.mark.parametrize(("mask", "lengths"), [(None, [1, 1, 1, 1]), ((True, False, True), [1, 2, 1])])
def test_parts_merge_the_segments_beside_branches_that_are_off(mask, lengths):
    network = NETWORKS["0", "1", "2"]
    segments, branches = network.parts(mask)
    assert [len(segment) for segment in segments] == lengths
    assert branches == [b for i, b in enumerate(network.branches) if mask is None or mask[i]]
    here = IMAGES
    for segment in segments:
        here = segment(here)
    torch.testing.assert_close(here, network(IMAGES)[-1])


def test_an_unknown_attach_point_suggests_the_nearest():
    with pytest.raises(BranchError, match=r"there is no attach point '7': known are 0, 1, 2"):
        EarlyExitNetwork(new_backbone(), [BranchSpec("7")])


def test_two_branches_at_one_attach_point_are_refused():
    with pytest.raises(BranchError, match="two branches of one network hang at the same attach point"):
        EarlyExitNetwork(new_backbone(), [SPECS["1"], BranchSpec("1")])


def test_a_branch_that_does_not_fit_is_refused():
    with pytest.raises(BranchError, match=r"head of the branch at 1: .*does not divide a 8x8 map"):
        EarlyExitNetwork(new_backbone(), [BranchSpec("1", (), PartSpec.of("grid-linear", size=3))])


@pytest.mark.parametrize("thresholds", [(), (0.5,), (0.5, None, 0.5)])
def test_a_policy_of_another_network_is_refused(thresholds):
    with pytest.raises(InputError, match=f"the policy has {len(thresholds)} thresholds for 2 branches"):
        NETWORKS["0", "1"].predict(IMAGES, Policy("margin", thresholds))


def test_thresholds_of_other_classes_are_refused():
    with pytest.raises(InputError, match="thresholds for 3 classes, this network tells 4"):
        NETWORKS["0",].predict(IMAGES, Policy("margin", ((0.5, None, 0.5),)))
