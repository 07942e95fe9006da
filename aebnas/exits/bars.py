"""A threshold as the float32 numbers that confidences are compared with, wherever a network decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bar = float | tuple[float | None, ...]
"""Threshold of an exit that is on: a number; or one per predicted class, None = that class never leaves there."""


def bars(threshold: float | Sequence[float | None]) -> NDArray[np.float32]:
    """Return the threshold of an exit that is on: float32 (), or (C,) where it has one per predicted class.

    A class without a threshold gets infinity, which no confidence reaches.
    """
    if isinstance(threshold, Sequence):
        return np.array([math.inf if one is None else one for one in threshold], dtype=np.float32)
    return np.array(threshold, dtype=np.float32)


def leaves(
    confidence: NDArray[np.float32], labels: NDArray[np.integer[Any]], threshold: float | Sequence[float | None]
) -> NDArray[np.bool_]:
    """Tell which samples leave (N,), from their confidences (N,) and predicted classes (N,); one that is nan stays."""
    wanted = bars(threshold)
    found: NDArray[np.bool_] = confidence >= (wanted[labels] if wanted.ndim else wanted)
    return found
