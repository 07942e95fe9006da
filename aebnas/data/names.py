"""Many names in little memory: those of a million files would take ten times their letters as Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


class Names:
    """A sequence of strings in one piece of memory, which forked processes share.

    Args:
        letters: The names in UTF-8, one after the other.
        ends: Where each ends, int64 (N,).
    """

    def __init__(self, letters: bytes, ends: NDArray[np.int64]) -> None:
        self.letters, self.ends = letters, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Return the sequence of ``names``."""
        # File names may hold bytes that are no text.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        return cls(b"".join(encoded), np.cumsum([len(name) for name in encoded], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, position: int) -> str:
        start = int(self.ends[position - 1]) if position else 0
        return self.letters[start : int(self.ends[position])].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names) and self.letters == other.letters and np.array_equal(self.ends, other.ends)

    __hash__ = None  # type: ignore[assignment]
