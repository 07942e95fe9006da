"""One look at every image of a data set, remembered from one command to the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aebnas.data.decoding import OR_SKIP
from aebnas.data.memory import remember, remembered
from aebnas.data.names import Names
from aebnas.data.pictures import DIGEST_BYTES, NO_LABEL, Look, Pictures
from aebnas.data.reading import fetch
from aebnas.errors import DataError
from aebnas.progress import Progress

logger = logging.getLogger(__name__)
_CHUNK = 64
# From so many images on, progress is shown.
_SHOWN = 2000
# A file that was changed this shortly before it was looked at may have been changed again at the same time stamp.
_RACE_NS = 2_000_000_000
_MOST_DAMAGED = 0.1
_HEADER, _WHOLE = 1, 2


@dataclass(frozen=True)
class Index:
    """What a look at each of N images found.

    Attributes:
        sizes: Height and width, int32 (N, 2).
        digests: Of each image, uint8 (N, 16).
        labels: int64 (N,); -1 where images do not bring their own.
        problems: What is wrong with those that cannot be read, by position.
    """

    sizes: NDArray[np.int32]
    digests: NDArray[np.uint8]
    labels: NDArray[np.int64]
    problems: dict[int, str]


def index_pictures(pictures: Pictures, *, whole: bool, workers: int, progress: Progress) -> Index:
    """Look at every image that is not known from before.

    Known is a file whose path, size and time of change are the same; a digest of its content is kept, so that the
    same images are the same data on any machine. Those that cannot be read are looked at again every time.

    Args:
        whole: Decode all of each, so that any damage shows; else headers are read.
    """
    names, stamps = pictures.stamps()
    found = _Table.empty(len(names))
    _take_known(found, remembered(pictures.key()), names, stamps)
    depth = _WHOLE if whole else _HEADER
    missing = np.flatnonzero(found.depth < depth)
    if not len(missing):
        return found.index()
    now = time.time_ns()
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    shown = progress if len(missing) >= _SHOWN else Progress()
    with shown.stage(f"looking at the images of {pictures.source}", len(missing)) as stage:
        for chunk, looks in zip(chunks, fetch(_Looks(pictures, whole), chunks, workers), strict=True):
            found.fill(chunk, looks, depth)
            stage.advance(len(chunk))
    remember(pictures.key(), found.arrays(names, stamps, now))
    return found.index()


def readable(pictures: Sequence[Pictures], found: Sequence[Index], *, skip: bool) -> list[NDArray[np.int64]]:
    """Return the positions of the images of each part that can be read.

    Args:
        skip: Leave those that cannot out, if they are few.

    Raises:
        DataError: there is one and it is not to be left out, or more than a tenth is damaged; the first is named.
    """
    total, damaged = sum(map(len, pictures)), sum(len(one.problems) for one in found)
    if damaged:
        first = next(one.problems[min(one.problems)] for one in found if one.problems)
        if not skip:
            raise DataError(first if damaged == 1 else f"{first} ({damaged} of {total} images are damaged)")
        first = first.removesuffix(OR_SKIP)
        if damaged > _MOST_DAMAGED * total:
            raise DataError(
                f"{damaged} of {total} images cannot be read, more than the tenth that data.corrupt: skip leaves out; "
                f"the first: {first}"
            )
        logger.warning("%d of %d images cannot be read and are left out; the first: %s", damaged, total, first)
    return [np.setdiff1d(np.arange(len(one.labels)), [*one.problems]) for one in found]


@dataclass
class _Looks:
    pictures: Pictures
    whole: bool

    def __call__(self, positions: NDArray[np.int64]) -> list[Look | str]:
        return [self._look(int(position)) for position in positions]

    def _look(self, position: int) -> Look | str:
        try:
            return self.pictures.look(position, whole=self.whole)
        except DataError as error:
            return str(error)


@dataclass
class _Table:
    """What is known of each image; ``depth`` 0 is nothing, 1 its header, 2 all of it."""

    depth: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    digests: NDArray[np.uint8]
    labels: NDArray[np.int64]
    problems: dict[int, str]

    @classmethod
    def empty(cls, count: int) -> _Table:
        return cls(
            np.zeros(count, np.uint8),
            np.zeros((count, 2), np.int32),
            np.zeros((count, DIGEST_BYTES), np.uint8),
            np.full(count, NO_LABEL, np.int64),
            {},
        )

    def fill(self, positions: NDArray[np.int64], looks: Iterable[Look | str], depth: int) -> None:
        for position, look in zip(positions.tolist(), looks, strict=True):
            self.depth[position] = depth
            if isinstance(look, str):
                self.problems[position] = look
                continue
            self.sizes[position], self.labels[position] = look.size, look.label
            self.digests[position] = np.frombuffer(look.digest, np.uint8)

    def arrays(self, names: Names, stamps: NDArray[np.int64], now: int) -> dict[str, NDArray[np.generic]]:
        depth = self.depth.copy()
        depth[stamps[:, 1] > now - _RACE_NS] = 0
        # What stood in the way may go without a change of the file: a missing permission, a disk that is away.
        depth[[*self.problems]] = 0
        return {
            "names": np.frombuffer(names.letters, np.uint8),
            "ends": names.ends,
            "stamps": stamps,
            "depth": depth,
            "sizes": self.sizes,
            "digests": self.digests,
            "labels": self.labels,
        }

    def index(self) -> Index:
        return Index(self.sizes, self.digests, self.labels, self.problems)


def _take_known(
    table: _Table, kept: dict[str, NDArray[np.generic]] | None, names: Names, stamps: NDArray[np.int64]
) -> None:
    """Fill ``table`` with what was remembered of the same images."""
    if kept is None:
        return
    earlier = Names(kept["names"].tobytes(), kept["ends"])  # type: ignore[arg-type]
    rows = np.arange(len(names))
    if earlier != names:
        places = {name: row for row, name in enumerate(earlier)}
        rows = np.array([places.get(name, -1) for name in names], dtype=np.int64)
    same = rows >= 0
    same[same] = (kept["stamps"][rows[same]] == stamps[same]).all(axis=1)
    here, there = np.flatnonzero(same), rows[same]
    for name in ("depth", "sizes", "digests", "labels"):
        getattr(table, name)[here] = kept[name][there]
