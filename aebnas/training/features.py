"""Features of the frozen backbone, computed once and kept on disk within a budget."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from aebnas.backbones.cut import SegmentedBackbone
from aebnas.data.splits import Batch, DataBundle, Split, batch_indices
from aebnas.errors import RunError
from aebnas.files import atomic_path, canonical_json, digest, write_atomic
from aebnas.progress import Progress
from aebnas.training.fit import EVALUATION_BATCH, to_device

SplitName = Literal["train", "validation"]
SPLITS: tuple[SplitName, ...] = ("train", "validation")
GIB = 1 << 30


class CachedSplit(Split):
    """A split whose images are the stored features at one attach point, fp16 on disk, float32 in batches."""

    def __init__(self, features: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        self._features, self._all_labels = features, labels
        self._rows = torch.arange(len(labels)) if rows is None else rows
        self.labels = labels[self._rows]

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        for places in batch_indices(len(self._rows), batch_size, seed):
            rows = self._rows[places]
            yield Batch(places, self._features[rows].float(), self._all_labels[rows])

    def subset(self, indices: Tensor) -> Split:
        return CachedSplit(self._features, self._all_labels, self._rows[indices])


class ComputedSplit(Split):
    """A split whose images are the features at one attach point, computed anew for every batch."""

    def __init__(self, prefix: nn.Module, images: Split, device: torch.device) -> None:
        self.labels = images.labels
        self._prefix, self._images, self._device = prefix, images, device

    def batches(self, batch_size: int, *, seed: int | None = None) -> Iterator[Batch]:
        for batch in self._images.batches(batch_size, seed=seed):
            with torch.no_grad():
                features = self._prefix(to_device(batch.images, self._device))
            # Outside of no_grad, which would otherwise hold for whoever takes the batch, too.
            yield Batch(batch.index, features, batch.labels)

    def subset(self, indices: Tensor) -> Split:
        return ComputedSplit(self._prefix, self._images.subset(indices), self._device)


class FeatureStore:
    """What a frozen backbone makes of the training and validation splits.

    Features are kept for as many attach points as fit the budget, the deepest first: those are the smallest, and
    cost the most to compute again. The others are computed batch by batch when they are asked for.

    Args:
        backbone: In evaluation mode, on ``device``.
        folder: Where files go; they are found again when the same run goes on.
        key: Fingerprint of backbone and data; files of another key are not used.
        budget_gib: Most bytes on disk, in GiB.
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
    ) -> None:
        self._backbone, self._device, self._folder = backbone, device, folder
        self._sources: dict[SplitName, Split] = {"train": data.train, "validation": data.validation}
        self._shapes = [point.shape for point in backbone.attach_points]
        self._key = digest(key, canonical_json([point.name for point in backbone.attach_points]))
        self.cached_points = self._choose(budget_gib)
        self._logits: dict[SplitName, Tensor] = {}
        for name in SPLITS:
            self._logits[name] = self._read_logits(name) if self._complete(name) else self._build(name, progress)

    def split(self, name: SplitName, point: int) -> Split:
        """Return the features at attach point number ``point`` as a split."""
        source = self._sources[name]
        if point not in self.cached_points:
            return ComputedSplit(self._backbone.span(0, point + 1), source, self._device)
        shape = (len(source), *self._shapes[point])
        stored = np.memmap(self._file(name, point), np.float16, mode="r+", shape=shape)
        return CachedSplit(torch.from_numpy(stored), source.labels)

    def logits(self, name: SplitName) -> Tensor:
        """Return the backbone's own logits ``(N, classes)`` float32."""
        return self._logits[name]

    def _choose(self, budget_gib: float) -> frozenset[int]:
        samples, used, chosen = sum(map(len, self._sources.values())), 0, []
        for point in reversed(range(len(self._shapes))):
            used += 2 * samples * math.prod(self._shapes[point])
            if used > budget_gib * GIB:
                break
            chosen.append(point)
        return frozenset(chosen)

    def _file(self, name: SplitName, point: int) -> Path:
        return self._folder / f"{self._key}-{name}-{point}.f16"

    def _logits_file(self, name: SplitName) -> Path:
        return self._folder / f"{self._key}-{name}-logits.npy"

    def _complete(self, name: SplitName) -> bool:
        # The logits are written last, so their presence vouches for the features.
        samples = len(self._sources[name])
        sizes = {self._file(name, p): 2 * samples * math.prod(self._shapes[p]) for p in self.cached_points}
        whole = all(path.exists() and path.stat().st_size == size for path, size in sizes.items())
        return whole and self._logits_file(name).exists()

    def _read_logits(self, name: SplitName) -> Tensor:
        path = self._logits_file(name)
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}): delete it and run the same command again") from error

    @torch.no_grad()
    def _build(self, name: SplitName, progress: Progress) -> Tensor:
        source, logits = self._sources[name], []
        with contextlib.ExitStack() as stack, progress.stage(f"features of the {name} split", len(source)) as stage:
            files = {
                point: stack.enter_context(stack.enter_context(atomic_path(self._file(name, point))).open("wb"))
                for point in sorted(self.cached_points)
            }
            for batch in source.batches(EVALUATION_BATCH):
                *features, final = self._backbone.features(to_device(batch.images, self._device))
                logits.append(final.float().cpu())
                for point, file in files.items():
                    # fp16 ends at 65504: clamp, so that a large activation does not become infinite.
                    small = features[point].clamp(-65504, 65504).half().cpu().contiguous()
                    file.write(small.numpy().tobytes())
                stage.advance(len(batch.labels))
        result = torch.cat(logits)
        write_atomic(self._logits_file(name), lambda file: np.save(file, result.numpy()))
        return result
