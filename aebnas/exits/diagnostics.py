"""How well the exits of one network know when to leave: failure prediction, ranking, calibration.

Leaving at an exit is right if its prediction is, or if every later exit is wrong too; EEFP is how well the confidence
ranks samples by that (arXiv 2508.21495). Values that are not defined (one class only, no samples) are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aebnas.exits.accuracy import AccuracyKind, accuracy_of, sample_weights
from aebnas.exits.calibration import calibrated, expected_calibration_error, fit_exponent
from aebnas.exits.policy import Threshold, lets_all_leave
from aebnas.exits.ranking import Ranking, auroc_error

Flags = NDArray[np.bool_]
FRONT_COLUMNS = ("eefp_val", "ece_val", "auroc_val", "eaurc_val", "futile_val", "premature_val")


@dataclass(frozen=True)
class Outcomes:
    """What the exits that are on say of N samples, the final one last, and where a policy lets each sample leave.

    Args:
        labels: Predicted classes, integers (E, N).
        confidences: What the policy compares with its thresholds, (E, N).
        probabilities: Of the predicted class, (E, N), in [0, 1].
        truth: Integers (N,).
        exits: Row of the exit that each sample leaves at, integers (N,) in 0..E-1.
        accuracy: Which accuracy is told; all else is of the samples as they come.

    Raises:
        ValueError: the arrays do not fit each other.
    """

    labels: NDArray[np.integer[Any]]
    confidences: NDArray[np.floating[Any]]
    probabilities: NDArray[np.floating[Any]]
    truth: NDArray[np.integer[Any]]
    exits: NDArray[np.integer[Any]]
    accuracy: AccuracyKind = "plain"

    def __post_init__(self) -> None:
        shape = np.shape(self.labels)
        fits = len(shape) == 2 and shape[0] > 0 and np.shape(self.truth) == np.shape(self.exits) == shape[1:]
        if not fits or not np.shape(self.confidences) == np.shape(self.probabilities) == shape:
            raise ValueError(
                f"labels {shape}, confidences {np.shape(self.confidences)} and probabilities "
                f"{np.shape(self.probabilities)} must be (E, N), truth {np.shape(self.truth)} and exits "
                f"{np.shape(self.exits)} (N,)"
            )
        if len(self.exits) and not 0 <= self.exits.min() <= self.exits.max() < shape[0]:
            raise ValueError(
                f"samples leave at exits 0 to {shape[0] - 1}, not {self.exits.min()} to {self.exits.max()}"
            )

    @cached_property
    def correct(self) -> Flags:
        """Whether each exit is right, (E, N)."""
        right: Flags = self.labels == self.truth
        return right

    @cached_property
    def weights(self) -> NDArray[np.int64] | None:
        """What each sample counts in the accuracy, (N,); None: 1."""
        return sample_weights(self.truth, self.accuracy)

    @cached_property
    def worth_leaving(self) -> Flags:
        """Whether leaving at each exit but the final one is right, (E-1, N)."""
        return worth_leaving(self.correct)

    def survivors(self, exit_: int) -> Flags:
        """Return which samples have not left before ``exit_``, (N,)."""
        return np.asarray(self.exits >= exit_)


def worth_leaving(correct: Flags) -> Flags:
    """Return l_e = 1[exit e is right, or every later exit is wrong] (E-1, N), from who is ``correct`` (E, N)."""
    any_later = np.logical_or.accumulate(correct[:0:-1], axis=0)[::-1]
    return np.asarray(correct[:-1] | ~any_later)


@dataclass(frozen=True)
class Scores:
    """One exit on one set of samples; ranking is by the policy's confidence, None = not defined.

    Attributes:
        samples: How many.
        accuracy: Plain or balanced.
        ece: Of the predicted class's probability, 15 equal-width bins.
        ece_confidence: Of the confidence, taken as the probability of being right.
        ece_calibrated: Of the confidence to the power of the exponent that was fitted on validation.
        auroc: Of being right.
        eefp: AUROC of leaving being right; None at the final exit.
        eefp_error: Its standard error.
        aurc: Area under the risk-coverage curve.
        excess_aurc: That beyond a perfect ranking's.
        fpr95: Share of wrong predictions that are accepted together with 95 % of the right ones.
    """

    samples: int
    accuracy: float | None
    ece: float | None
    ece_confidence: float | None
    ece_calibrated: float | None
    auroc: float | None
    eefp: float | None
    eefp_error: float | None
    aurc: float | None
    excess_aurc: float | None
    fpr95: float | None


@dataclass(frozen=True)
class ExitDiagnostics:
    """One exit; fractions are of all samples.

    Attributes:
        share: Leave here.
        reached: Did not leave before.
        futile: Went on from here although leaving was right; None at the final exit.
        premature: Left here although a later exit would have been right; None at the final exit.
        exponent: Of the calibrated confidence; None where none could be fitted.
        every, survivors: On all samples, and on those that reached this exit.
    """

    share: float
    reached: float
    futile: float | None
    premature: float | None
    exponent: float | None
    every: Scores
    survivors: Scores


@dataclass(frozen=True)
class NetworkDiagnostics:
    """One network with its policy on one split.

    Attributes:
        samples: How many.
        accuracy: Of the policy, plain or balanced.
        accuracy_last: Of the last exit alone.
        eefp: Mean over the early exits where it is defined, on all samples.
        eefp_survivors: The same on the survivors of each.
        futile: Fraction of samples that went on at least once although leaving was right.
        premature: Fraction of samples that left although a later exit would have been right.
        exits: One per exit that is on, the final one last.
    """

    samples: int
    accuracy: float
    accuracy_last: float
    eefp: float | None
    eefp_survivors: float | None
    futile: float
    premature: float
    exits: tuple[ExitDiagnostics, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {**asdict(self), "exits": [asdict(exit_) for exit_ in self.exits]}


def reachable_exits(thresholds: Sequence[Threshold]) -> tuple[int, ...]:
    """Return the numbers of the exits at which a sample may leave, K for the final one, from a threshold per branch.

    Behind a branch that lets everybody go, at 0, there is no other: it is the last exit, as in an export.
    """
    reached = []
    for number, threshold in enumerate(thresholds):
        if threshold is None:
            continue
        reached.append(number)
        if lets_all_leave(threshold):
            return tuple(reached)
    return (*reached, len(thresholds))


def fit_exponents(outcomes: Outcomes) -> list[float | None]:
    """Return the exponent of every exit's confidence, fitted on all samples (arXiv 2206.13923: our variant)."""
    return [fit_exponent(*pair) for pair in zip(outcomes.confidences, outcomes.correct, strict=True)]


