"""Small images as PNG in a text, for pages that hold everything they show."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# The longer side of an image on the page, in its own pixels.
THUMBNAIL = 56


def thumbnails(raw: Tensor, scale: float) -> NDArray[np.uint8]:
    """Return stored images (N, C, H, W) as uint8 (N, h, w, 1 or 3), made smaller where they are larger than thumbnails.

    Args:
        scale: From stored values to natural ones; where those do not lie in [0, 1], darkest to lightest is shown.
    """
    images = raw.to(torch.float32) * scale
    # Of other numbers of channels the first is shown.
    images = images if images.shape[1] == 3 else images[:, :1]
    factor = THUMBNAIL / max(images.shape[2:])
    if factor < 1:
        size = [max(1, round(side * factor)) for side in images.shape[2:]]
        images = functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    low, high = float(images.min()), float(images.max())
    if low < -1e-3 or high > 1 + 1e-3:
        images = (images - low) / max(high - low, 1e-12)
    found: NDArray[np.uint8] = images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found


def png_uri(image: NDArray[np.uint8]) -> str:
    """Return ``image`` (H, W, 1 or 3) as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(_png(image)).decode("ascii")


def _png(image: NDArray[np.uint8]) -> bytes:
    height, width, channels = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    # Every row is told as its difference from the one above it (filter type 2), which packs photographs better.
    rows = image.reshape(height, -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, dtype=np.uint8), rows - above])
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
