"""Predicted sizes against exported files, also where what stands behind an exit is left away."""

from __future__ import annotations

import pytest

from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.devices.profile import HardwareProfile
from aebnas.exits.curve import OperatingPoint
from aebnas.network import EarlyExitNetwork
from aebnas.progress import Progress
from aebnas.rebuild import export_row
from aebnas.run_folder import RunFolder
from aebnas.searching.costing import Kind, cost_models
from aebnas.searching.priced import with_costs
from aebnas.spaces.definition import load_space
from aebnas.spaces.genome import build_genome
from aebnas.spaces.network_genes import NetworkGenes

NOWHERE = HardwareProfile(name="nowhere", description="")
MIB = 1 << 20


@pytest.fixture(scope="module")
def model(prepared, toy_experiment, tmp_path_factory):
    genome = build_genome(
        load_space("digits"), prepared.backbone.attach_points, 4, NetworkGenes("disjoint", "max-probability")
    )
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    return cost_models(toy_experiment(), prepared, folder, genome, None, Progress())[Kind("fp32", "max-probability")]


@pytest.mark.parametrize(
    ("thresholds", "shares"),
    [
        ((0.8, 0.9), (0.5, 0.3, 0.2)),
        ((None, 0.9), (0.0, 0.8, 0.2)),
        ((0.8, 0.0), (0.5, 0.5, 0.0)),
        ((None, 0.0), (0.0, 1.0, 0.0)),
        ((0.0, 0.9), (1.0, 0.0, 0.0)),
        (((0.0, -1.0, 0.0, 0.0), 0.9), (1.0, 0.0, 0.0)),
        # Some may go on, though none of validation did: all of it is in the file.
        ((0.8, 0.3), (0.5, 0.5, 0.0)),
        (((0.0, None, 0.0, 0.0), 0.9), (1.0, 0.0, 0.0)),
    ],
)
def test_the_size_of_a_point_is_that_of_its_file(model, prepared, tmp_path, thresholds, shares):
    specs = [BranchSpec(point.name) for point in prepared.backbone.attach_points]
    costs = model.network(specs)
    priced = with_costs(OperatingPoint(thresholds, 0.9, shares, ()), costs)
    predicted = dict(zip(costs.names, priced.costs, strict=True))
    row = {
        **NetworkSpec(tuple(specs)).to_json(),
        "id": "point",
        "static": False,
        "exits": [spec.to_json() for spec in specs],
        "thresholds": list(map(list_of, thresholds)),
        "exit_shares": list(shares),
    }
    network = EarlyExitNetwork(prepared.backbone, specs).eval()
    out = export_row(row, network, prepared, tmp_path / "out", NOWHERE, RunFolder(tmp_path))
    size = (out / "model.onnx").stat().st_size / MIB
    assert predicted["model_mib"] == pytest.approx(size, rel=0.02, abs=0.002)


def list_of(threshold):
    return list(threshold) if isinstance(threshold, tuple) else threshold