def diagnose_exits(outcomes: Outcomes, exponents: Sequence[float | None]) -> NetworkDiagnostics:
    """Return the diagnostics of a network on one split.

    Args:
        outcomes: On that split, at least one sample.
        exponents: One per exit, fitted on validation by :func:`fit_exponents`.

    Raises:
        ValueError: there are no samples.
    """
    correct, count = outcomes.correct, len(outcomes.truth)
    if not count:
        raise ValueError("exits cannot be diagnosed on no samples")
    went_on = np.arange(len(correct) - 1)[:, None] < outcomes.exits
    left_here = np.arange(len(correct) - 1)[:, None] == outcomes.exits
    futile, premature = outcomes.worth_leaving & went_on, ~outcomes.worth_leaving & left_here
    exits = tuple(
        ExitDiagnostics(
            share=float((outcomes.exits == number).mean()),
            reached=float(outcomes.survivors(number).mean()),
            futile=float(futile[number].mean()) if number < len(futile) else None,
            premature=float(premature[number].mean()) if number < len(futile) else None,
            exponent=exponent,
            every=_scores(outcomes, number, exponent, np.ones(count, dtype=np.bool_)),
            survivors=_scores(outcomes, number, exponent, outcomes.survivors(number)),
        )
        for number, exponent in enumerate(exponents)
    )
    return NetworkDiagnostics(
        samples=count,
        accuracy=accuracy_of(correct[outcomes.exits, np.arange(count)], outcomes.truth, outcomes.accuracy),
        accuracy_last=accuracy_of(correct[-1], outcomes.truth, outcomes.accuracy),
        eefp=mean_of([exit_.every.eefp for exit_ in exits]),
        eefp_survivors=mean_of([exit_.survivors.eefp for exit_ in exits]),
        futile=float(futile.any(axis=0).mean()),
        premature=float(premature.any(axis=0).mean()),
        exits=exits,
    )


