"""Whether a classifier knows more than one that looks at no image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import AccuracyKind, accuracy_name

# Twice as good as guessing, or a tenth of the way from there to being always right: whichever is less is little.
_TIMES, _WAY = 2.0, 0.1
# What chance alone adds to guessing on few samples, in standard deviations.
_SURE = 2.0


@dataclass(frozen=True)
class Guess:
    """The best that can be had without looking: always the largest class; balanced, any class.

    Args:
        accuracy: Of the guess, in [0, 1].
        samples: That it was judged on.
        kind: Which accuracy that is.
    """

    accuracy: float
    samples: int
    kind: AccuracyKind = "plain"

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]], kind: AccuracyKind) -> Guess:
        """Return the best guess about samples of the classes ``labels`` (N,), N > 0."""
        counts = np.bincount(labels)
        best = counts.max() / len(labels) if kind == "plain" else 1 / np.count_nonzero(counts)
        return cls(float(best), len(labels), kind)

    def little_more(self, accuracy: float) -> bool:
        """Tell whether a classifier of that accuracy on the same samples knows hardly more."""
        base = self.accuracy
        chance = _SURE * math.sqrt(base * (1 - base) / self.samples)
        return accuracy < base + max(chance, min((_TIMES - 1) * base, _WAY * (1 - base)))

    def warning(self, accuracy: float) -> str | None:
        """Return in a sentence that a backbone of that accuracy on validation is hardly better; None if it is."""
        if not self.little_more(accuracy):
            return None
        what = "always naming the largest class" if self.kind == "plain" else "always naming the same class"
        return (
            f"the backbone's {accuracy_name(self.kind)} on validation, {100 * accuracy:.1f} %, is hardly better than "
            f"that of {what}, {100 * self.accuracy:.1f} %, and early exits cannot mend it: train it longer or with "
            "another lr (backbone_training), and check the labels, the order of the classes, and how images are "
            "prepared (data.normalise, image_size, grey)"
        )
