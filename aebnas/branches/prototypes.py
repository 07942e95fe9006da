"""Pooling that asks how much each position of a map looks like each of a few learned prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# A position without any activation has no direction; dividing by less would make its gradient huge.
SHORTEST = 1e-3


class PrototypePooling(nn.Module):
    """Cosines with learned prototypes, pooled over positions, beside the averaged features.

    CalexNet's head "augmented prototype pooling" (arXiv 2509.08318), our variant: maps (N, C, H, W) are projected to
    ``width`` channels; the cosine of every position with each of ``prototypes`` vectors is taken; its maximum and mean
    over positions, and the average of the map itself, are the 2 * prototypes + C values handed on.

    Args:
        channels: C.
        width: Channels that positions and prototypes are compared in.
        prototypes: How many there are.
    """

    def __init__(self, channels: int, width: int, prototypes: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)
        self.prototypes = nn.Conv2d(width, prototypes, 1, bias=False)
        self.most, self.mean = nn.AdaptiveMaxPool2d(1), nn.AdaptiveAvgPool2d(1)
        self.features = 2 * prototypes + channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled values (N, features)."""
        cosines = self.cosines(x)
        return torch.cat([self.most(cosines), self.mean(cosines), self.mean(x)], dim=1).flatten(1)

    def cosines(self, x: Tensor) -> Tensor:
        """Return the cosine of every position with every prototype, (N, prototypes, H, W)."""
        projected: Tensor = self.project(x)
        # Not F.normalize, which ONNX can only say with the shapes of both.
        products: Tensor = self.prototypes(projected / projected.norm(dim=1, keepdim=True).clamp(min=SHORTEST))
        # One length per prototype: dividing after the convolution keeps that a plain one, which everybody can count.
        lengths: Tensor = self.prototypes.weight.flatten(1).norm(dim=1)
        return products / lengths[:, None, None]
