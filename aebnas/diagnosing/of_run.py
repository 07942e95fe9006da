"""A point of a run, rebuilt, and what its exits say of validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebnas.branches.spec import FP32
from aebnas.costs.model import CostModel
from aebnas.data.splits import Split
from aebnas.diagnosing.subject import SPLITS, Said, Subject, require_exits
from aebnas.errors import InputError
from aebnas.exits.costs import Mask
from aebnas.exits.policy import Policy, thresholds_from_json
from aebnas.network import EarlyExitNetwork
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.rebuild import deploy, rebuild
from aebnas.run import Run
from aebnas.run_folder import RunFolder
from aebnas.searching.deployed import all_logits
from aebnas.training.fit import logits_of

_FIX = "choose another point with --pick, `aebnas front` lists them"


def subject_of_run(run: Run, id: str | None = None, *, progress: Progress | None = None) -> Subject:
    """Return the point ``id`` of ``run``, by default :meth:`Run.pick`'s, with the logits of both splits.

    In another precision than fp32 the logits are those of the blocks as they are deployed.

    Raises:
        InputError: the point is a static network or has every exit switched off.
        RunError: there is no such point, or a file of the run is missing or damaged.
    """
    row = run.pick(id)
    if row["static"]:
        if all(other["static"] for other in run.rows):
            raise InputError(
                f"no point of {run.folder.path} leaves early, so there is nothing to diagnose: search with more "
                "search.trials, or another space"
            )
        raise InputError(f"{row['id']} is a static network: there is no exit to diagnose; {_FIX}")
    thresholds = thresholds_from_json(row["thresholds"])
    require_exits(thresholds, str(row["id"]), _FIX)
    prepared = run.prepared(progress)
    network = rebuild(row, prepared, run.folder)
    costs = CostModel(prepared.backbone, None)
    composed = costs.network(network.specs, network.cascade)

    def exit_macs(mask: Mask) -> NDArray[np.float64]:
        return composed.exit_costs(mask)[:1]

    return Subject(
        kind="run",
        source=str(run.folder.path),
        id=str(row["id"]),
        branches=tuple(spec.attach for spec in network.specs),
        policy=Policy(row["confidence"], thresholds),
        prefixes=network.cascade != "none",
        exit_macs=exit_macs,
        backbone_macs=float(costs.backbone[0]),
        grid=run.experiment.search.grid,
        splits={
            name: Said(
                _logits(row, network, prepared, getattr(prepared.data, name), run.folder), _truth(prepared, name)
            )
            for name in SPLITS
        },
        classes=prepared.data.classes,
        accuracy=run.experiment.accuracy,
    )


def _truth(prepared: Prepared, name: str) -> Tensor:
    labels: Tensor = getattr(prepared.data, name).labels
    return labels


def _logits(
    row: Mapping[str, Any], network: EarlyExitNetwork, prepared: Prepared, split: Split, folder: RunFolder
) -> list[Tensor]:
    precision = row.get("precision") or FP32
    if precision == FP32:
        return logits_of(network, split, torch.device("cpu"))
    return [torch.from_numpy(logits) for logits in all_logits(deploy(network, prepared, precision, folder), split)]
