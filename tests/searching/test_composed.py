import numpy as np
import pytest

from aebnas.branches.spec import BranchSpec
from aebnas.costs.blocks import Figures
from aebnas.costs.model import CostModel
from aebnas.costs.overhead import Overhead
from aebnas.searching.composed import with_paths

OVERHEAD = Overhead(0.01, scale=1.05, gate_ms=0.002)


class Counting:
    """A timer to which a block takes a tenth of a millisecond and a bit more for every one that it was asked before."""

    stateful = False

    def __init__(self):
        self.asked = 0

    def overhead_ms(self):
        return 0.01

    def blocks(self, blocks):
        found = {}
        for name in blocks:
            self.asked += 1
            found[name] = Figures(size_mib=0.1, latency_ms=0.1 + 0.001 * self.asked, median_ms=0.1)
        return found


@pytest.fixture
def costs(prepared):
    return CostModel(prepared.backbone, Counting(), overhead=OVERHEAD)


@pytest.fixture
def row(prepared):
    exits = [BranchSpec(point.name).to_json() for point in prepared.backbone.attach_points]
    return {
        "finalist": True,
        "exits": exits,
        "regime": "disjoint",
        "confidence": "max-probability",
        "thresholds": [0.5, 0.8],
        "latency_ms_mean": 0.3,
    }


def test_pieces_add_up_to_the_predicted_latency_of_every_exit(costs, row):
    network = costs.network([BranchSpec.from_json(exit_) for exit_ in row["exits"]])
    latency = network.exit_costs([True, True])[network.names.index("latency_ms")]
    paths = with_paths(row, costs)["paths"]
    assert [path["exit"] for path in paths] == [0, 1, 2]
    for path in paths:
        assert path["ms"] == pytest.approx(latency[path["exit"]])
        assert sum(ms for _, _, ms in path["pieces"]) == pytest.approx(path["ms"])
    assert [(kind, exit_) for kind, exit_, _ in paths[2]["pieces"]] == [
        ("start", 0), ("segment", 0), ("branch", 0), ("segment", 1), ("branch", 1), ("segment", 2), ("rest", 2)
    ]  # fmt: skip


def test_exits_that_are_off_are_left_out_and_what_lets_all_leave_is_the_last(costs, row):
    paths = with_paths({**row, "thresholds": [None, 0.8]}, costs)["paths"]
    assert [path["exit"] for path in paths] == [1, 2]
    assert [exit_ for _, exit_, _ in paths[0]["pieces"]] == [0, 1, 1, 1]
    assert [path["exit"] for path in with_paths({**row, "thresholds": [0.5, 0.0]}, costs)["paths"]] == [0, 1]


@pytest.mark.parametrize("change", [{"finalist": False}, {"latency_ms_mean": None}])
def test_what_is_not_measured_has_no_pieces(costs, row, change):
    assert with_paths({**row, **change}, costs) == {**row, **change}
    assert not np.isnan(costs.backbone).any()
