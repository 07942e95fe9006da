"""From a row of the front back to the trained network, and on to its ONNX files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from aebnas.branches.spec import BranchSpec
from aebnas.devices.profile import HardwareProfile
from aebnas.exits.policy import Policy
from aebnas.export.package import export_network
from aebnas.network import EarlyExitNetwork
from aebnas.prepare import Prepared
from aebnas.run_folder import RunFolder
from aebnas.store import load_state


def rebuild(row: Mapping[str, Any], prepared: Prepared, folder: RunFolder) -> EarlyExitNetwork:
    """Return the trained network of ``row``, in evaluation mode, on the CPU.

    Raises:
        RunError: its weights are missing or damaged; the message names the file.
    """
    weights = row["weights"]
    specs = [BranchSpec.from_json(value) for value in row["exits"]]
    moved = "network" in weights
    backbone = copy.deepcopy(prepared.backbone) if moved else prepared.backbone
    network = EarlyExitNetwork(backbone, specs).cpu()
    if moved:
        key = weights["network"]
        load_state(network, folder.networks.get(key)["state"], folder.networks.path(key))
    else:
        for branch, key in zip(network.branches, weights["branches"], strict=True):
            load_state(branch, folder.branches.get(key)["state"], folder.branches.path(key))
    return network.eval()


def export_row(
    row: Mapping[str, Any], network: EarlyExitNetwork, prepared: Prepared, out: Path, profile: HardwareProfile
) -> Path:
    """Write the network of ``row`` with its thresholds to ``out``; exits that are switched off are left away.

    A static row becomes a file without exits that ends in its branch (or in the backbone's classifier).

    Raises:
        RunError: ``out`` cannot be written. BackboneError: a part cannot be written as ONNX.
    """
    segments, branches, thresholds, on = _executed(row, network)
    shares = row["exit_shares"]
    if not row["static"]:
        final = shares[-1:] if len(segments) > len(on) else []
        shares = [*(shares[number] for number in on), *final]
    data = prepared.data
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
            "data": prepared.experiment.data.model_dump(mode="json"),
            "seed": prepared.experiment.seed,
        },
        backbone=prepared.backbone.span(0, len(prepared.backbone.segments)),
        threads=profile.threads,
        provider=profile.provider,
    )


def costs_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a row's costs, for its manifest."""
    return {name: row[name] for name in ("macs_mean", "latency_ms_mean", "latency_ms_measured")}


def _executed(
    row: Mapping[str, Any], network: EarlyExitNetwork
) -> tuple[list[nn.Module], list[nn.Module], tuple[float, ...], list[int]]:
    """Return the segments, branches and thresholds of ``row`` that can run, and the numbers of its branches.

    At a threshold of 0 everything leaves: that branch is the end, and what lies behind it is left away.
    """
    thresholds = () if row["static"] else tuple(row["thresholds"])
    on = [number for number, threshold in enumerate(thresholds) if threshold is not None]
    last = row.get("cut")
    for place, number in enumerate(on):
        if thresholds[number] <= 0:
            last, on = number, on[:place]
            break
    kept = [*on, *([] if last is None else [last])]
    segments, branches = network.parts([number in kept for number in range(len(network.branches))])
    if last is not None:
        segments = [*segments[:-2], nn.Sequential(segments[-2], branches.pop())]
    return segments, branches, tuple(float(thresholds[number]) for number in on), kept
