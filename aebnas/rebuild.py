"""From a row of the front back to the trained network, and on to its ONNX files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aebnas.backbones.build import state_fingerprint
from aebnas.backbones.cut import SegmentedBackbone
from aebnas.branches.build import Branch
from aebnas.branches.spec import FP32, NO_CASCADE, BranchSpec
from aebnas.costs.kinds import KINDS
from aebnas.data.decoding import form_of
from aebnas.devices.profile import HardwareProfile
from aebnas.exits.policy import Policy, Thresholds, lets_all_leave, thresholds_from_json
from aebnas.export.deployed import Chain, DeployedNetwork
from aebnas.export.graphs import join
from aebnas.export.package import Part, export_network
from aebnas.export.precision import refuse_cascade
from aebnas.files import canonical_json, digest
from aebnas.network import EarlyExitNetwork
from aebnas.prepare import Prepared
from aebnas.run_folder import RunFolder
from aebnas.store import load_state

# Training images whose values inside the network become the ranges of int8.
CALIBRATION_SAMPLES = 128


def rebuild(row: Mapping[str, Any], prepared: Prepared, folder: RunFolder) -> EarlyExitNetwork:
    """Return the trained network of ``row``, in evaluation mode, on the CPU.

    Raises:
        RunError: its weights are missing or damaged; the message names the file.
    """
    weights = row["weights"]
    specs = [BranchSpec.from_json(value) for value in row["exits"]]
    moved = "network" in weights
    backbone = copy.deepcopy(prepared.backbone) if moved else prepared.backbone
    network = EarlyExitNetwork(backbone, specs, row.get("cascade", NO_CASCADE)).cpu()
    if moved:
        key = weights["network"]
        load_state(network, folder.networks.get(key)["state"], folder.networks.path(key))
    else:
        for branch, key in zip(network.branches, weights["branches"], strict=True):
            load_state(branch, folder.branches.get(key)["state"], folder.branches.path(key))
    return network.eval()


def deployed_backbone(prepared: Prepared, precision: str, folder: RunFolder) -> Chain:
    """Return the frozen backbone in ``precision``, which branches that were trained on it hang on."""
    backbone = prepared.backbone
    cuts = [point.name for point in backbone.attach_points]
    return _chain(list(backbone.segments), backbone, cuts, prepared, precision, folder)


def deploy(network: EarlyExitNetwork, prepared: Prepared, precision: str, folder: RunFolder) -> DeployedNetwork:
    """Return the trained ``network`` in ``precision``: the blocks that are judged, and those that are exported.

    Args:
        network: In evaluation mode.

    Raises:
        BackboneError: a part cannot be converted, or the branches are cascaded.
    """
    branches = [branch for branch in network.branches if isinstance(branch, Branch)]
    if len(branches) < len(network.branches):
        raise refuse_cascade(precision)
    if network.backbone is prepared.backbone:
        chain, borders = deployed_backbone(prepared, precision, folder), network.points
    else:
        # The backbone is this network's own: nobody else hangs a branch between its segments.
        segments, _ = network.parts()
        cuts = [spec.attach for spec in network.specs]
        chain = _chain(segments, network.backbone, cuts, prepared, precision, folder)
        borders = tuple(range(len(cuts)))
    return DeployedNetwork(chain, borders, tuple(map(chain.branch, branches, borders)))


def _chain(
    segments: list[nn.Module],
    backbone: SegmentedBackbone,
    cuts: list[str],
    prepared: Prepared,
    precision: str,
    folder: RunFolder,
) -> Chain:
    """Return the chain of ``segments``, known by all that its blocks depend on: images, weights, where it is cut."""
    key = digest(prepared.fingerprint, state_fingerprint(backbone.model), canonical_json(cuts))
    images = partial(_calibration_images, prepared, folder)
    return Chain(segments, backbone.input_shape, precision, images, folder.deployed, key)


def export_row(
    row: Mapping[str, Any],
    network: EarlyExitNetwork,
    prepared: Prepared,
    out: Path,
    profile: HardwareProfile,
    folder: RunFolder,
) -> Path:
    """Write the network of ``row`` with its thresholds to ``out``; exits that are switched off are left away.

    A static row becomes a file without exits that ends in its branch (or in the backbone's classifier); of a cascaded
    network only the first branch stands alone.

    Raises:
        RunError: ``out`` cannot be written. BackboneError: a part cannot be written as ONNX.
        InputError: a branch of a cascaded network would have nobody to hear.
    """
    precision = row.get("precision", FP32)
    same = precision == FP32
    ready = network if same else deploy(network, prepared, precision, folder)
    segments, branches, thresholds, on = _executed(row, ready)
    shares = row["exit_shares"]
    if not row["static"]:
        final = shares[-1:] if len(segments) > len(on) else []
        shares = [*(shares[number] for number in on), *final]
    data, settings = prepared.data, prepared.experiment.data
    return export_network(
        out,
        segments=segments,
        branches=branches,
        policy=Policy(row["confidence"] or "max-probability", thresholds),
        input_shape=data.input_shape,
        classes=data.classes,
        preprocessing=data.preprocessing.to_json(),
        costs=costs_of(row),
        extra={
            "id": row["id"],
            "branches": [row["exits"][number] for number in on],
            "exit_shares": shares,
            # What `aebnas evaluate` needs to find the same test split again.
            "data": settings.model_dump(mode="json"),
            "seed": prepared.experiment.seed,
            # And to bring other images to the form that the backbone wants, which is not at hand there.
            "wanted": None if data.wanted is None else asdict(data.wanted),
            # Which accuracy thresholds were tuned by, and the figures of the front are.
            "accuracy": prepared.experiment.accuracy,
        },
        form=form_of(None, grey=settings.grey, resize=settings.resize, wanted=data.wanted).to_json(),
        backbone=prepared.backbone.span(0, len(prepared.backbone.segments)),
        precision=precision,
        threads=profile.threads,
        provider=profile.provider,
        provider_options=profile.provider_options,
    )


def costs_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a row's costs, for its manifest."""
    columns = [kind.column for kind in KINDS] + [kind.measured for kind in KINDS if kind.measured is not None]
    return {name: row.get(name) for name in columns}


def _executed(
    row: Mapping[str, Any], network: EarlyExitNetwork | DeployedNetwork
) -> tuple[list[Part], list[Part], Thresholds, list[int]]:
    """Return the segments, branches and thresholds of ``row`` that can run, and the numbers of its branches.

    At a threshold of 0 everything leaves: that branch is the end, and what lies behind it is left away.
    """
    thresholds = () if row["static"] else thresholds_from_json(row["thresholds"])
    on = [number for number, threshold in enumerate(thresholds) if threshold is not None]
    last = row.get("cut")
    for place, number in enumerate(on):
        if lets_all_leave(thresholds[number]):
            last, on = number, on[:place]
            break
    kept = [*on, *([] if last is None else [last])]
    parts = network.parts([number in kept for number in range(len(network.branches))])
    segments: list[Part] = [*parts[0]]
    branches: list[Part] = [*parts[1]]
    if last is not None:
        segments = [*segments[:-2], _in_a_row(segments[-2], branches.pop())]
    return segments, branches, tuple(thresholds[number] for number in on), kept


def _in_a_row(first: Part, second: Part) -> Part:
    if isinstance(first, nn.Module) and isinstance(second, nn.Module):
        return nn.Sequential(first, second)
    assert not isinstance(first, nn.Module)
    assert not isinstance(second, nn.Module)
    return join([first, second])


def _calibration_images(prepared: Prepared, folder: RunFolder) -> npt.NDArray[np.float32]:
    """Return training images, preprocessed; drawn once per run, for random transforms would give others each time."""
    key = digest("calibration", prepared.fingerprint)
    if not folder.deployed.has(key):
        train = prepared.data.train
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:CALIBRATION_SAMPLES]
        images = torch.cat([batch.images for batch in train.subset(rows).batches(CALIBRATION_SAMPLES)])
        folder.deployed.put(key, {"images": images})
    found: npt.NDArray[np.float32] = folder.deployed.get(key)["images"].numpy()
    return found
