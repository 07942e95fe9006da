"""Memory that a process has freed already, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def release() -> None:
    """Give back what glibc keeps of freed memory: all below whatever is still used; elsewhere, do nothing."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
