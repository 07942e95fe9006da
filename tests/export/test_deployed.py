"""A chain of converted segments: what an exit says does not depend on which other exits are on."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.errors import BackboneError
from aebnas.exits.bars import leaves
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide
from aebnas.exits.policy import Policy, leave_at
from aebnas.export import deployed as module
from aebnas.export.deployed import BlockSession, Chain, DeployedNetwork
from aebnas.export.graphs import output_grid
from aebnas.export.package import export_network
from aebnas.export.session import EarlyExitSession

SHAPE, CLASSES = (2, 8, 8), 3
SHAPES = [(4, 8, 8), (6, 6, 6), (8, 6, 6)]  # at the borders


class Shelf:
    """Records in memory, and how often one was made."""

    def __init__(self):
        self.records = {}
        self.made = 0

    def has(self, key):
        return key in self.records

    def get(self, key):
        return self.records[key]

    def put(self, key, record):
        self.made += 1
        self.records[key] = record


class Residual(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


@pytest.fixture(scope="module")
def segments():
    """Borders behind an activation, before one, and behind a sum that is left to the next segment to activate."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
    return [Residual(2, 4).eval(), nn.Conv2d(4, 6, 3).eval(), Residual(6, 8).eval(), head.eval()]


@pytest.fixture(scope="module")
def branches():
    torch.manual_seed(1)
    specs = [BranchSpec("a"), BranchSpec("b", (PartSpec("relu"),)), BranchSpec("c", (PartSpec("max-pool"),))]
    return [build_branch(spec, shape, CLASSES).eval() for spec, shape in zip(specs, SHAPES, strict=True)]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((120, *SHAPE)).astype(np.float32)


@pytest.fixture
def open_chain(segments, images):
    def make(precision="int8", kept=None, given=None):
        give = given or (lambda: images)
        return Chain(segments, SHAPE, precision, give, Shelf() if kept is None else kept, "key")

    return make


@pytest.fixture
def deploy(open_chain, branches):
    def make(precision):
        chain = open_chain(precision)
        blocks = tuple(chain.branch(branch, border) for border, branch in enumerate(branches))
        return DeployedNetwork(chain, (0, 1, 2), blocks)

    return make


def logits_of(network, mask, images):
    """Logits of the exits that are on, by their number; the final one is the last."""
    segments, branches = network.parts(mask)
    features, found = images, {}
    on = [number for number, wanted in enumerate(mask) if wanted]
    for number, segment, branch in zip(on, segments, branches, strict=False):
        features = BlockSession(segment).run(features)
        found[number] = BlockSession(branch).run(features)
    found[len(mask)] = BlockSession(segments[-1]).run(features)
    return found


@pytest.mark.parametrize(("precision", "within"), [("int8", 0), ("fp16", 1e-3)])
def test_logits_do_not_depend_on_which_exits_are_on(deploy, images, precision, within):
    network = deploy(precision)
    everything = logits_of(network, (True, True, True), images)
    for mask in itertools.product((False, True), repeat=3):
        for number, logits in logits_of(network, mask, images).items():
            np.testing.assert_allclose(logits, everything[number], rtol=0, atol=within, err_msg=f"{mask} {number}")


@pytest.mark.parametrize(("precision", "off"), [("int8", 0.05), ("fp16", 0.003)])
def test_a_deployed_network_stays_close_to_the_trained_one(deploy, segments, branches, images, precision, off):
    found = logits_of(deploy(precision), (True, True, True), images)
    features = torch.from_numpy(images)
    with torch.no_grad():
        for number, (segment, branch) in enumerate(zip(segments, branches, strict=False)):
            features = segment(features)
            expected = branch(features).numpy()
            assert 0 < np.abs(found[number] - expected).max() < off * np.abs(expected).max()
        expected = segments[-1](features).numpy()
    assert 0 < np.abs(found[3] - expected).max() < off * np.abs(expected).max()


def test_every_segment_leaves_a_grid_that_the_next_takes_over(open_chain):
    chain = open_chain()
    alone, joined = (sum(len(block.graph.node) for block in blocks) for blocks in (chain.blocks, [chain.span(0, 4)]))
    # Two steps fewer at every border, but one fewer where a float activation still reads what left the grid.
    assert [chain.grid(border) for border in range(4)] == [output_grid(block) for block in chain.blocks]
    assert None not in [chain.grid(border) for border in range(3)]
    assert alone - joined >= 4


