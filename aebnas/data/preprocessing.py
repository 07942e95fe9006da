"""The map from stored pixels to what a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 1024
# Of pixels that are float64 at a time.
_CHUNK_PIXELS = 1 << 23
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Preprocessing:
    """Per channel, ``x_model = (x_raw * scale - mean) / std``.

    Attributes:
        scale: Factor from stored to natural units, 1/255 for 8-bit images.
        mean: Mean of the scaled pixels of each channel.
        std: Standard deviation of the scaled pixels of each channel, never 0.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """Return ``images`` (N, C, H, W), of any dtype, as new float32 model inputs of the same shape."""
        # Made where images are, they would be waited for in every batch.
        channels = torch.tensor([self.mean, self.std], dtype=torch.float32)[..., None, None]
        mean, std = channels.to(images.device, non_blocking=True)
        found = images.to(torch.float32).mul(self.scale).sub_(mean).div_(std)
        count, depth, height, width = found.shape
        if depth > 1 or not found.is_contiguous():
            return found
        # One channel comes first and last at once, and by its strides a convolution chooses how to compute, with other
        # last bits; said to be last, it is the same whichever way the images and the weights came.
        return found.as_strided((count, 1, height, width), (height * width, 1, width, 1))

    def to_json(self) -> dict[str, Any]:
        """Return the values as a dictionary that JSON can hold."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}


def identity(channels: int) -> Preprocessing:
    """Return the preprocessing that changes nothing but the dtype."""
    return Preprocessing(scale=1.0, mean=(0.0,) * channels, std=(1.0,) * channels)


def image_moments(images: NDArray[Any]) -> NDArray[np.float64]:
    """Return mean and variance of each image's channels, (N, C, 2), for ``images`` (N, C, H, W)."""
    moments = np.empty((*images.shape[:2], 2))
    # Chunks, because a float64 copy of all images can be eight times their size.
    step = max(1, min(_CHUNK, _CHUNK_PIXELS // max(1, math.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        chunk = images[start : start + step].astype(np.float64)
        moments[start : start + step, :, 0] = chunk.mean(axis=(2, 3))
        moments[start : start + step, :, 1] = chunk.var(axis=(2, 3))
    return moments


def standardise(moments: NDArray[np.float64], scale: float) -> Preprocessing:
    """Return the preprocessing that gives the images behind ``moments`` (N, C, 2) mean 0 and deviation 1 per channel.

    Images are of one size, so the variance over all pixels is the mean variance within images plus the
    variance between their means. A constant channel is shifted to 0 and not stretched.
    """
    means, variances = moments[..., 0], moments[..., 1]
    mean = means.mean(axis=0)
    std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    std = np.where(std > _CONSTANT * np.abs(mean), std * scale, 1.0)
    return Preprocessing(scale=scale, mean=tuple((mean * scale).tolist()), std=tuple(std.tolist()))
