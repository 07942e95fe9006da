"""How sure an accuracy is that was found on one split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import AccuracyKind, accuracy_name, largest_deviation
from aebnas.experiment import Experiment
from aebnas.prepare import Prepared

_CONFIDENT = 1.96
SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Uncertainty:
    """The sizes of the splits, from which the 95 % intervals of accuracies follow (normal approximation).

    Args:
        kind: Which accuracy the run goes by.
        samples: Of each split, as far as it is known.
        counts: Of each split the samples of every class (C,), which a balanced accuracy hangs on.
    """

    kind: AccuracyKind = "plain"
    samples: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, summary: Mapping[str, Any], prepared: Prepared | None) -> Uncertainty:
        """Take the sizes from the data if they are at hand, else from the summary, in which older runs have not all."""
        if prepared is not None:
            labels = {name: getattr(prepared.data, name).labels.numpy() for name in SPLITS}
            counts = {name: np.bincount(found, minlength=prepared.data.num_classes) for name, found in labels.items()}
            return cls(experiment.accuracy, {name: len(found) for name, found in labels.items()}, counts)
        kept = summary.get("data")
        found = kept.items() if isinstance(kept, dict) else ()
        sizes = {name: size for name, size in found if isinstance(size, int) and size > 0}
        classes = summary.get("classes", {})
        return cls(experiment.accuracy, sizes, {name: np.array(counts) for name, counts in classes.items()})

    @property
    def name(self) -> str:
        """What the accuracy is called."""
        return accuracy_name(self.kind)

    def half(self, accuracy: float, split: str) -> float | None:
        """Return half the width of the interval of ``accuracy`` on ``split``; None where its samples are not known.

        That of a balanced accuracy is the widest that it can have, whatever its classes' recalls.
        """
        if self.kind == "balanced":
            counts = self.counts.get(split)
            return None if counts is None else _CONFIDENT * largest_deviation(accuracy, counts)
        samples = self.samples.get(split)
        return None if samples is None else _CONFIDENT * math.sqrt(max(accuracy * (1 - accuracy), 0.0) / samples)
