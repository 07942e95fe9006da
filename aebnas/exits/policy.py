"""A policy: which confidence is compared with which thresholds, and where each sample leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.errors import InputError
from aebnas.exits.bars import Bar, leaves
from aebnas.exits.costs import Mask

Threshold = Bar | None
"""Of one exit: a number; or one per predicted class, None = that class never leaves there; or None = the exit is off
and not executed. An exit where no class ever leaves is on: it is executed, and exits behind it may hear it."""

Thresholds = tuple[Threshold, ...]

# Of an exit that is on where nobody leaves: above all confidences, which lie in [0, 1]; float32 has it exactly.
NEVER = 2.0


@dataclass(frozen=True)
class Policy:
    """Leave at branch e when its confidence >= thresholds[e]; the final exit takes the rest.

    Args:
        confidence: Name of the confidence measure.
        thresholds: One per branch, a number or one per predicted class, None = switched off; rounded to float32, in
            which they are compared.

    Raises:
        InputError: a threshold is not a finite number, or exits have class thresholds of different lengths.
    """

    confidence: str
    thresholds: Thresholds

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", round_thresholds(self.thresholds))

    def leave_at(
        self, confidences: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]] | None = None
    ) -> NDArray[np.int64]:
        """Return the exit (N,) int64 in 0..K of each sample, K = final; arrays and errors are those of ``leave_at``."""
        return leave_at(confidences, self.thresholds, labels)


def leave_at(
    confidences: NDArray[np.floating[Any]],
    thresholds: Sequence[Threshold],
    labels: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.int64]:
    """Return the exit (N,) int64 in 0..K of each sample, K = final.

    A confidence that is not a number never leaves.

    Args:
        confidences: Of the branches, (K, N), compared in float32; rows of branches that are off are ignored.
        thresholds: One per branch.
        labels: That the branches predict, (K, N); needed where thresholds are per class.

    Raises:
        ValueError: the arrays have not one row per threshold, or a label has no threshold in its class.
    """
    scores = np.asarray(confidences, dtype=np.float32)
    if scores.ndim != 2 or len(scores) != len(thresholds):
        raise ValueError(f"confidences must be (branches, samples) with {len(thresholds)} branches, not {scores.shape}")
    said = np.zeros(scores.shape, dtype=np.int64) if labels is None else np.asarray(labels)
    if said.shape != scores.shape:
        raise ValueError(f"labels must be {scores.shape} as the confidences, not {said.shape}")
    exits = np.full(scores.shape[1], len(thresholds), dtype=np.int64)
    for branch in reversed(range(len(thresholds))):
        threshold = thresholds[branch]
        if isinstance(threshold, tuple):
            _check_labels(None if labels is None else said[branch], len(threshold))
        if threshold is not None:
            exits[leaves(scores[branch], said[branch], threshold)] = branch
    return exits


def mask_of_thresholds(thresholds: Sequence[Threshold]) -> Mask:
    """Return which branches ``thresholds`` leave on."""
    return tuple(threshold is not None for threshold in thresholds)


def lets_all_leave(threshold: Threshold) -> bool:
    """Tell whether every sample leaves at an exit with ``threshold``: one of at most 0, for all classes."""
    wanted = threshold if isinstance(threshold, tuple) else (threshold,)
    return all(one is not None and one <= 0 for one in wanted)


def behind_a_gap(mask: Sequence[bool]) -> int | None:
    """Return the first branch that is on although the one before it is off, None where there is none.

    Of branches that hear the one before them, only a ``mask`` without such a branch can run.
    """
    return next((branch for branch in range(1, len(mask)) if mask[branch] and not mask[branch - 1]), None)


def check_classes(thresholds: Sequence[Threshold], classes: int) -> None:
    """Refuse class thresholds of a network that tells another number of ``classes``.

    Raises:
        InputError: an exit has not one threshold per class.
    """
    for threshold in thresholds:
        if isinstance(threshold, tuple) and len(threshold) != classes:
            raise InputError(
                f"the policy has thresholds for {len(threshold)} classes, this network tells {classes}: give one per "
                "class, None for those that never leave"
            )


def round_thresholds(thresholds: Sequence[Threshold]) -> Thresholds:
    """Return ``thresholds`` as Python floats that float32 represents exactly, and tuples of those.

    Raises:
        InputError: one is not finite in float32, or exits have class thresholds of different lengths.
    """
    lengths = {len(threshold) for threshold in thresholds if isinstance(threshold, tuple)}
    if len(lengths) > 1 or 0 in lengths:
        raise InputError(
            f"class thresholds must have one entry per class at every exit, but exits have {sorted(lengths)} entries"
        )
    return tuple(
        tuple(map(_rounded, threshold)) if isinstance(threshold, tuple) else _rounded(threshold)
        for threshold in thresholds
    )


def thresholds_to_json(thresholds: Sequence[Threshold]) -> list[Any]:
    """Return ``thresholds`` as lists, as JSON holds them."""
    return [list(threshold) if isinstance(threshold, tuple) else threshold for threshold in thresholds]


def thresholds_from_json(value: object) -> Thresholds:
    """Return thresholds from what JSON holds: one entry per exit, a number, a list with one per class, or null.

    Raises:
        InputError: ``value`` is something else, or a threshold is not finite.
    """
    if not isinstance(value, list):
        raise InputError(f"thresholds must be a list with one entry per exit, not {value!r}")
    return round_thresholds([_from_json(entry) for entry in value])


def _from_json(entry: object) -> Threshold:
    if isinstance(entry, list):
        return tuple(_number(one) for one in entry)
    return _number(entry)


def _number(entry: object) -> float | None:
    if entry is None or (isinstance(entry, int | float) and not isinstance(entry, bool)):
        return entry
    raise InputError(f"a threshold must be a number, a list with one number or null per class, or null, not {entry!r}")


def _rounded(threshold: float | None) -> float | None:
    if threshold is None:
        return None
    try:
        number = float(threshold)
    except OverflowError:
        # A whole number that no float holds, and whose digits would fill the screen.
        number = math.inf if threshold > 0 else -math.inf
    with np.errstate(over="ignore"):
        rounded = float(np.float32(number))
    if not math.isfinite(rounded):
        raise InputError(
            f"a threshold must be a number that is finite in float32, or null to switch the exit off, not {number}"
        )
    return rounded


def _check_labels(labels: NDArray[np.integer[Any]] | None, classes: int) -> None:
    if labels is None:
        raise ValueError("thresholds per class need the labels that the branches predict")
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels lie between {labels.min()} and {labels.max()}, but there are {classes} thresholds")
