"""What a pretrained backbone wants to see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelInput:
    """How images were prepared for a backbone when it was trained; what they are prepared for here, to fit it.

    Attributes:
        size: Height and width in pixels.
        mean: Per channel, of pixels scaled to 0..1.
        std: Per channel, of the same.
        interpolation: How images are resized: nearest, bilinear, bicubic or lanczos.
        crop: Side of the central square that is kept, as a share of the resized image's shorter side; 1 keeps all.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop: float = 1.0
