"""Features of the frozen backbone, computed once and kept on disk within a budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.data.splits import DataBundle, ImageSplit, Split
from aebnas.files import canonical_json, digest
from aebnas.progress import Progress
from aebnas.training.fit import evaluation_batch, to_device
from aebnas.training.kept import LOGITS, AnyArray, KeptArrays, Layout, Write
from aebnas.training.passes import BackbonePass, CachedSplit, ComputedSplit, ManyBatch, Together, batch_limit
from aebnas.training.resident import resident, room

__all__ = ["GIB", "FeatureStore", "ManyBatch", "Together"]

SplitName = Literal["train", "validation"]
AnySplit = TypeVar("AnySplit", bound=Split)
CacheType = Literal["fp16", "fp32"]
SPLITS: tuple[SplitName, ...] = ("train", "validation")
GIB = 1 << 30
_DTYPES: dict[CacheType, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}


class FeatureStore:
    """What a frozen backbone makes of the training and validation splits.

    Features are kept for as many attach points as fit the budget, the deepest first: those are the smallest, and
    cost the most to compute again. The others are computed batch by batch when they are asked for. All processes of a
    machine share the files: one writes them, the others wait for it.

    Args:
        backbone: In evaluation mode, on the CPU, where it stays.
        folder: Where files go; they are found again when the same run goes on.
        key: Fingerprint of backbone and data; files of another key are not used.
        budget_gib: Most bytes of features on disk, in GiB.
        dtype: What they are kept in; batches are float32 anyway.
        copies: Of the training features. The first is of the plain images, the others of images that the split alters,
            each otherwise; an epoch of seed s is over copy s modulo ``copies``.
        verify: Compare the checksums of what is there; a damaged file is made again.

    Raises:
        RunError: the folder cannot be written. RunFailed: the disk is full.
    """

    def __init__(
        self,
        backbone: SegmentedBackbone,
        data: DataBundle,
        *,
        folder: Path,
        key: str,
        budget_gib: float,
        device: torch.device,
        progress: Progress,
        dtype: CacheType = "fp16",
        copies: int = 1,
        verify: bool = False,
    ) -> None:
        # On another device a copy: whoever measures or exports parts of the backbone has them as they were.
        self._backbone = backbone if device.type == "cpu" else deepcopy(backbone).to(device)
        self._device, self._dtype = device, _DTYPES[dtype]
        self._sources: dict[SplitName, ImageSplit] = {"train": data.train, "validation": data.validation}
        self._copies: dict[SplitName, int] = {"train": copies, "validation": 1}
        self._shapes = [point.shape for point in backbone.attach_points]
        self._limit = batch_limit(self._shapes, device)
        self.cached_points = self._choose(budget_gib)
        self._room = room(device)
        self._near: dict[tuple[SplitName, int], CachedSplit] = {}
        self._near_images: dict[SplitName, ImageSplit] = {}
        self._arrays: dict[SplitName, dict[str, AnyArray]] = {}
        self._logits: dict[SplitName, Tensor] = {}
        name = digest(key, canonical_json([point.name for point in backbone.attach_points]))
        for split in SPLITS:
            kept = KeptArrays(folder, f"{name}-{split}", self._layouts(split), private=[LOGITS])
            label = f"features of the {split} split"

            def write(append: Write, split: SplitName = split, label: str = label) -> None:
                self._compute(split, append, label, progress)

            self._arrays[split] = kept.make(write, label=label, progress=progress, verify=verify)
            self._logits[split] = _tensor(self._arrays[split][LOGITS])

    def split(self, name: SplitName, point: int, *, plain: bool = False) -> Split:
        """Return the features at attach point number ``point`` as a split.

        Args:
            plain: Of the plain images in every epoch, so that the index is a place in the split.
        """
        if point not in self.cached_points:
            return ComputedSplit(self._pass(name, [point], copies=1 if plain else self._copies[name]), point)
        kept = self._kept(name, point)
        return kept.plain() if plain else kept

    def together(self, name: SplitName, points: Sequence[int]) -> Together:
        """Return the features at several attach points at once, over one backbone pass per batch for those not kept."""
        computed = [point for point in points if point not in self.cached_points]
        cached = {point: self._kept(name, point) for point in points if point in self.cached_points}
        return Together(cached, self._pass(name, computed, self._copies[name]) if computed else None)

    def labels(self, name: SplitName) -> Tensor:
        """Return the labels of a split, int64 (N,)."""
        return self._sources[name].labels

    def logits(self, name: SplitName) -> Tensor:
        """Return the backbone's own logits of the plain images, ``(N, classes)`` float32."""
        return self._logits[name][: len(self._sources[name])]

    def teacher(self, samples: Tensor | None = None) -> Tensor:
        """Return the backbone's logits that the index of a training batch points to: ``(copies * N, classes)`` float32.

        Args:
            samples: The rows, int64 (N,), of the subset whose batches are meant; None: the whole split's.
        """
        if samples is None:
            return self._logits["train"]
        total = len(self._sources["train"])
        return self._logits["train"][torch.cat([samples + copy * total for copy in range(self._copies["train"])])]

    def _choose(self, budget_gib: float) -> frozenset[int]:
        samples = sum(len(self._sources[name]) * self._copies[name] for name in SPLITS)
        used, chosen = 0, []
        for point in reversed(range(len(self._shapes))):
            used += self._dtype.itemsize * samples * math.prod(self._shapes[point])
            if used > budget_gib * GIB:
                break
            chosen.append(point)
        return frozenset(chosen)

    def _layouts(self, name: SplitName) -> dict[str, Layout]:
        rows = len(self._sources[name]) * self._copies[name]
        features = {
            str(point): Layout(self._dtype, (rows, *self._shapes[point])) for point in sorted(self.cached_points)
        }
        return {**features, LOGITS: Layout(np.dtype(np.float32), (rows, self._backbone.num_classes))}

    @torch.no_grad()
    def _compute(self, name: SplitName, append: Write, label: str, progress: Progress) -> None:
        source, copies = self._sources[name], self._copies[name]
        half = self._dtype == np.float16
        rows = min(evaluation_batch(self._device), self._limit)
        with progress.stage(label, len(source) * copies) as stage:
            for copy in range(copies):
                for batch in source.read(rows, order=None, look=copy or None):
                    *features, final = self._backbone.features(to_device(batch.images, self._device))
                    append(LOGITS, final.float().cpu().numpy())
                    for point in self.cached_points:
                        # fp16 ends at 65504: clamp, so that a large activation does not become infinite.
                        kept = features[point].clamp(-65504, 65504).half() if half else features[point].float()
                        append(str(point), kept.cpu().numpy())
                    stage.advance(len(batch.labels))

    def _kept(self, name: SplitName, point: int) -> CachedSplit:
        if (name, point) not in self._near:
            features = _tensor(self._arrays[name][str(point)])
            self._near[name, point] = self._bring(CachedSplit(features, self._sources[name].labels))
        return self._near[name, point]

    def _pass(self, name: SplitName, points: Sequence[int], copies: int) -> BackbonePass:
        if name not in self._near_images:
            self._near_images[name] = self._bring(self._sources[name])
        return BackbonePass(
            list(self._backbone.segments),
            points,
            self._near_images[name],
            self._device,
            copies=copies,
            # The same whichever points are read, for results could hang on it in the last bits.
            limit=self._limit,
        )

    def _bring(self, split: AnySplit) -> AnySplit:
        """Return ``split`` on an accelerator while there is room, which all splits of this store share."""
        near = resident(split, self._device, limit=self._room) if self._device.type == "cuda" else split
        if near is not split:
            self._room -= split.footprint() or 0
        return near


def _tensor(array: AnyArray) -> Tensor:
    """Return a tensor over a mapped file; it is not to be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)
