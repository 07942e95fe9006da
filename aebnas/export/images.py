"""The forms in which images may be given, brought to one; no torch in here, for it is used on the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aebnas.errors import InputError


def as_batch(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return ``images`` with channels first, (N, C, H, W), of the dtype they have and without copying them.

    float32 is (N, C, H, W) or one image (C, H, W). uint8 may also be as cameras and image libraries give it:
    (N, H, W, C), one image (H, W, C), or (H, W) for a network of one channel. Where both orders fit, which takes
    C = H = W, channels come first.

    Args:
        images: One image or several.
        shape: (C, H, W), of the network.

    Raises:
        InputError: the dtype or the shape is wrong.
    """
    images, shape = np.asarray(images), tuple(shape)
    if images.dtype not in (np.uint8, np.float32):
        raise InputError(f"images are {images.dtype}: give uint8 (raw) or float32 (already preprocessed)")
    if images.shape == shape:
        return images[None]
    if images.shape[1:] == shape:
        return images
    if images.dtype == np.uint8 and len(shape) == 3:
        channels, height, width = shape
        if images.shape == (height, width) and channels == 1:
            return images[None, None]
        if images.shape == (height, width, channels):
            return images[None].transpose(0, 3, 1, 2)
        if images.shape[1:] == (height, width, channels):
            return images.transpose(0, 3, 1, 2)
    raise InputError(f"images have shape {images.shape}: give {_forms(shape, raw=images.dtype == np.uint8)}")


def _forms(shape: tuple[int, ...], *, raw: bool) -> str:
    first = ", ".join(map(str, shape))
    forms = f"(N, {first}) or one image ({first})"
    if not raw or len(shape) != 3:
        return forms
    last = ", ".join(map(str, (*shape[1:], shape[0])))
    return f"{forms}, or with channels last (N, {last}) or ({last})"
