"""Where finalists let the images of validation and test leave: their networks, run again on samples of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aebnas.branches.spec import FP32
from aebnas.data.splits import Split
from aebnas.diagnosing.subject import SPLITS, SplitName
from aebnas.errors import AebnasError
from aebnas.exits.confidence import build_confidence
from aebnas.exits.decision import decide
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.policy import leave_at, thresholds_from_json
from aebnas.files import canonical_json
from aebnas.prepare import Prepared
from aebnas.rebuild import deploy, rebuild
from aebnas.run_folder import RunFolder
from aebnas.searching.deployed import all_logits
from aebnas.training.fit import logits_of

# So many multiply-accumulates of the backbone are spent on each split of each network, a second or a few of a laptop.
_BUDGET_MACS = 5e10
# More would say nothing new, and their logits of a thousand classes would fill the memory.
_FEWEST, _MOST = 100, 20_000


@dataclass(frozen=True)
class Leaving:
    """Where one network lets samples of one split leave.

    Args:
        rows: Their positions in the split, drawn at random, int64 (N,).
        exits: Number of the branch that each leaves at, of the final exit the number of branches, int64 (N,).
        labels, truth: Predicted and right classes, int64 (N,).
        confidences: At the exit that each leaves at, float32 (N,).
        reached: The exits that can be left at.
        of: Samples of the whole split.
    """

    rows: NDArray[np.int64]
    exits: NDArray[np.int64]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]
    confidences: NDArray[np.float32]
    reached: tuple[int, ...]
    of: int

    @property
    def shares(self) -> dict[int, float]:
        """The share of the samples that leaves at each exit."""
        return {exit_: float((self.exits == exit_).mean()) for exit_ in self.reached}

    @property
    def accuracy(self) -> float:
        """The share of the samples whose class is predicted right."""
        return float((self.labels == self.truth).mean())


Seen = dict[str, dict[SplitName, Leaving]]


def see_leaving(
    finalists: Sequence[Mapping[str, Any]], prepared: Prepared, folder: RunFolder
) -> tuple[Seen, dict[str, str]]:
    """Return where finalists let samples leave, by id and split; and of those that cannot be run why, by id.

    Both splits are run whole where that takes a few seconds; else as many samples as do, drawn at random, the same ones
    for all.
    """
    seen: Seen = {}
    problems: dict[str, str] = {}
    splits = {name: _sampled(getattr(prepared.data, name), prepared.backbone.macs) for name in SPLITS}
    cache: dict[str, dict[SplitName, list[Tensor]]] = {}
    keys = {row["id"]: canonical_json([row["weights"], row.get("precision") or FP32]) for row in finalists}
    for row in sorted(finalists, key=lambda row: keys[row["id"]]):
        key = keys[row["id"]]
        try:
            if key not in cache:
                # Those of one network are kept, no more: of many classes they are gigabytes.
                cache.clear()
                cache[key] = _logits(row, prepared, folder, {name: part for name, (_, part) in splits.items()})
            seen[row["id"]] = {
                name: _leaving(row, cache[key][name], rows, part.labels, len(getattr(prepared.data, name)))
                for name, (rows, part) in splits.items()
            }
        except AebnasError as error:
            problems[row["id"]] = str(error)
    return seen, problems


def _sampled(split: Split, macs: float) -> tuple[Tensor, Split]:
    count = min(_MOST, max(_FEWEST, int(_BUDGET_MACS / max(macs, 1.0))))
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    return rows, split.subset(rows)


def _logits(
    row: Mapping[str, Any], prepared: Prepared, folder: RunFolder, splits: Mapping[SplitName, Split]
) -> dict[SplitName, list[Tensor]]:
    """Return what every exit says of both splits: as it is deployed, where that is not in fp32."""
    network, precision = rebuild(row, prepared, folder), row.get("precision") or FP32
    if precision == FP32:
        return {name: logits_of(network, split, torch.device("cpu")) for name, split in splits.items()}
    deployed = deploy(network, prepared, precision, folder)
    return {name: [torch.from_numpy(said) for said in all_logits(deployed, split)] for name, split in splits.items()}


def _leaving(row: Mapping[str, Any], logits: Sequence[Tensor], rows: Tensor, truth: Tensor, of: int) -> Leaving:
    thresholds = thresholds_from_json(row["thresholds"])
    reached = reachable_exits(thresholds)
    said = [logits[exit_] for exit_ in reached]
    found, sure = (values.numpy() for values in decide(build_confidence(row["confidence"]), said))
    early = [thresholds[exit_] for exit_ in reached[:-1]]
    place = leave_at(sure[:-1], early, found[:-1])
    every = np.arange(len(place))
    return Leaving(
        rows=rows.numpy(),
        exits=np.asarray(reached, dtype=np.int64)[place],
        labels=found[place, every],
        truth=truth.numpy(),
        confidences=sure[place, every],
        reached=reached,
        of=of,
    )
