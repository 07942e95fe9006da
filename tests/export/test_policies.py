"""Every confidence, with thresholds of both kinds, with and without cascaded branches: PyTorch and ONNX agree."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.backbones.cut import cut_backbone
from aebnas.branches.linked import LinkedBranch
from aebnas.branches.spec import BranchSpec
from aebnas.errors import BackboneError
from aebnas.exits.bars import bars
from aebnas.exits.confidence import CONFIDENCES, build_confidence
from aebnas.exits.decision import Decider, decide
from aebnas.exits.policy import NEVER, Policy
from aebnas.export.forced import forced
from aebnas.export.gate import Decision, export_exit
from aebnas.export.manifest import SINGLE_FILE
from aebnas.export.package import export_network
from aebnas.export.precision import convert
from aebnas.export.session import EarlyExitSession, open_session
from aebnas.network import EarlyExitNetwork

SHAPE, CLASSES, COUNT = (2, 8, 8), 4, 500
NEAR = 1e-4  # of a threshold, or of another label: there, the last digits of two runtimes may decide differently
STATEFUL = ["patience", "ensemble"]


def new_network(cascade: str) -> EarlyExitNetwork:
    """Three branches, which are fairly sure of different things."""
    torch.manual_seed(1)
    blocks = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in [(2, 6), (6, 8), (8, 8), (8, 8)]]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
    backbone = cut_backbone(model, SHAPE, modules=["0", "1", "2"])
    network = EarlyExitNetwork(backbone, [BranchSpec(name) for name in "012"], cascade)
    heads = [branch.branch if isinstance(branch, LinkedBranch) else branch for branch in network.branches]
    features = backbone.features(images())
    for head, here in zip([*(head[-1][-1] for head in heads), model[-1]], features, strict=True):
        # Logits of an untrained network hardly differ between samples: these are centred and spread.
        pooled = here.detach().mean((2, 3)) if here.ndim == 4 else model[:-1](images()).detach()
        nn.init.normal_(head.weight, std=1.0 / float(pooled.std(0).mean()) / pooled.shape[1] ** 0.5)
        head.bias.data = -head.weight.data @ pooled.mean(0)
    for branch in network.branches:
        if isinstance(branch, LinkedBranch) and branch.inputs is not None:
            nn.init.normal_(branch.inputs.weight)
    return network.eval()


def images() -> torch.Tensor:
    return torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def networks():
    with torch.no_grad():
        return {cascade: (made := new_network(cascade), made(images())) for cascade in ("none", "both")}


def gap(scores: np.ndarray, share: float) -> float | None:
    """A value that about ``share`` of the scores stay below, in the middle of a wide gap; None where there are few."""
    if len(scores) < 8:
        return None
    around = np.sort(scores)[int((share - 0.1) * len(scores)) : int((share + 0.1) * len(scores)) + 2]
    widest = int(np.diff(around).argmax())
    return float(around[widest : widest + 2].mean())


def thresholds_for(name: str, logits: list[torch.Tensor], kind: str, mask=(True, True, True)) -> tuple:
    """Thresholds at which some samples leave at every exit that is on, as far as the confidence allows it."""
    labels, sure = (values.numpy() for values in decide(build_confidence(name), logits, mask))
    found, place, staying = [], 0, np.ones(len(labels[0]), dtype=bool)
    for on in mask:
        if not on:
            found.append(None)
            continue
        said, score = labels[place], sure[place]
        if name == "patience":
            number, per_class = 1.5 / 8, [None, 0.5 / 8, 1.5 / 8, 2.5 / 8]
        else:
            number = gap(score[staying], 0.6)
            per_class = [gap(score[staying & (said == one)], 0.5) if one else None for one in range(CLASSES)]
        found.append(number if kind == "per-exit" else tuple(per_class))
        bar = (
            np.full(CLASSES, number)
            if kind == "per-exit"
            else np.array([np.inf if b is None else b for b in per_class])
        )
        staying &= score < bar[said]
        place += 1
    return tuple(found)


def clear(name: str, logits: list[torch.Tensor], thresholds: tuple) -> np.ndarray:
    """Which samples lie far enough from every threshold, and their labels from being others."""
    mask = [threshold is not None for threshold in thresholds]
    labels, sure = (values.numpy() for values in decide(build_confidence(name), logits, mask))
    far = np.ones(len(labels[0]), dtype=bool)
    for said, score, threshold in zip(labels, sure, [t for t in thresholds if t is not None], strict=False):
        bar = bars(threshold)
        far &= np.abs(score - (bar[said] if bar.ndim else bar)) > NEAR
    products = list(itertools.accumulate(z.log_softmax(1) for z, on in zip(logits, (*mask, True), strict=True) if on))
    for z in [*logits, *products]:
        best = z.topk(2, dim=1).values
        far &= (best[:, 0] - best[:, 1] > NEAR).numpy()
    return far


def check(network, logits, policy, folder):
    """Single file, staged files and predict give what computing everything gives; returns the exits.

    The file that takes pixels gives what the single file gives of the same pixels, prepared.
    """
    keep = clear(policy.confidence, logits, policy.thresholds)
    assert keep.mean() > 0.98
    given, logits = images()[keep], [z[keep] for z in logits]
    mask = [threshold is not None for threshold in policy.thresholds]
    labels, sure = (values.numpy() for values in decide(build_confidence(policy.confidence), logits, mask))
    left = Policy(policy.confidence, tuple(t for t in policy.thresholds if t is not None)).leave_at(
        sure[:-1], labels[:-1]
    )
    rows = np.arange(len(left))
    expected = labels[left, rows], left, sure[left, rows]
    segments, branches = network.parts(mask)
    export_network(
        folder,
        segments=segments,
        branches=branches,
        policy=policy,
        input_shape=SHAPE,
        classes="abcd",
        preprocessing={"scale": 1 / 255, "mean": [0.5, 0.4], "std": [0.25, 0.3]},
        costs={},
        extra={},
        backbone=network.backbone.span(0, 4),
    )
    session = EarlyExitSession(folder)
    pixels = np.random.default_rng(3).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    raw, prepared = (session.run(one, mode="single") for one in (pixels, session.prepare(pixels)))
    for name in ("labels", "exits", "confidence"):
        np.testing.assert_array_equal(getattr(raw, name), getattr(prepared, name), err_msg=f"{name} of pixels")
    eager = network.predict(given, policy)
    numbers = torch.tensor([*np.flatnonzero(mask), len(mask)])
    np.testing.assert_array_equal(eager.exits.numpy(), numbers.numpy()[left])
    found = {mode: session.run(given.numpy(), mode=mode) for mode in ("single", "staged")}
    ran = {mode: (said.labels, said.exits, said.confidence) for mode, said in found.items()}
    ran["predict"] = (eager.labels.numpy(), left, eager.confidence.numpy())
    for name, got in ran.items():
        np.testing.assert_array_equal(got[0], expected[0], err_msg=name)
        np.testing.assert_array_equal(got[1], expected[1], err_msg=name)
        np.testing.assert_allclose(got[2], expected[2], atol=1e-5, err_msg=name)
    whole = session.all_exits(given.numpy())
    on = [z.numpy() for z, is_on in zip(logits, (*mask, True), strict=True) if is_on]
    np.testing.assert_allclose(whole[0], np.stack(on), atol=1e-4)
    np.testing.assert_array_equal(whole[1], labels)
    np.testing.assert_allclose(whole[2], sure, atol=1e-5)
    return left


@pytest.mark.parametrize("cascade", ["none", "both"])
@pytest.mark.parametrize("kind", ["per-exit", "per-class"])
@pytest.mark.parametrize("name", list(CONFIDENCES))
def test_all_ways_to_run_a_network_agree(networks, name, kind, cascade, tmp_path):
    network, logits = networks[cascade]
    exits = check(network, logits, Policy(name, thresholds_for(name, logits, kind)), tmp_path)
    everywhere = name != "patience" or kind == "per-class"  # at the first exit, nothing agrees with anything yet
    assert np.bincount(exits, minlength=4)[0 if everywhere else 1 :].min() >= 5


@pytest.mark.parametrize("kind", ["per-exit", "per-class"])
@pytest.mark.parametrize(("cascade", "mask"), [("none", (True, False, True)), ("both", (True, True, False))])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_state_skips_the_exits_that_are_off(networks, name, cascade, mask, kind, tmp_path):
    network, logits = networks[cascade]
    check(network, logits, Policy(name, thresholds_for(name, logits, kind, mask)), tmp_path)


@pytest.mark.parametrize("never", [NEVER, (None,) * CLASSES], ids=["per-exit", "per-class"])
@pytest.mark.parametrize("cascade", ["none", "both"])
@pytest.mark.parametrize("name", STATEFUL)
def test_an_exit_where_nobody_leaves_is_heard(networks, name, cascade, never, tmp_path):
    network, logits = networks[cascade]
    _, *rest = thresholds_for(name, logits, "per-exit")
    exits = check(network, logits, Policy(name, (never, *rest)), tmp_path)
    counts = np.bincount(exits, minlength=4)
    assert counts[0] == 0 and counts[1:].min() >= 5


def test_batches_keep_states_and_samples_together(networks, tmp_path):
    network, logits = networks["both"]
    check(network, logits, Policy("ensemble", thresholds_for("ensemble", logits, "per-class")), tmp_path)
    whole, parts = (EarlyExitSession(tmp_path, batch_size=size) for size in (1000, 7))
    given = images().numpy()
    np.testing.assert_array_equal(parts.run(given, mode="staged").exits, whole.run(given, mode="staged").exits)
    for got, expected in zip(parts.all_exits(given), whole.all_exits(given), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    nothing = parts.all_exits(given[:0])
    assert [values.shape for values in nothing] == [(4, 0, CLASSES), (4, 0), (4, 0)]


def test_a_file_with_thresholds_per_class_is_made_to_leave_at_every_exit(networks, tmp_path):
    network, logits = networks["both"]
    check(network, logits, Policy("ensemble", thresholds_for("ensemble", logits, "per-class")), tmp_path)
    model = (tmp_path / SINGLE_FILE).read_bytes()
    for exit_ in range(4):
        session = open_session(forced(model, exit_, 4), threads=1)
        left = [session.run(["exit"], {"input": image[None]})[0].item() for image in images()[:10].numpy()]
        assert left == [exit_] * 10


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_cascaded_branches_are_refused_in_other_precisions(networks, precision):
    network, _ = networks["both"]
    decision = Decision(Decider(build_confidence("margin")), first=False)
    block = export_exit(network.branches[1], decision, network.backbone.attach_points[1].shape, CLASSES)
    with pytest.raises(BackboneError, match=f"cascaded branches run in fp32 only: leave {precision} out"):
        convert(block, precision, np.zeros((4, 8, 8, 8), np.float32))


def test_a_cascaded_branch_cannot_stand_first(networks, tmp_path):
    network, _ = networks["both"]
    segments, branches = network.parts()
    with pytest.raises(ValueError, match="nothing was said before it"):
        export_network(
            tmp_path,
            segments=segments[1:],
            branches=branches[1:],
            policy=Policy("margin", (0.5, 0.5)),
            input_shape=network.backbone.attach_points[0].shape,
            classes="abcd",
            preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
            costs={},
            extra={},
        )
