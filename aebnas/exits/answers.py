"""What the exits of one network say about every sample, whichever of its branches are on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import AccuracyKind, sample_weights
from aebnas.exits.costs import Mask

Said = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Confidences (on, N) of the branches that are on, and labels (on+1, N) of those and of the final exit, the last."""


@dataclass(frozen=True)
class Answers:
    """What the exits of one network say about N samples.

    Args:
        truth: The right label of each sample, (N,) int64.
        branches: Number K of branches.
        say: Mask over the branches (True = on) -> confidences (on, N) float32 and labels (on+1, N) int64 along the
            exits that are on, the final exit last, confidences in [0, 1] or nan; it is asked for the same mask more
            than once, so it had better memoise what takes long.
        depends: Whether what an exit says depends on which exits before it are on, as with a confidence that carries
            a state from exit to exit.
        prefixes: Whether a branch can only be on when all before it are, as branches that hear their predecessor.
        classes: Number of classes; as many as ``truth`` and the labels name where it is None.
        accuracy: Which accuracy policies are told and compared by.
    """

    truth: NDArray[np.int64]
    branches: int
    say: Callable[[Mask], Said]
    depends: bool
    prefixes: bool = False
    classes: int | None = None
    accuracy: AccuracyKind = "plain"

    @classmethod
    def independent(
        cls,
        confidences: NDArray[np.floating[Any]],
        labels: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
        *,
        prefixes: bool = False,
        classes: int | None = None,
        accuracy: AccuracyKind = "plain",
    ) -> Answers:
        """Return the answers of exits that say the same whoever is on.

        Args:
            confidences: Of the branches, (K, N), compared in float32; K may be 0.
            labels: That each exit predicts, (K+1, N), the final exit last.
            truth: The right labels (N,).
            prefixes: Whether a branch can only be on when all before it are.
            classes: Number of classes, None = as many as are named.
            accuracy: Which accuracy policies are told and compared by.

        Raises:
            ValueError: the arrays do not fit each other.
        """
        sure, said = np.asarray(confidences, dtype=np.float32), np.asarray(labels, dtype=np.int64)
        true = np.asarray(truth, dtype=np.int64)
        if sure.ndim != 2 or said.shape != (len(sure) + 1, sure.shape[1]) or true.shape != said.shape[1:]:
            raise ValueError(
                "confidences, labels and truth must be (K, N), (K+1, N) and (N,), "
                f"not {sure.shape}, {said.shape} and {true.shape}"
            )

        def say(mask: Mask) -> Said:
            return sure[list(mask)] if mask else sure, said[[*mask, True]]

        return cls(true, len(sure), say, depends=False, prefixes=prefixes, classes=classes, accuracy=accuracy)

    @cached_property
    def weights(self) -> NDArray[np.int64] | None:
        """What each sample counts in the accuracy, whole numbers (N,); None: 1."""
        return sample_weights(self.truth, self.accuracy)

    def masks(self) -> list[Mask]:
        """Return the masks that are possible, by the number of branches that are on, from none to all."""
        every = range(self.branches + 1)
        if self.prefixes:
            return [(True,) * on + (False,) * (self.branches - on) for on in every]
        return sorted(itertools.product((False, True), repeat=self.branches), key=sum)

    def whole(self, mask: Mask) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return confidences (K, N) and labels (K+1, N) with ``mask``; nan and -1 in rows of branches that are off.

        Raises:
            ValueError: what the exits say has not one row per exit that is on and one column per sample.
        """
        sure, said = self.say(mask)
        on, samples = [*np.flatnonzero(mask).tolist(), self.branches], len(self.truth)
        if sure.shape != (len(on) - 1, samples) or said.shape != (len(on), samples):
            raise ValueError(
                f"with {len(on) - 1} branches on, {samples} samples have confidences {sure.shape} and labels "
                f"{said.shape}"
            )
        confidences = np.full((self.branches, samples), np.nan, dtype=np.float32)
        labels = np.full((self.branches + 1, samples), -1, dtype=np.int64)
        confidences[on[:-1]], labels[on] = sure, said
        return confidences, labels

    def count_classes(self) -> int:
        """Return the number of classes, or how many are named where it is not known."""
        if self.classes is not None:
            return self.classes
        masks = self.masks() if self.depends else [(False,) * self.branches, (True,) * self.branches]
        return 1 + max(int(self.truth.max(initial=-1)), *(int(self.say(mask)[1].max(initial=-1)) for mask in masks))