def test_what_was_converted_is_kept(open_chain, branches, monkeypatch):
    kept = Shelf()
    before = open_chain(kept=kept)
    blocks = [*before.blocks, before.branch(branches[0], 0)]
    assert kept.made == 5

    def fail(*_, **__):
        raise AssertionError("converted again")

    monkeypatch.setattr(module, "convert", fail)
    again = open_chain(kept=kept, given=fail)  # nor are there calibration images then
    assert [*again.blocks, again.branch(branches[0], 0)] == blocks


@pytest.mark.parametrize("other", ["weights", "border", "precision", "structure"])
def test_a_branch_that_is_another_is_another_block(open_chain, branches, other):
    chain = open_chain()
    one = chain.branch_key(branches[2], 2)
    if other == "weights":
        changed = build_branch(branches[2].spec, (8, 6, 6), CLASSES).eval()
        assert chain.branch_key(changed, 2) != one
    elif other == "structure":
        changed = build_branch(BranchSpec("c", (PartSpec("average-pool"),)), (8, 6, 6), CLASSES)
        changed.load_state_dict(branches[2].state_dict())
        assert chain.branch_key(changed, 2) != one
    elif other == "border":
        assert chain.branch_key(branches[2], 1) != one
    else:
        assert open_chain("fp16").branch_key(branches[2], 2) != one


def test_fp16_needs_no_images(open_chain):
    def fail():
        raise AssertionError("images were asked for")

    assert len(open_chain("fp16", given=fail).blocks) == 4


def test_as_many_images_calibrate_as_fit_in_memory(open_chain, images, monkeypatch):
    seen = []
    real = module.convert

    def spy(block, precision, calibration, **options):
        seen.append(len(calibration))
        return real(block, precision, calibration, **options)

    monkeypatch.setattr(module, "convert", spy)
    assert len(open_chain().blocks) == 4
    per_sample = 4 * (2 * 64 + 4 * 64 + 6 * 36 + 8 * 36)
    monkeypatch.setattr(module, "CALIBRATION_BYTES", 50 * per_sample)
    assert len(open_chain().blocks) == 4
    monkeypatch.setattr(module, "CALIBRATION_BYTES", 1)
    assert len(open_chain().blocks) == 4
    assert seen == [120] * 4 + [50] * 4 + [16] * 4


