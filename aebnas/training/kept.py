"""Arrays on disk: written in one pass, checked by sum, read without being loaded, shared by all processes."""

from __future__ import annotations

import contextlib
import logging
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from aebnas.claims import holding
from aebnas.errors import RunError
from aebnas.files import atomic_path, read_json, write_json
from aebnas.progress import Progress, Stage

logger = logging.getLogger(__name__)
_CHUNK = 1 << 22
# The part that is no features: what the network says in the end. It is small, and counts in no budget.
LOGITS = "logits"

AnyArray: TypeAlias = npt.NDArray[Any]
Write: TypeAlias = Callable[[str, AnyArray], None]


@dataclass(frozen=True)
class Layout:
    """What one array is: its dtype and its shape."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class KeptArrays:
    """Arrays that are written together and in order, each in one file of ``folder``, ``NAME-PART.DTYPE``.

    ``NAME.json`` is written last, so that it vouches for the others; it holds the CRC-32 of each.

    Args:
        layouts: Of every part.
        private: Parts whose array may be written to; that changes no file. Their size counts as memory.
    """

    def __init__(self, folder: Path, name: str, layouts: Mapping[str, Layout], private: Collection[str] = ()) -> None:
        self._folder, self._name, self._layouts, self._private = folder, name, dict(layouts), frozenset(private)

    def make(
        self, write: Callable[[Write], None], *, label: str, progress: Progress, verify: bool = False
    ) -> dict[str, AnyArray]:
        """Return the arrays, mapped from their files, read-only; they are made if they are not there.

        Of several processes one writes; the others wait until it has, or do it themselves if it died.

        Args:
            write: Gets what appends rows to a part.
            label: What the arrays are, for messages.
            verify: Compare sums; what is damaged is written again.

        Raises:
            RunError: the folder cannot be written. RunFailed: the disk is full.
        """
        while True:
            if verify or not self._is_complete() or self._leftovers():
                with one_at_a_time(self._folder, self._name, f"computes the {label}", progress):
                    self._look_after(write, label, verify)
            # Another process may have found a file damaged since, and taken it away.
            with contextlib.suppress(FileNotFoundError):
                return {part: self._map(part) for part in self._layouts}

    def _look_after(self, write: Callable[[Write], None], label: str, verify: bool) -> None:
        problem = self._problem(verify)
        if problem is not None:
            logger.warning("%s: the %s are computed again", problem, label)
        if problem is not None or not self._is_complete():
            # Before the disk is needed. Whoever still reads what is taken away reads on.
            _remove([self._sums, *self._folder.glob(f"{self._name}-*"), *self._folder.glob(f".{self._name}-*.tmp")])
            self._write(write)
        _remove(self._leftovers())
        written = self._written()
        if written.keys() > self._layouts.keys():
            self._vouch({part: written[part][1] for part in self._layouts})

    def _write(self, write: Callable[[Write], None]) -> None:
        sums = dict.fromkeys(self._layouts, 0)
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {
                part: stack.enter_context(stack.enter_context(atomic_path(self._file(part))).open("wb"))
                for part in self._layouts
            }

            def append(part: str, rows: AnyArray) -> None:
                content = np.ascontiguousarray(rows, self._layouts[part].dtype).data.cast("B")
                sums[part] = zlib.crc32(content, sums[part])
                files[part].write(content)

            write(append)
        self._vouch(sums)

    def _vouch(self, sums: Mapping[str, int]) -> None:
        about = {
            part: {"dtype": layout.dtype.name, "shape": list(layout.shape), "crc32": sums[part]}
            for part, layout in self._layouts.items()
        }
        write_json(self._sums, about)

    def _written(self) -> dict[str, tuple[Layout, int]]:
        """Return layout and sum of what was written; nothing if nothing was."""
        if not self._sums.exists():
            return {}
        with contextlib.suppress(RunError, AttributeError, KeyError, TypeError):
            return {
                part: (Layout(np.dtype(about["dtype"]), tuple(about["shape"])), int(about["crc32"]))
                for part, about in read_json(self._sums).items()
            }
        return {}

    def _is_complete(self) -> bool:
        written = self._written()
        return all(
            part in written and written[part][0] == layout and self._size(part) == layout.nbytes
            for part, layout in self._layouts.items()
        )

    def _problem(self, verify: bool) -> str | None:
        """Return what is wrong with a file that was whole once, if anything is."""
        for part, (layout, sum_) in self._written().items():
            if layout != self._layouts.get(part):
                continue  # that of another budget or dtype, which is nobody's fault
            if self._size(part) != layout.nbytes or (verify and sum_ != _sum_of(self._file(part))):
                return f"{self._file(part)} is damaged"
        return None

    def _leftovers(self) -> list[Path]:
        """Return files of this name that are none of the parts: of a larger budget, another dtype, an older run."""
        wanted = {self._file(part) for part in self._layouts}
        return [path for path in self._folder.glob(f"{self._name}-*") if path not in wanted]

    def _size(self, part: str) -> int | None:
        path = self._file(part)
        return path.stat().st_size if path.exists() else None

    def _map(self, part: str) -> AnyArray:
        layout = self._layouts[part]
        return np.memmap(self._file(part), layout.dtype, "c" if part in self._private else "r", shape=layout.shape)

    def _file(self, part: str) -> Path:
        dtype = self._layouts[part].dtype
        return self._folder / f"{self._name}-{part}.{dtype.kind}{8 * dtype.itemsize}"

    @property
    def _sums(self) -> Path:
        return self._folder / f"{self._name}.json"


@contextlib.contextmanager
def one_at_a_time(folder: Path, name: str, work: str, progress: Progress) -> Iterator[None]:
    """Do ``work`` for the length of the block; wait, and say so, while another process is at it.

    Args:
        name: Of the claim in ``folder``.
        work: What is done, after "another process".
    """
    with contextlib.ExitStack() as stack:
        stages: list[Stage] = []

        def waiting() -> None:
            if not stages:
                progress.say(f"another process {work}: waiting for it")
                stages.append(stack.enter_context(progress.stage("waiting", 1)))
            # Who waits is not to keep from its turn whoever wants this machine for itself.
            stages[0].advance(0)

        with holding(folder, name, waiting):
            stack.close()
            yield


def feature_bytes(folder: Path, *, but: str) -> int:
    """Return the bytes of all features in ``folder`` except those of the name ``but``."""
    total = 0
    for path in folder.glob("[!.]*-*.[fu]*"):
        if path.stem.rpartition("-")[2].isdigit() and not path.name.startswith(f"{but}-"):
            with contextlib.suppress(FileNotFoundError):  # another process has just freed the disk
                total += path.stat().st_size
    return total


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sum_of(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total = zlib.crc32(chunk, total)
    return total
