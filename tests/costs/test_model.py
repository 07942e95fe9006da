from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.backbones.cut import cut_backbone
from aebnas.branches.build import Branch, build_branch
from aebnas.branches.spec import BranchSpec, PartSpec
from aebnas.costs.blocks import Block, Figures, MixedRun, TrialNetwork
from aebnas.costs.macs import count_macs
from aebnas.costs.model import CostModel
from aebnas.costs.overhead import Overhead
from aebnas.errors import BranchError
from aebnas.exits.costs import ExitCosts

OVERHEAD_MS = 1.0
GATE_MS = 0.125
CUT_MS = 0.75
END = 3


SIZE_MIB, MEMORY_MIB, POWER = 0.5, 0.25, 2.0


class FakeTimer:
    """Blocks take a made-up time that tells them apart, all of it exact in binary; whole graphs take some more."""

    stateful = False

    def __init__(self, *, energy=False, memory=False, scale=1.0, gate_ms=0.0, switch_ms=0.0) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.trials: list[TrialNetwork] = []
        self.energy, self.memory = energy, memory
        self.scale, self.gate_ms, self.switch_ms = scale, gate_ms, switch_ms
        self.segments: list[nn.Module] = []

    def overhead_ms(self) -> float:
        return OVERHEAD_MS

    def blocks(self, blocks):
        self.calls.append(tuple(blocks))
        return {name: self.figures(OVERHEAD_MS + self.beyond_ms(name, block)) for name, block in blocks.items()}

    def figures(self, time_ms: float) -> Figures:
        return Figures(
            SIZE_MIB,
            latency_ms=time_ms,
            median_ms=time_ms,
            memory_mib=MEMORY_MIB if self.memory else None,
            energy_mj=POWER * time_ms if self.energy else None,
        )

    def forced(self, networks):
        self.trials += networks.values()
        return {name: self.figures(self.whole_ms(trial, trial.exit)) for name, trial in networks.items()}

    def mixed(self, networks):
        """Every exit is taken alike, and a switch of them takes some more."""
        runs = {}
        for name, trial in networks.items():
            exits = range(len(trial.stages) + 1)
            shares = tuple(1 / len(exits) for _ in exits)
            going_on = 1 - np.cumsum(shares)[:-1]
            mean_ms = sum(self.whole_ms(trial, exit_) for exit_ in exits) / len(exits)
            runs[name] = MixedRun(shares, mean_ms + self.switch_ms * float(going_on @ (1 - going_on)))
        return runs

    def whole_ms(self, trial: TrialNetwork, exit_: int) -> float:
        parts = [part for stage in trial.stages[: exit_ + 1] for part in stage]
        parts += [trial.final] if exit_ == len(trial.stages) else []
        gates = min(exit_ + 1, len(trial.stages))
        return OVERHEAD_MS + self.scale * sum(map(self.alone_ms, parts)) + self.gate_ms * gates

    def alone_ms(self, block: Block) -> float:
        """Return what a block of a whole graph takes alone: by its parts, for there it has no name."""
        if isinstance(block.parts[-1], Branch):
            return branch_ms(block.parts[-1]) + GATE_MS
        numbers = [self.segments.index(segment) for segment in block.parts]
        return span_ms(numbers[0] - 1, numbers[-1]) + GATE_MS * block.gated

    def beyond_ms(self, name, block) -> float:
        kind, *numbers = name.split()
        # What lies between exits, and the static backbone, give no label and confidence; every exit does.
        assert block.gated == (kind not in ("span", "backbone"))
        if kind == "span":
            return span_ms(*map(int, numbers))
        if kind == "end":
            return span_ms(int(numbers[0]), END) + GATE_MS
        if kind == "backbone":
            return span_ms(-1, END)
        return branch_ms(block.parts[-1]) + GATE_MS + (CUT_MS * len(block.parts) if kind == "cut" else 0.0)


