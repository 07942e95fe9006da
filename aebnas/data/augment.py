"""Images altered at random, so that a training split says more than its samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aebnas.data.settings import AugmentSettings
from aebnas.data.transforms import transformed
from aebnas.files import digest


@dataclass(frozen=True, eq=False)
class Augment:
    """Random alterations of the images of one split.

    How an image looks depends on the seed and its place in the split, not on batches or on which other images are read.

    Args:
        settings: What may be done to an image.
        count: The number of images of the whole split.
        rows: Which of them a subset has, int64 (N,); None: all.
    """

    settings: AugmentSettings
    count: int
    rows: Tensor | None = None

    def subset(self, indices: Tensor) -> Augment:
        """Return that of the images at ``indices``, int64 (M,)."""
        return Augment(self.settings, self.count, indices if self.rows is None else self.rows[indices])

    def looks(self, seed: int) -> Tensor:
        """Return how every image of the split looks: mirrored (0 or 1), pixels down, pixels right; int64 (N, 3).

        Where torchvision alters images, a fourth column has the seed of each.
        """
        # Not the seed itself, with which others draw the order of the images.
        generator = torch.Generator().manual_seed(int(digest("augment", str(seed)), 16) >> 1)
        mirrored = torch.randint(2, (self.count, 1), generator=generator) * self.settings.flip
        reach = self.settings.shift
        moved = torch.randint(-reach, reach + 1, (self.count, 2), generator=generator)
        columns = [mirrored, moved]
        if self.settings.uses_library:
            columns.append(torch.randint(2**62, (self.count, 1), generator=generator))
        looks = torch.cat(columns, dim=1)
        return looks if self.rows is None else looks[self.rows]

    def alter(self, images: Tensor, looks: Tensor) -> Tensor:
        """Return ``images`` (N, C, H, W) of any dtype as their ``looks`` say; each on its own, in whatever batch."""
        if self.settings.uses_library:
            images = transformed(images, looks[:, 3].tolist(), self.settings)
        return altered(images, looks[:, :3]) if self.settings.flip or self.settings.shift else images


def altered(images: Tensor, looks: Tensor) -> Tensor:
    """Return ``images`` (N, C, H, W) of any dtype, each mirrored and shifted as ``looks`` (N, 3) says.

    What comes in at the border is 0, which is black in stored images.
    """
    count, _, height, width = images.shape
    device = images.device
    mirrored, down, right = looks.to(device, non_blocking=True)[:, :, None].unbind(1)
    rows, columns = torch.arange(height, device=device) - down, torch.arange(width, device=device) - right
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    columns = torch.where(mirrored > 0, width - 1 - columns, columns)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    found = images[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None]]
    return found.masked_fill_(~inside[..., None], 0).permute(0, 3, 1, 2)
