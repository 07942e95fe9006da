"""Logits of a network on validation as its deployed blocks compute them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aebnas.branches.build import build_branch
from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.data.splits import Split
from aebnas.export.deployed import BlockSession, Chain, DeployedNetwork, Floats
from aebnas.files import digest
from aebnas.prepare import Prepared
from aebnas.progress import Progress
from aebnas.rebuild import deploy, deployed_backbone, rebuild
from aebnas.run_folder import RunFolder
from aebnas.store import load_state
from aebnas.training.features import GIB
from aebnas.training.fit import evaluation_batch
from aebnas.training.kept import LOGITS, AnyArray, KeptArrays, Layout, Write, feature_bytes, one_at_a_time

# onnxruntime runs on this machine's processor, in the precision that is asked for.
_ROWS = evaluation_batch(torch.device("cpu"))


class DeployedLogits:
    """What trained networks answer on validation in other precisions than fp32.

    On a frozen backbone, its features are computed once per precision and a branch's logits once per branch.

    Args:
        budget_gib: Most bytes of features on disk, in GiB, those that branches are trained on among them.
        verify: Compare the checksums of features that are there; a damaged file is made again.
    """

    def __init__(
        self, prepared: Prepared, folder: RunFolder, *, budget_gib: float, progress: Progress, verify: bool = False
    ) -> None:
        self._prepared, self._folder, self._progress, self._verify = prepared, folder, progress, verify
        self._budget = budget_gib * GIB
        self._backbones: dict[str, DeployedFeatures] = {}

    def backbone(self, precision: str) -> Tensor:
        """Return the logits ``(N, classes)`` of the static backbone.

        Raises:
            BackboneError: it cannot be converted.
        """
        return self._frozen(precision).logits

    def network(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> list[Tensor]:
        """Return what :meth:`exits` yields."""
        return list(self.exits(spec, weights))

    def exits(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> Iterator[Tensor]:
        """Yield the logits ``(N, classes)`` of every exit of ``spec``, in its precision.

        Args:
            weights: Where its weights are in the run's stores.

        Raises:
            BackboneError: a part cannot be converted.
        """
        if "network" in weights:
            yield from self._own_backbone(spec, weights)
            return
        frozen = self._frozen(spec.precision)
        for branch, key in zip(spec.branches, weights["branches"], strict=True):
            yield self._branch(frozen, branch, key)
        yield frozen.logits

    def _frozen(self, precision: str) -> DeployedFeatures:
        if precision not in self._backbones:
            name, work = f"backbone-{precision}", f"converts the backbone to {precision}"
            with one_at_a_time(self._folder.features, name, work, self._progress):
                chain = deployed_backbone(self._prepared, precision, self._folder)
                _ = chain.blocks  # converted now, by one process
            self._backbones[precision] = DeployedFeatures(
                chain,
                self._prepared.data.validation,
                [point.shape for point in self._prepared.backbone.attach_points],
                classes=self._prepared.backbone.num_classes,
                folder=self._folder.features,
                budget=self._budget,
                progress=self._progress,
                verify=self._verify,
            )
        return self._backbones[precision]

    def _branch(self, frozen: DeployedFeatures, spec: BranchSpec, key: str) -> Tensor:
        backbone, stored = self._prepared.backbone, self._folder.branches
        border = [point.name for point in backbone.attach_points].index(spec.attach)
        branch = build_branch(spec, backbone.attach_points[border].shape, backbone.num_classes).eval()
        load_state(branch, stored.get(key)["state"], stored.path(key))
        name = digest("logits", frozen.chain.branch_key(branch, border))
        if not self._folder.deployed.has(name):
            session = BlockSession(frozen.chain.branch(branch, border))
            logits = [torch.from_numpy(session.run(batch)) for batch in frozen.batches(border)]
            self._folder.deployed.put(name, {"logits": torch.cat(logits)})
        kept: Tensor = self._folder.deployed.get(name)["logits"]
        return kept

    def _own_backbone(self, spec: NetworkSpec, weights: Mapping[str, Any]) -> list[Tensor]:
        row = {"weights": weights, "exits": [branch.to_json() for branch in spec.branches], "cascade": spec.cascade}
        network = rebuild(row, self._prepared, self._folder)
        made = deploy(network, self._prepared, spec.precision, self._folder)
        return [torch.from_numpy(logits) for logits in all_logits(made, self._prepared.data.validation)]


def all_logits(network: DeployedNetwork, split: Split) -> list[Floats]:
    """Return the logits ``(N, classes)`` of every exit of ``network`` on all of ``split``."""
    segments, branches = network.parts([True] * len(network.branches))
    *before, last = map(BlockSession, segments)
    exits = [BlockSession(branch) for branch in branches]
    found: list[list[Floats]] = [[] for _ in segments]
    for batch in split.batches(_ROWS):
        features = batch.images.numpy()
        for number, (segment, exit_) in enumerate(zip(before, exits, strict=True)):
            features = segment.run(features)
            found[number].append(exit_.run(features))
        found[-1].append(last.run(features))
    return [np.concatenate(parts) for parts in found]


class DeployedFeatures:
    """What a frozen backbone in another precision makes of a split, kept on disk within a budget.

    Features that lie on a grid are kept as the 8 bits that they are, others as float32: what comes back is to the last
    bit what went in. They are kept for as many attach points as fit what other features in the folder leave of the
    budget, the deepest first. All processes of a machine share the files: one writes them, the others wait for it.

    Args:
        shapes: Of one sample at every attach point, which lie between the segments of ``chain``.
        folder: Where files go; they are found again when the same run goes on.
        budget: Most bytes of features in the folder.
        verify: Compare the checksums of what is there; a damaged file is made again.
    """

    def __init__(
        self,
        chain: Chain,
        split: Split,
        shapes: list[tuple[int, ...]],
        *,
        classes: int,
        folder: Path,
        budget: float,
        progress: Progress,
        verify: bool = False,
    ) -> None:
        self.chain = chain
        self._split = split
        name, label = f"{chain.key}-validation", f"{chain.precision} features of the validation split"
        layouts = self._choose(shapes, classes, budget - feature_bytes(folder, but=name))
        kept = KeptArrays(folder, name, layouts, private=[LOGITS])
        self._arrays = kept.make(
            lambda append: self._compute(append, layouts, label, progress),
            label=label,
            progress=progress,
            verify=verify,
        )
        self.logits = torch.from_numpy(self._arrays[LOGITS])

    def batches(self, point: int) -> Iterator[Floats]:
        """Yield the features at attach point number ``point``, in order."""
        stored = self._arrays.get(str(point))
        if stored is None:
            session = BlockSession(self.chain.span(0, point + 1))
            yield from (session.run(batch.images.numpy()) for batch in self._split.batches(_ROWS))
            return
        for start in range(0, len(stored), _ROWS):
            yield self._unpacked(point, stored[start : start + _ROWS])

    def _choose(self, shapes: list[tuple[int, ...]], classes: int, room: float) -> dict[str, Layout]:
        samples, used = len(self._split), 0
        chosen = {LOGITS: Layout(np.dtype(np.float32), (samples, classes))}
        for point, shape in reversed(list(enumerate(shapes))):
            dtype = np.dtype(np.float32 if self.chain.grid(point) is None else np.uint8)
            layout = Layout(dtype, (samples, *shape))
            used += layout.nbytes
            if used > room:
                break
            chosen[str(point)] = layout
        return chosen

    def _compute(self, append: Write, layouts: Mapping[str, Layout], label: str, progress: Progress) -> None:
        sessions = [BlockSession(block) for block in self.chain.blocks]
        with progress.stage(label, len(self._split)) as stage:
            for batch in self._split.batches(_ROWS):
                features = batch.images.numpy()
                for point, session in enumerate(sessions):
                    features = session.run(features)
                    if str(point) in layouts:
                        append(str(point), self._packed(point, features))
                append(LOGITS, features)
                stage.advance(len(batch.labels))

    def _packed(self, point: int, features: Floats) -> AnyArray:
        grid = self.chain.grid(point)
        if grid is None:
            return features
        steps: npt.NDArray[np.uint8] = (np.rint(features / np.float32(grid.scale)) + grid.zero_point).astype(np.uint8)
        return steps

    def _unpacked(self, point: int, stored: AnyArray) -> Floats:
        grid = self.chain.grid(point)
        if grid is None:
            return np.array(stored)
        # In the order in which onnxruntime dequantises.
        steps: Floats = (stored.astype(np.int32) - grid.zero_point).astype(np.float32)
        return steps * np.float32(grid.scale)
