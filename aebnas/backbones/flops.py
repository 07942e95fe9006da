"""Counting the operations that a model executes, attention included."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextlib.contextmanager
def counting_flops() -> Iterator[FlopCounterMode]:
    """Count the operations of all matrix products and convolutions inside the block: 2 per multiply-accumulate.

    PyTorch's counter does not know the fused kernels that attention takes in eval mode, so they are switched off.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