def network_diagnostics(
    labels: NDArray[np.integer[Any]],
    confidences: NDArray[np.floating[Any]],
    probabilities: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    exits: NDArray[np.integer[Any]],
) -> dict[str, float | None]:
    """Return the columns of a front row, ``FRONT_COLUMNS``: what validation says of one operating point.

    EEFP, ECE, AUROC of being right and excess AURC are means over the early exits that are on, on all samples, where
    they are defined; futile and premature are fractions of the samples. None where nothing is defined.

    Args:
        labels: Of the exits that are on, the final one last, (K+1, N).
        confidences: Of the K early ones, (K, N).
        probabilities: Of the predicted class, of the K early ones, (K, N).
        truth: (N,).
        exits: Where each sample leaves, (N,) in 0..K, counted among the exits that are on.
    """
    if len(labels) < 2 or not len(truth):
        return dict.fromkeys(FRONT_COLUMNS)
    correct: Flags = labels == truth
    worth = worth_leaving(correct)
    rankings = [Ranking(confidence) for confidence in confidences]
    here = np.arange(len(worth))[:, None]
    found: dict[str, list[float | None]] = {
        "eefp_val": [ranking.auroc(good) for ranking, good in zip(rankings, worth, strict=True)],
        "ece_val": list(map(expected_calibration_error, probabilities, correct)),
        "auroc_val": [ranking.auroc(right) for ranking, right in zip(rankings, correct, strict=False)],
        "eaurc_val": [ranking.excess_aurc(right) for ranking, right in zip(rankings, correct, strict=False)],
        "futile_val": [float((worth & (here < exits)).any(axis=0).mean())],
        "premature_val": [float((~worth & (here == exits)).any(axis=0).mean())],
    }
    return {name: mean_of(values) for name, values in found.items()}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _scores(outcomes: Outcomes, exit_: int, exponent: float | None, chosen: Flags) -> Scores:
    """Return the scores of one exit on the ``chosen`` samples (N,)."""
    correct, confidence = outcomes.correct[exit_, chosen], outcomes.confidences[exit_, chosen]
    ranking = Ranking(confidence)
    worth = outcomes.worth_leaving[exit_, chosen] if exit_ < len(outcomes.worth_leaving) else None
    eefp = None if worth is None else ranking.auroc(worth)
    error = None
    if eefp is not None and worth is not None:
        error = auroc_error(eefp, int(worth.sum()), int((~worth).sum()))
    return Scores(
        samples=len(correct),
        accuracy=accuracy_of(correct, outcomes.truth[chosen], outcomes.accuracy) if len(correct) else None,
        ece=expected_calibration_error(outcomes.probabilities[exit_, chosen], correct),
        ece_confidence=expected_calibration_error(confidence, correct),
        ece_calibrated=None
        if exponent is None
        else expected_calibration_error(calibrated(confidence, exponent), correct),
        auroc=ranking.auroc(correct),
        eefp=eefp,
        eefp_error=error,
        aurc=ranking.aurc(correct),
        excess_aurc=ranking.excess_aurc(correct),
        fpr95=ranking.fpr_at_tpr(correct),
    )
