"""One threshold per exit and predicted class: a margin of precision that sweeps the curve (CalexNet, 2509.08318)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import right_weight
from aebnas.exits.answers import Answers
from aebnas.exits.candidates import Candidates, Ints, Keep, Scored
from aebnas.exits.class_precision import ClassRanking, Floats, class_precisions
from aebnas.exits.combining import evenly
from aebnas.exits.costs import ExitCosts, Mask
from aebnas.exits.grids import quantile_grid
from aebnas.exits.policy import Thresholds

# A sweep takes a pass over the samples per margin and branch: all masks of 6 branches.
MAX_SWEEPS = 64


def sweep(answers: Answers, costs: ExitCosts, keep: Keep, steps: int) -> Iterator[Scored]:
    """Yield what ``keep`` keeps of the points of every mask, for margins from strict to "all leave".

    Exit by exit, on the samples that are still there, a class leaves with thresholds of ``class_thresholds`` whose
    floors are (1 - m) times the precision that the final exit alone has for that class, on all samples; 1 where it
    never predicts the class. Where the accuracy is balanced, samples count in precisions as they do in it: those are
    the precisions in a world in which all classes are as frequent. Of each mask, ``steps`` margins
    are tried that split what leaves evenly, and 0 and 1; margins below 0 ask for more than the final exit's precision.
    At which margins samples leave, at exits that the ones before leave all samples to, is known in closed form. A
    point with an exit where nobody leaves is that of another mask and left out, unless those behind it hear it. Our
    variant of the sweep, after a re-implementation of CalexNet (arXiv 2509.08318).
    At most 64 masks are swept, evenly by the number of branches that are on, none and all always among them.
    """
    classes = answers.count_classes()
    _, (alone,) = answers.say((False,) * answers.branches)
    precisions = class_precisions(alone, answers.truth, classes, answers.weights)
    for mask in evenly(answers.masks(), MAX_SWEEPS):
        yield from _Sweep(answers, mask, classes).search(precisions, costs, keep, steps)


class _Sweep:
    """The sweep of one mask."""

    def __init__(self, answers: Answers, mask: Mask, classes: int) -> None:
        self._confidences, self._labels = answers.whole(mask)
        self._correct = self._labels == answers.truth
        self._mask, self._on = mask, np.flatnonzero(mask).tolist()
        self._heard = answers.depends or answers.prefixes
        self._rankings = [
            ClassRanking(self._confidences[branch], self._labels[branch], answers.truth, classes, answers.weights)
            for branch in self._on
        ]
        self._weights = answers.weights

    def search(self, precisions: Floats, costs: ExitCosts, keep: Keep, steps: int) -> Iterator[Scored]:
        bars, leaving, right = [], [], []
        for margin in self._margins(precisions, steps):
            found = self._walk((1 - margin) * precisions)
            if found is not None:
                exits, thresholds = found
                bars.append(thresholds)
                leaving.append(np.bincount(exits, minlength=len(self._correct)))
                right.append(right_weight(self._correct[exits, np.arange(len(exits))], self._weights))
        if bars:
            every = Candidates(
                np.arange(len(bars))[:, None],
                np.array(leaving),
                np.array(right),
                costs.of_points(np.array(leaving), self._mask),
            )

            def thresholds_of(choice: Ints) -> Thresholds:
                return self._thresholds(bars[choice[0]])

            yield Scored(every.take(keep(every.correct, every.costs)), thresholds_of)

    def _margins(self, precisions: Floats, steps: int) -> list[float]:
        if not self._rankings:
            return [0.0]
        needed = np.concatenate([ranking.margins(precisions) for ranking in self._rankings])
        # A sample leaves from its margin on: above a threshold, when both are turned round.
        return sorted({0.0, 1.0, *(-float(turned) for turned in quantile_grid(-needed, steps))})

    def _walk(self, floors: Floats) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]] | None:
        """Return where each sample leaves (N,), and the thresholds (C,) of the exits that are on; None = one has no
        thresholds, and might as well be off."""
        samples = self._correct.shape[1]
        exits = np.full(samples, len(self._mask), dtype=np.int64)
        alive = np.ones(samples, dtype=np.bool_)
        every = []
        for branch, ranking in zip(self._on, self._rankings, strict=True):
            bars = ranking.thresholds(floors, alive)
            if not self._heard and not np.isfinite(bars).any():
                return None
            leaves = alive & (self._confidences[branch] >= bars[self._labels[branch]])
            exits[leaves] = branch
            alive &= ~leaves
            every.append(bars)
        return exits, every

    def _thresholds(self, bars: Sequence[NDArray[np.float32]]) -> Thresholds:
        every: list[tuple[float | None, ...] | None] = [None] * len(self._mask)
        for branch, one in zip(self._on, bars, strict=True):
            every[branch] = tuple(bar if np.isfinite(bar) else None for bar in one.tolist())
        return tuple(every)