def span_ms(start: int, stop: int) -> float:
    """Not the sum of its parts: a longer span is faster than the segments one by one."""
    return 2.0 ** (stop - start) + (start + 1) / 64


def branch_ms(branch: nn.Module) -> float:
    return sum(weight.numel() for weight in branch.parameters()) / 1024


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.ReLU()) for channels in (2, 4, 8)
    ]
    model = nn.Sequential(*layers, nn.Conv2d(16, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return cut_backbone(model, (2, 8, 8), modules=["0", "1", "2"]).eval()


SPECS = (
    BranchSpec("0", (PartSpec.of("conv", kernel=3, stride=2),), PartSpec("pooled-linear")),
    BranchSpec("1", (PartSpec("batch-norm"),), PartSpec.of("grid-linear", size=2)),
    BranchSpec("2", (), PartSpec("pooled-linear")),
)
# Convolutions, and the pool and linear layer of the last segment.
SEGMENT_MACS = [64 * 4 * 2 * 9, 64 * 8 * 4 * 9, 64 * 16 * 8 * 9, 64 * 4 * 16 + (64 + 1) * 4 + 4 * 3]
BRANCH_MACS = [
    16 * 4 * 4 * 9 + (16 + 1) * 4 + 4 * 3,
    4 * 64 * 8 + 4 * 8 + 4 * 8 * 3,
    (64 + 1) * 16 + 16 * 3,
]
# Weights: conv and head; batch-norm and head; head.
BRANCH_MS = [(4 * 4 * 9 + 4 * 3 + 3) / 1024, (8 + 8 + 32 * 3 + 3) / 1024, (16 * 3 + 3) / 1024]
MASKS = list(itertools.product([False, True], repeat=3))


def by_hand(mask) -> np.ndarray:
    """Walk through the network with the exits in ``mask``, adding up what runs."""
    result = np.full((2, 4), np.nan)
    macs, ms, start = 0, OVERHEAD_MS, -1
    for exit_ in range(3):
        macs += SEGMENT_MACS[exit_]
        if mask[exit_]:
            macs += BRANCH_MACS[exit_]
            ms += span_ms(start, exit_) + BRANCH_MS[exit_] + GATE_MS
            start = exit_
            result[:, exit_] = macs, ms
    result[:, 3] = macs + SEGMENT_MACS[3], ms + span_ms(start, END) + GATE_MS
    return result


@pytest.mark.parametrize("mask", MASKS)
def test_exit_costs_are_sums_of_what_runs(backbone, mask):
    costs = CostModel(backbone, FakeTimer()).network(SPECS)
    assert costs.names == ("macs", "latency_ms", "latency_p95_ms", "model_mib")
    np.testing.assert_array_equal(costs.exit_costs(mask)[:2], by_hand(mask))
    np.testing.assert_array_equal(costs.exit_costs(mask)[2], by_hand(mask)[1])


@pytest.mark.parametrize("mask", MASKS)
def test_an_exit_that_is_off_costs_what_a_network_without_it_costs(backbone, mask):
    model = CostModel(backbone, FakeTimer())
    kept = [*mask, True]
    less = model.network([spec for spec, on in zip(SPECS, mask, strict=True) if on])
    np.testing.assert_array_equal(model.network(SPECS).exit_costs(mask)[:, kept], less.exit_costs([True] * sum(mask)))
    assert np.isnan(model.network(SPECS).exit_costs(mask)[:, [not on for on in kept]]).all()


def test_nothing_on_is_the_static_backbone_and_its_gate(backbone):
    model = CostModel(backbone, FakeTimer())
    alone_ms = OVERHEAD_MS + span_ms(-1, END)
    np.testing.assert_array_equal(model.backbone, [sum(SEGMENT_MACS), alone_ms, alone_ms, SIZE_MIB])
    expected = [sum(SEGMENT_MACS), alone_ms + GATE_MS, alone_ms + GATE_MS, SIZE_MIB]
    np.testing.assert_array_equal(model.network(SPECS).exit_costs([False] * 3)[:, -1], expected)
    np.testing.assert_array_equal(model.network(()).exit_costs(()), np.array([expected]).T)
    assert model.overhead == Overhead(OVERHEAD_MS)


def test_costs_are_composed_of_spans_gated_ends_and_gated_branches(backbone):
    costs = CostModel(backbone, FakeTimer()).network(SPECS)
    assert set(costs.spans) == set(itertools.combinations(range(-1, END), 2))
    assert set(costs.ends) == set(range(-1, END))
    for (start, stop), span in costs.spans.items():
        assert (span.macs, span.beyond_ms) == (sum(SEGMENT_MACS[start + 1 : stop + 1]), span_ms(start, stop))
    for start, end in costs.ends.items():
        assert (end.macs, end.beyond_ms) == (sum(SEGMENT_MACS[start + 1 :]), span_ms(start, END) + GATE_MS)
    for branch, macs, ms in zip(costs.branches, BRANCH_MACS, BRANCH_MS, strict=True):
        assert (branch.macs, branch.beyond_ms) == (macs, ms + GATE_MS)


@pytest.mark.parametrize("specs", [SPECS, SPECS[1:]])
def test_a_truncated_network_is_measured_as_one_graph_of_its_own(backbone, specs):
    costs = CostModel(backbone, FakeTimer()).network(specs)
    for exit_, spec in enumerate(specs):
        number = SPECS.index(spec)
        macs = sum(SEGMENT_MACS[: number + 1]) + BRANCH_MACS[number]
        # The segments that lead to the branch, and the branch.
        time_ms = OVERHEAD_MS + BRANCH_MS[number] + GATE_MS + CUT_MS * (number + 2)
        np.testing.assert_array_equal(costs.truncated(exit_), [macs, time_ms, time_ms, SIZE_MIB])


def test_without_a_timer_macs_are_the_only_cost(backbone):
    model = CostModel(backbone, None)
    costs = model.network(SPECS)
    assert model.names == costs.names == ("macs",)
    for mask in MASKS:
        np.testing.assert_array_equal(costs.exit_costs(mask), by_hand(mask)[:1])
    np.testing.assert_array_equal(costs.truncated(0), [SEGMENT_MACS[0] + BRANCH_MACS[0]])
    np.testing.assert_array_equal(model.backbone, [sum(SEGMENT_MACS)])


def test_blocks_are_measured_once(backbone):
    timer = FakeTimer()
    model = CostModel(backbone, timer)
    # The input and three attach points, all in one go: blocks are measured interleaved.
    spans = {f"span {a} {b}" for a, b in itertools.combinations(range(-1, END), 2)}
    assert [set(call) for call in timer.calls] == [spans | {f"end {a}" for a in range(-1, END)} | {"backbone"}]
    first = model.network(SPECS[:2])
    assert set(timer.calls[1]) == {f"{kind} {spec.key}" for spec in SPECS[:2] for kind in ("branch", "cut")}
    again = model.network(SPECS[:2])
    assert len(timer.calls) == 2
    np.testing.assert_array_equal(first.exit_costs([True] * 2), again.exit_costs([True] * 2))
    model.network(SPECS)
    assert set(timer.calls[2]) == {f"{kind} {SPECS[2].key}" for kind in ("branch", "cut")}
    model.network(SPECS[::2])
    model.network(())
    assert len(timer.calls) == 3


def test_a_block_that_seems_faster_than_nothing_costs_nothing(backbone):
    class Noisy(FakeTimer):
        def beyond_ms(self, name, block):
            return -OVERHEAD_MS / 2

    costs = CostModel(backbone, Noisy()).network(SPECS)
    np.testing.assert_array_equal(costs.exit_costs([True] * 3)[1], [OVERHEAD_MS] * 4)


def test_what_thop_misses_in_the_backbone_is_reported(backbone):
    class Square(nn.Module):
        def forward(self, x):
            return torch.matmul(x, x.transpose(2, 3))

    class WithProduct(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.square, self.head = nn.Conv2d(2, 4, 3, padding=1), Square(), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.square(self.conv(x)).mean((2, 3)))

    def missed(*leaves):
        return CostModel(cut_backbone(WithProduct(), (2, 8, 8), modules=["conv"], leaves=leaves).eval(), None)

    assert missed("square").missed_macs == 4 * 8 * 8 * 8
    # Where it can look inside, nothing is missed.
    assert missed().missed_macs == 0
    assert CostModel(backbone, None).missed_macs == 0


def test_a_branch_that_does_not_fit_is_refused_before_anything_is_measured(backbone):
    timer = FakeTimer()
    model = CostModel(backbone, timer)
    with pytest.raises(BranchError, match="does not divide a 8x8 map"):
        model.network([BranchSpec("1", (), PartSpec.of("grid-linear", size=3))])
    assert len(timer.calls) == 1


def test_the_hand_written_macs_are_those_of_the_counter(backbone):
    for spec, macs in zip(SPECS, BRANCH_MACS, strict=True):
        shape = backbone.attach_points[int(spec.attach)].shape
        assert count_macs(build_branch(spec, shape, 3), shape).macs == macs


# Latency of a whole graph: colder between its parts, every decision costs, and every switch from one exit to another.
SCALE, DECISION_MS, SWITCH_MS = 1.0625, 0.25, 0.5


@pytest.fixture
def calibrated(backbone):
    timer = FakeTimer(scale=SCALE, gate_ms=DECISION_MS, switch_ms=SWITCH_MS)
    timer.segments = list(backbone.segments)
    return CostModel(backbone, timer, calibration=[SPECS[:1], SPECS[1:], SPECS]), timer


def test_the_overhead_of_real_graphs_is_found_and_predicts_others(backbone, calibrated):
    model, timer = calibrated
    assert [trial.exit for trial in timer.trials] == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert model.overhead.paths == 9 + 3
    assert model.overhead.scale == pytest.approx(SCALE, rel=0.01)
    assert model.overhead.gate_ms == pytest.approx(DECISION_MS, rel=0.1)
    assert model.overhead.switch_ms == pytest.approx(SWITCH_MS, rel=0.1)
    assert model.overhead.spread < 0.01
    costs = model.network(SPECS[::2])
    plain = CostModel(backbone, FakeTimer()).network(SPECS[::2])
    beyond_ms = plain.exit_costs([True, True])[1] - OVERHEAD_MS
    expected = OVERHEAD_MS + SCALE * beyond_ms + DECISION_MS * np.array([1, 2, 2])
    np.testing.assert_allclose(costs.exit_costs([True, True])[1], expected, rtol=0.01)


def test_a_mean_pays_for_every_switch(calibrated):
    costs = calibrated[0].network(SPECS[::2])
    shares = np.array([0.5, 0.25, 0.25])
    extra = SWITCH_MS * (0.5 * 0.5 + 0.25 * 0.75)
    expected = shares @ costs.exit_costs([True, True])[1] + extra
    assert costs.mean([True, True], shares)[1] == pytest.approx(expected, rel=0.01)
    # As the tuner reckons it, from whole samples.
    tuned = ExitCosts(costs.exit_costs, 2, costs.reduction).of_points(np.array([[2, 1, 1]]), (True, True))
    np.testing.assert_allclose(tuned[:, 0], costs.mean([True, True], shares))


def test_an_overhead_that_was_found_before_is_taken_as_it_is(backbone, calibrated):
    timer = FakeTimer()
    again = CostModel(backbone, timer, calibration=[SPECS], overhead=calibrated[0].overhead)
    assert timer.trials == []
    assert again.overhead == calibrated[0].overhead


def test_branches_of_the_calibration_are_measured_with_the_others(backbone):
    timer = FakeTimer()
    timer.segments = list(backbone.segments)
    model = CostModel(backbone, timer, calibration=[SPECS])
    calls = len(timer.calls)
    model.network(SPECS)
    assert len(timer.calls) == calls


def test_energies_of_blocks_add_up_and_overhead_draws_their_mean_power(backbone):
    costs = CostModel(backbone, FakeTimer(energy=True)).network(SPECS)
    row, time = costs.names.index("energy_mj"), costs.names.index("latency_ms")
    for mask in MASKS:
        on = [*mask, True]
        exit_costs = costs.exit_costs(mask)[:, on]
        np.testing.assert_allclose(exit_costs[row], POWER * exit_costs[time])


def test_size_and_memory_are_those_of_the_whole_file_at_every_exit(backbone):
    model = CostModel(backbone, FakeTimer(memory=True))
    costs = model.network(SPECS)
    size, memory = (costs.names.index(name) for name in ("model_mib", "peak_memory_mib"))
    for mask in MASKS:
        on, exit_costs = [*mask, True], costs.exit_costs(mask)
        # A span and a branch for each exit, and the end; the larger of a level's two, for it keeps its arena.
        assert set(exit_costs[size, on]) == {SIZE_MIB * (2 * sum(mask) + 1)}
        assert set(exit_costs[memory, on]) == {SIZE_MIB * (2 * sum(mask) + 1) + MEMORY_MIB * (sum(mask) + 1)}
    assert model.backbone[memory] == SIZE_MIB + MEMORY_MIB


def test_what_stands_behind_an_exit_that_all_leave_at_is_not_in_the_file(backbone):
    costs = CostModel(backbone, FakeTimer(memory=True)).network(SPECS)
    size, memory = (costs.names.index(name) for name in ("model_mib", "peak_memory_mib"))
    for mask, shares, last, exits in (
        ([True, True, True], (0.5, 0.5, 0.0, 0.0), 1, 2),
        ([True, False, True], (0.5, 0.0, 0.5, 0.0), 2, 2),
        ([True, True, True], (1.0, 0.0, 0.0, 0.0), 0, 1),
    ):
        whole, found = costs.mean(mask, shares), costs.mean(mask, shares, last)
        assert found[size] == SIZE_MIB * 2 * exits
        assert found[memory] == SIZE_MIB * 2 * exits + MEMORY_MIB * exits
        kept = [row for row in range(len(costs.names)) if row not in (size, memory)]
        np.testing.assert_array_equal(found[kept], whole[kept])
    np.testing.assert_array_equal(costs.mean([True] * 3, (0.25,) * 4, 3), costs.mean([True] * 3, (0.25,) * 4))


def test_a_tail_is_the_cost_of_the_exit_that_all_but_one_in_twenty_leave_at(backbone):
    costs = CostModel(backbone, FakeTimer()).network(SPECS)
    latency = costs.exit_costs([True, False, True])[1]
    cases = {(0.95, 0.0, 0.05, 0.0): 0, (0.94, 0.0, 0.01, 0.05): 2, (0.5, 0.0, 0.44, 0.06): 3}
    for shares, exit_ in cases.items():
        mean = costs.mean([True, False, True], shares)
        assert mean[costs.names.index("latency_p95_ms")] == latency[exit_]
        assert mean[1] == pytest.approx(sum(share * ms for share, ms in zip(shares, latency, strict=True) if share))


def test_a_part_without_energy_draws_the_power_of_the_others(backbone):
    class Flaky(FakeTimer):
        def blocks(self, blocks):
            found = super().blocks(blocks)
            return {n: replace(f, energy_mj=None) if n.startswith("branch") else f for n, f in found.items()}

    costs = CostModel(backbone, Flaky(energy=True)).network(SPECS)
    exit_costs = costs.exit_costs([True] * 3)
    np.testing.assert_allclose(
        exit_costs[costs.names.index("energy_mj")], POWER * exit_costs[costs.names.index("latency_ms")]
    )


def test_a_static_network_has_the_energy_of_its_latency(backbone):
    class Typical(FakeTimer):
        """Runs typically take longer than the quick ones that energies are reckoned for."""

        def blocks(self, blocks):
            return {name: replace(one, median_ms=1.25 * one.median_ms) for name, one in super().blocks(blocks).items()}

    model = CostModel(backbone, Typical(energy=True))
    latency, energy = (model.names.index(name) for name in ("latency_ms", "energy_mj"))
    for static in (model.backbone, model.network(SPECS).truncated(1)):
        assert static[energy] == POWER * static[latency]


STATE_MS = 0.0625
PREFIXES = [(False,) * 3, (True, False, False), (True, True, False), (True,) * 3]


class Stateful(FakeTimer):
    """What stands behind another exit takes its state, and some more time for it."""

    stateful = True

    def beyond_ms(self, name, block):
        kind = name.split()[0]
        alone = kind in ("span", "backbone", "branch", "cut") or name == "end -1"
        assert block.classes_before == (None if alone else 3)
        assert block.last == (kind in ("end", "cut"))
        return super().beyond_ms(name, block) + (0.0 if alone else STATE_MS)


@pytest.mark.parametrize("mask", MASKS)
def test_an_exit_behind_another_takes_what_that_hands_on(backbone, mask):
    expected = by_hand(mask)
    for behind, exit_ in enumerate(np.flatnonzero([*mask, True])):
        expected[1, exit_] += STATE_MS * behind
    np.testing.assert_array_equal(CostModel(backbone, Stateful()).network(SPECS).exit_costs(mask)[:2], expected)


def test_only_what_can_stand_behind_another_exit_is_measured_so(backbone):
    timer = Stateful()
    model = CostModel(backbone, timer)
    model.network(SPECS[:2])
    kinds = [("branch", 0), ("branch", 1), ("behind", 1), ("cut", 0), ("cut", 1)]
    assert set(timer.calls[1]) == {f"{kind} {SPECS[number].key}" for kind, number in kinds}
    model.network(SPECS[:1])
    model.network(SPECS[1:2])
    assert len(timer.calls) == 2
    timer.segments = list(backbone.segments)
    CostModel(backbone, timer, calibration=[SPECS])
    befores = [branch.classes_before for _, branch in timer.trials[0].stages]
    assert befores == [None, 3, 3]
    assert timer.trials[0].final.classes_before == 3 and timer.trials[0].final.last


@pytest.mark.parametrize("mask", PREFIXES)
@pytest.mark.parametrize(("cascade", "link"), [("inputs", 9), ("ensemble", 0), ("both", 9)])
def test_cascaded_branches_cost_what_they_hear_with(backbone, mask, cascade, link):
    """All but the first: a linear layer from three classes to three."""
    costs = CostModel(backbone, None).network(SPECS, cascade)
    expected = by_hand(mask)[:1] + np.array([0, link, 2 * link, link * max(0, sum(mask) - 1)])
    np.testing.assert_array_equal(costs.exit_costs(mask), expected)


def test_of_cascaded_branches_only_the_first_is_a_network_of_its_own(backbone):
    timer = FakeTimer()
    model = CostModel(backbone, timer)
    costs = model.network(SPECS, "both")
    kinds = [("branch", 0), ("cut", 0), ("cascaded-both", 1), ("cascaded-both", 2)]
    assert set(timer.calls[1]) == {f"{kind} {SPECS[number].key}" for kind, number in kinds}
    assert len(costs.cuts) == 1
    np.testing.assert_array_equal(costs.truncated(0), model.network(SPECS).truncated(0))
    with pytest.raises(IndexError):
        costs.truncated(1)