def test_a_segment_that_cannot_run_is_a_sentence(open_chain):
    session = BlockSession(open_chain().blocks[0])
    with pytest.raises(BackboneError, match=r"cannot run in the precision asked for .*choose another precision"):
        session.run(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("mask", [(True, True, True), (False, True, False), (False, False, False)])
def test_single_and_staged_files_say_what_the_blocks_say(deploy, segments, images, tmp_path, mask, precision):
    network = deploy(precision)
    found = logits_of(network, mask, images)
    sure = {number: np.exp(z).max(1) / np.exp(z).sum(1) for number, z in found.items()}
    numbers = [number for number, on in enumerate(mask) if on]
    thresholds = [_threshold(sure[number]) for number in numbers]
    parts = network.parts(mask)
    export_network(
        tmp_path,
        segments=parts[0],
        branches=parts[1],
        policy=Policy("max-probability", tuple(thresholds)),
        input_shape=SHAPE,
        classes="abc",
        preprocessing={"scale": 1 / 255, "mean": [0.5], "std": [0.25]},
        costs={},
        extra={},
        backbone=nn.Sequential(*segments),
        precision=precision,
    )
    leaves = [sure[number] >= threshold for number, threshold in zip(numbers, thresholds, strict=True)]
    exits = np.array([next((k for k, column in enumerate(leaves) if column[i]), len(numbers)) for i in range(120)])
    every = [*(found[number] for number in numbers), found[3]]
    labels = np.stack([z.argmax(1) for z in every])[exits, np.arange(120)]
    session = EarlyExitSession(tmp_path)
    assert session.manifest["precision"] == precision
    assert session.manifest["attach_shapes"] == [list(SHAPES[number]) for number in numbers]
    for mode in ("single", "staged"):
        prediction = session.run(images, mode)
        np.testing.assert_array_equal(prediction.exits, exits)
        np.testing.assert_array_equal(prediction.labels, labels)
    pixels = np.random.default_rng(3).integers(0, 256, (120, *SHAPE), dtype=np.uint8)
    raw, prepared = (session.run(one, mode="single") for one in (pixels, session.prepare(pixels)))
    np.testing.assert_array_equal(raw.exits, prepared.exits)
    np.testing.assert_array_equal(raw.labels, prepared.labels)
    # What it is compared with stays as it was trained.
    with torch.no_grad():
        static = nn.Sequential(*segments)(torch.from_numpy(images)).argmax(1).numpy()
    np.testing.assert_array_equal(session.backbone(images), static)


@pytest.fixture
def lively(segments, branches, images):
    """Copies of segments and branches whose exits do not always say the same, as fresh ones do."""
    segments, branches = copy.deepcopy((segments, branches))
    features = torch.from_numpy(images)
    with torch.no_grad():
        for number, segment in enumerate(segments):
            exit_, here = (branches[number], segment(features)) if number < 3 else (segment, features)
            logits, head = exit_(here), [part for part in exit_.modules() if isinstance(part, nn.Linear)][-1]
            head.weight /= logits.std(0).mean()
            head.bias.copy_((head.bias - logits.mean(0)) / logits.std(0).mean())
            features = here
    return segments, branches


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, True)])
@pytest.mark.parametrize("confidence", ["patience", "ensemble"])
def test_converted_exits_hand_their_state_on_in_float(lively, images, tmp_path, confidence, mask):
    segments, branches = lively
    chain = Chain(segments, SHAPE, "int8", lambda: images, Shelf(), "lively")
    network = DeployedNetwork(chain, (0, 1, 2), tuple(map(chain.branch, branches, range(3))))
    logits = [torch.from_numpy(z) for z in logits_of(network, mask, images).values()]
    labels, sure = (values.numpy() for values in decide(build_confidence(confidence), logits))
    on, found = sum(mask), []
    for said, score in zip(labels[:-1], sure, strict=False):
        middle = 1.5 / 8 if confidence == "patience" else _threshold(score)
        found.append(tuple(None if label == 2 else middle for label in range(CLASSES)) if found else middle)
        assert confidence == "patience" or 0 < leaves(score, said, found[-1]).mean() < 1
    exits = leave_at(sure[:-1], found, labels[:-1])
    parts = network.parts(mask)
    export_network(
        tmp_path,
        segments=parts[0],
        branches=parts[1],
        policy=Policy(confidence, tuple(found)),
        input_shape=SHAPE,
        classes="abc",
        preprocessing={"scale": 1 / 255, "mean": [0.5], "std": [0.25]},
        costs={},
        extra={},
        backbone=nn.Sequential(*segments),
        precision="int8",
    )
    session = EarlyExitSession(tmp_path)
    for mode in ("single", "staged"):
        prediction = session.run(images, mode)
        np.testing.assert_array_equal(prediction.exits, exits)
        np.testing.assert_array_equal(prediction.labels, labels[exits, np.arange(120)])
        np.testing.assert_allclose(prediction.confidence, sure[exits, np.arange(120)], atol=1e-5)
    pixels = np.random.default_rng(3).integers(0, 256, (120, *SHAPE), dtype=np.uint8)
    raw, prepared = (session.run(one, mode="single") for one in (pixels, session.prepare(pixels)))
    np.testing.assert_array_equal(raw.exits, prepared.exits)
    np.testing.assert_array_equal(raw.labels, prepared.labels)
    assert len(set(exits)) >= on  # at the first exit nobody is patient yet


def _threshold(confidences):
    """A value in the middle of the widest gap among the middle half: the last bits do not decide there."""
    middle = np.sort(confidences)[30:90]
    widest = int(np.diff(middle).argmax())
    return float(middle[widest : widest + 2].mean())


def test_blocks_without_their_backbone_in_fp32_are_refused(deploy, tmp_path):
    segments, branches = deploy("int8").parts((False, False, False))
    with pytest.raises(ValueError, match="say nothing of the backbone in fp32"):
        export_network(
            tmp_path,
            segments=segments,
            branches=branches,
            policy=Policy("max-probability", ()),
            input_shape=SHAPE,
            classes="abc",
            preprocessing={"scale": 1.0, "mean": [0.0], "std": [1.0]},
            costs={},
            extra={},
        )
    assert not any(tmp_path.iterdir())


def test_an_export_in_fp32_says_so(exported):
    assert EarlyExitSession(exported[1]).manifest["precision"] == "fp32"
