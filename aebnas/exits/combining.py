"""One threshold per exit: every combination of grid values where that can be had, a descent where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.answers import Answers
from aebnas.exits.candidates import Candidates, Ints, Keep, Scored
from aebnas.exits.costs import ExitCosts, Mask
from aebnas.exits.descent import CoordinateDescent
from aebnas.exits.grids import Grid, checked_grids, quantile_grid, rank
from aebnas.exits.histogram import JointHistogram
from aebnas.exits.policy import NEVER, Thresholds

# A line search costs one pass over the samples however many values it tries, so it can afford many.
_LINE_VALUES = 512
# Where every mask is a search of its own, these bound the time of networks with many branches.
MAX_MASKS = 256
MAX_DESCENTS = 16


@dataclass(frozen=True)
class Scene:
    """What exits say, and under which masks they say it.

    Attributes:
        confidences: Of the branches, (K, N); nan where a branch is off.
        correct: Whether each exit is right, (K+1, N).
        mask: The one mask for which this holds, None = all.
        weights: What each sample counts where it is right, whole numbers (N,); None: 1.
    """

    confidences: NDArray[np.floating[Any]]
    correct: NDArray[np.bool_]
    mask: Mask | None = None
    weights: Ints | None = None


@dataclass(frozen=True)
class Combining:
    """How combinations of thresholds are searched.

    Args:
        grid: Thresholds per branch.
        grids: Explicit thresholds per branch instead.
        max_cells: Limit of a joint histogram; beyond, coordinate descent with more thresholds per branch.
    """

    grid: int
    grids: Sequence[NDArray[Any]] | None
    max_cells: int

    def search(self, scene: Scene, costs: ExitCosts, keep: Keep) -> Iterator[Scored]:
        """Yield what ``keep`` keeps of the combinations of one scene."""
        values = self._values(scene, self.grid)
        yield from _join(scene, values, costs, keep) if self._fits(values) else self._descend(scene, costs, keep)

    def search_closely(self, scene: Scene, costs: ExitCosts, keep: Keep) -> Iterator[Scored]:
        """Yield what ``search`` does, and what a descent with more thresholds per branch finds between these.

        For one best point that is worth its time, about ten times that of a histogram; explicit grids are kept to.
        """
        yield from self.search(scene, costs, keep)
        if self.grids is None and self._fits(self._values(scene, self.grid)):
            yield from self._descend(scene, costs, keep)

    def search_answers(self, answers: Answers, costs: ExitCosts, keep: Keep) -> Iterator[Scored]:
        """Yield what ``keep`` keeps of the combinations of all masks that are possible.

        Exits that say the same whoever is on, and may all be off, share one search over all masks. Otherwise every
        mask is a search of its own, in which no branch can be switched off, but one that is on may let nobody leave:
        those behind it hear it all the same. There, at most 256 masks are looked at, and of those that are too large
        for a histogram at most 16: evenly by the number of branches that are on, none and all always among them.
        """
        if not (answers.depends or answers.prefixes):
            confidences, labels = answers.whole((True,) * answers.branches)
            scene = Scene(confidences, labels == answers.truth, weights=answers.weights)
            yield from self.search(scene, costs, keep)
            return
        large: list[Mask] = []
        for mask in evenly(answers.masks(), MAX_MASKS):
            scene = _scene_of(answers, mask)
            values = self._values(scene, self.grid)
            if self._fits(values):
                yield from _join(scene, values, costs, keep)
            else:
                large.append(mask)
        for mask in evenly(large, MAX_DESCENTS):
            yield from self._descend(_scene_of(answers, mask), costs, keep)

    def _descend(self, scene: Scene, costs: ExitCosts, keep: Keep) -> Iterator[Scored]:
        values = self._values(scene, max(self.grid, _LINE_VALUES))
        yield from _found(CoordinateDescent(*_ranked(scene, values)).search(costs, keep, scene.mask), values)

    def _values(self, scene: Scene, size: int) -> list[Grid]:
        if self.grids is not None:
            return checked_grids(self.grids, len(scene.confidences))
        values = [quantile_grid(one, size) for one in scene.confidences]
        if scene.mask is None:
            return values
        # So a branch that is never sure has a threshold too, and is not taken for one that is off.
        return [np.append(one, np.float32(NEVER)) if on else one for one, on in zip(values, scene.mask, strict=True)]

    def _fits(self, values: Sequence[Grid]) -> bool:
        return float(np.prod([len(one) + 1.0 for one in values])) <= self.max_cells


def evenly(masks: Sequence[Mask], most: int) -> list[Mask]:
    """Return at most ``most`` of ``masks``, evenly by position, the first and the last among them."""
    if len(masks) <= most:
        return list(masks)
    return [masks[place] for place in np.linspace(0, len(masks) - 1, most).round().astype(int)]


def _scene_of(answers: Answers, mask: Mask) -> Scene:
    confidences, labels = answers.whole(mask)
    return Scene(confidences, labels == answers.truth, mask, answers.weights)


def _join(scene: Scene, values: Sequence[Grid], costs: ExitCosts, keep: Keep) -> Iterator[Scored]:
    yield from _found(JointHistogram(*_ranked(scene, values)).search(costs, keep, scene.mask), values)


def _ranked(scene: Scene, values: Sequence[Grid]) -> tuple[Ints, list[int], NDArray[np.bool_], Ints | None]:
    ranks = np.empty(scene.confidences.shape, dtype=np.int64)
    for branch, one in enumerate(values):
        ranks[branch] = rank(scene.confidences[branch], one)
    return ranks, [len(one) for one in values], np.asarray(scene.correct, dtype=np.bool_), scene.weights


def _found(parts: Iterator[Candidates], values: Sequence[Grid]) -> Iterator[Scored]:
    def thresholds(choice: Ints) -> Thresholds:
        return tuple(
            float(grid[index]) if index < len(grid) else None for index, grid in zip(choice, values, strict=True)
        )

    for part in parts:
        yield Scored(part, thresholds)
