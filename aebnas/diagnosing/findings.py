"""What the numbers of a diagnosis say in words: only what validation and test agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aebnas.diagnosing.split import SplitDiagnosis
from aebnas.exits.diagnostics import ExitDiagnostics

# Below this, and by more than chance, a ranking is called poor.
POOR_EEFP = 0.75
# An error of calibration that a user would notice, and how far an exponent must bring it down to be worth naming.
NOTICED_ECE, MENDED = 0.05, 0.5
# Fractions of the samples that leave too early, and that go on from an exit that was right about them.
MANY_PREMATURE, MANY_FUTILE = 0.02, 0.05
# Confidences that mean to be probabilities.
PROBABILITIES = ("max-probability", "one-vs-all", "ensemble")
# Standard errors that a difference between the splits must have.
SIGNIFICANT = 3.0

Both = Sequence[SplitDiagnosis]


def findings(names: Sequence[str], confidence: str, both: Both) -> list[str]:
    """Return sentences on the network whose exits have ``names``, the most important first; at least one.

    Args:
        confidence: Name of the measure.
        both: Validation and test.
    """
    said = [
        *_constant(names, both),
        *_poor_rankings(names, both),
        *_shifts(names, both),
        *_premature(names, both),
        *_futile(names, both),
        *(_miscalibrated(names, both) if confidence in PROBABILITIES else ()),
    ]
    return [f"{sentence[0].upper()}{sentence[1:]}" for sentence in said] or [_nothing(both)]


def _early(names: Sequence[str], both: Both) -> Iterator[tuple[str, list[ExitDiagnostics]]]:
    """Yield every early exit in words, and its figures on validation and test."""
    for number, name in enumerate(names[:-1]):
        yield f"exit {number} ({name})", [split.network.exits[number] for split in both]


def _constant(names: Sequence[str], both: Both) -> Iterator[str]:
    for number, (exit_, _) in enumerate(_early(names, both)):
        if _says_the_same(number, both):
            yield f"{exit_} has the same confidence for all samples, so it can let go of all or of none."


def _says_the_same(exit_: int, both: Both) -> bool:
    return all(np.ptp(split.outcomes.confidences[exit_]) == 0 for split in both)


def _poor_rankings(names: Sequence[str], both: Both) -> Iterator[str]:
    for number, (exit_, pair) in enumerate(_early(names, both)):
        bounds = [
            scores.eefp + 2 * scores.eefp_error
            for scores in (found.every for found in pair)
            if scores.eefp is not None and scores.eefp_error is not None
        ]
        if len(bounds) == len(pair) and max(bounds) < POOR_EEFP and not _says_the_same(number, both):
            yield (
                f"{exit_} ranks poorly: its confidence hardly tells samples that should leave there from those that "
                f"should go on (EEFP {_pair([found.every.eefp for found in pair])}; 0.5 is chance): try another "
                "branch, attach point or confidence there."
            )


def _shifts(names: Sequence[str], both: Both) -> Iterator[str]:
    for exit_, (validation, test) in _early(names, both):
        here, there = validation.every, test.every
        if here.eefp is None or there.eefp is None or here.eefp_error is None or there.eefp_error is None:
            continue
        error = (here.eefp_error**2 + there.eefp_error**2) ** 0.5
        if here.eefp - there.eefp > SIGNIFICANT * error:
            yield (
                f"{exit_} ranks worse on test than on validation (EEFP {_pair([here.eefp, there.eefp])}), by more than "
                "chance: thresholds that were tuned on validation hold less there."
            )


def _premature(names: Sequence[str], both: Both) -> Iterator[str]:
    found = [split.network.premature for split in both]
    if min(found) >= MANY_PREMATURE:
        exit_, pair = max(_early(names, both), key=lambda one: min(each.premature or 0.0 for each in one[1]))
        yield (
            f"On validation / test {_percents(found)} of the samples leave too early, for a later exit is right about "
            f"them; most at {exit_}: {_percents([each.premature or 0.0 for each in pair])}."
        )


def _futile(names: Sequence[str], both: Both) -> Iterator[str]:
    # Who is wrong everywhere goes on in vain too, but hardly any confidence could know.
    right = [float(_went_on_right(split).any(axis=0).mean()) for split in both]
    if min(right) >= MANY_FUTILE:
        per_exit = [_went_on_right(split).mean(axis=1) for split in both]
        worst = int(np.minimum(*per_exit).argmax())
        excess = [split.gap.cost_excess / split.macs_mean for split in both]
        yield (
            f"On validation / test {_percents(right)} of the samples go on although an exit was right about them "
            f"already, most from exit {worst} ({names[worst]}): {_percents([one[worst] for one in per_exit])}; the "
            f"oracle takes {_percents(excess)} fewer MACs for the same accuracy."
        )


def _went_on_right(split: SplitDiagnosis) -> NDArray[np.bool_]:
    """Return who went on from each early exit that was right about them, (E-1, N)."""
    correct = split.outcomes.correct[:-1]
    went: NDArray[np.bool_] = correct & (np.arange(len(correct))[:, None] < split.outcomes.exits)
    return went


def _miscalibrated(names: Sequence[str], both: Both) -> Iterator[str]:
    for number, (exit_, pair) in enumerate(_early(names, both)):
        before = [found.every.ece_confidence for found in pair]
        after = [found.every.ece_calibrated for found in pair]
        pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
        if len(pairs) < len(pair) or not all(a >= NOTICED_ECE and b <= MENDED * a for a, b in pairs):
            continue
        too_sure = [
            float(split.outcomes.confidences[number].mean() - split.outcomes.correct[number].mean()) for split in both
        ]
        if min(too_sure) > 0 or max(too_sure) < 0:
            yield (
                f"{exit_} is too {'sure' if min(too_sure) > 0 else 'unsure'} of itself (ECE of its confidence "
                f"{_pair(before)}); to the power of {pair[0].exponent:.2f} it is {_pair(after)}, which changes no "
                "ranking and, with thresholds to match, no decision."
            )


def _nothing(both: Both) -> str:
    eefps = [exit_.every.eefp for split in both for exit_ in split.network.exits]
    known = [eefp for eefp in eefps if eefp is not None]
    if not known:
        return "Nothing can be said of the ranking: at every early exit, leaving is right for all samples or for none."
    return f"No exit stands out: on validation and test every early exit has an EEFP of {min(known):.3f} or more."


def _pair(values: Sequence[float | None]) -> str:
    texts = ["not defined" if value is None else f"{value:.3f}" for value in values]
    return f"{texts[0]} on validation, {texts[1]} on test"


def _percents(values: Sequence[float]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in values) + " %"
