"""From rows of cascaded networks, with thresholds of both kinds, back to networks and on to their files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from aebnas.branches.linked import LinkedBranch
from aebnas.branches.spec import BranchSpec
from aebnas.devices.profile import HardwareProfile
from aebnas.errors import BackboneError, InputError
from aebnas.exits.policy import Policy
from aebnas.export.session import EarlyExitSession
from aebnas.network import EarlyExitNetwork
from aebnas.rebuild import deploy, export_row, rebuild
from aebnas.run_folder import RunFolder
from aebnas.store import state_of

CASCADE = "both"


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def row(prepared, folder):
    """A row of two cascaded branches whose weights are in ``folder``."""
    torch.manual_seed(0)
    specs = [BranchSpec(point.name) for point in prepared.backbone.attach_points]
    network = EarlyExitNetwork(prepared.backbone, specs, CASCADE)
    nn.init.normal_(network.branches[1].inputs.weight)
    for number, branch in enumerate(network.branches):
        folder.branches.put(f"branch{number}", {"state": state_of(branch)})
    return {
        "id": "one",
        "static": False,
        "exits": [spec.to_json() for spec in specs],
        "weights": {"branches": ["branch0", "branch1"]},
        "thresholds": [0.5, 0.5],
        "exit_shares": [0.5, 0.25, 0.25],
        "confidence": "ensemble",
        "cascade": CASCADE,
    }


@pytest.fixture
def written(row, prepared, folder, tmp_path):
    def write(**changes):
        profile = HardwareProfile(name="paper", description="d", connection="none")
        changed = {**row, **changes}
        export_row(changed, rebuild(changed, prepared, folder), prepared, tmp_path / "out", profile, folder)
        return EarlyExitSession(tmp_path / "out")

    return write


def images_of(prepared):
    return torch.cat([batch.images for batch in prepared.data.test.batches(1000)])


def test_a_row_of_cascaded_branches_becomes_the_network_that_was_trained(row, prepared, folder):
    network = rebuild(row, prepared, folder)
    first, second = network.branches
    assert network.cascade == CASCADE
    assert not isinstance(first, LinkedBranch) and isinstance(second, LinkedBranch)
    stored = folder.branches.get("branch1")["state"]
    assert all(torch.equal(value, stored[name]) for name, value in second.state_dict().items())
    plain = {**row, "weights": {"branches": ["branch0"]}, "exits": row["exits"][:1]}
    del plain["cascade"]  # as rows were before they had it
    assert rebuild(plain, prepared, folder).cascade == "none"


@pytest.mark.parametrize("mode", ["single", "staged"])
@pytest.mark.parametrize(
    ("thresholds", "exits"),
    [
        ([0.3, 0.35], 3),
        ([0.3, None], 2),
        # Nobody leaves at the first, which the second hears.
        ([2.0, 0.35], 3),
        ([[None] * 4, [0.3, None, 0.3, 0.3]], 3),
        ([[0.3, None, 0.28, 0.0], [None, 0.3, 0.3, 0.3]], 3),
        # Everything leaves at the last that is on: it is the end, and still hears the one before.
        ([0.3, 0.0], 2),
        ([0.3, [0.0, -1.0, 0.0, 0.0]], 2),
        ([[0.0] * 4, 0.5], 1),
        ([[0.0, None, 0.0, 0.0], None], 2),
    ],
)
def test_what_is_exported_says_what_the_network_says(written, row, prepared, folder, thresholds, exits, mode):
    images = images_of(prepared)
    session = written(thresholds=thresholds, exit_shares=[1.0, 0.0, 0.0])
    assert session.num_exits == exits
    policy = Policy("ensemble", tuple(tuple(one) if isinstance(one, list) else one for one in thresholds))
    expected = rebuild(row, prepared, folder).predict(images, policy)
    found = session.run(images.numpy(), mode=mode)
    # Rounding decides where a sample lies on a threshold.
    same = found.exits == np.minimum(expected.exits.numpy(), exits - 1)
    assert same.mean() > 0.98
    np.testing.assert_array_equal(found.labels[same], expected.labels.numpy()[same])
    np.testing.assert_allclose(found.confidence[same], expected.confidence.numpy()[same], atol=1e-5)


def test_only_the_first_of_cascaded_branches_is_a_static_network(written, prepared, row, folder):
    images, static = images_of(prepared), {"static": True, "thresholds": [], "exit_shares": [1.0]}
    session = written(**static, cut=0)
    logits = rebuild(row, prepared, folder)(images)[0]
    np.testing.assert_array_equal(session.run(images.numpy()).labels, logits.argmax(1).numpy())
    with pytest.raises(InputError, match="branch 1 of a cascaded network hears the branch before it"):
        written(**static, cut=1)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_cascaded_branches_are_deployed_in_fp32_only(row, prepared, folder, precision):
    network = rebuild(row, prepared, folder)
    with pytest.raises(BackboneError, match=f"cascaded branches run in fp32 only: leave {precision} out"):
        deploy(network, prepared, precision, folder)
    # One alone hears nobody.
    first = EarlyExitNetwork(prepared.backbone, network.specs[:1], CASCADE).eval()
    assert len(deploy(first, prepared, precision, folder).branches) == 1
