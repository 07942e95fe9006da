"""What papers claim of training methods, put to the results of a comparison.

A claim is a difference between two variants, paired by seed. It holds if the 95 % interval of the mean difference lies
on the claimed side of 0, does not hold if it lies on the other, and is within the spread if it includes 0. That one is
as accurate as the other has to be shown too: it holds if the interval ends above half a point less, does not hold if,
failing that, the whole interval is below 0, and is within the spread else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aebnas.comparing.compare import Comparison
from aebnas.comparing.estimates import Difference, Verdict, all_hold, paired, verdict
from aebnas.comparing.figures import Scale, area, equal_accuracy_costs, mean_forgetting, within
from aebnas.comparing.results import Result

BySeed = Mapping[int, float | None]
# CalexNet's largest gains are claimed at cost reductions of 30 to 70 %.
_CALEX_BUDGETS = (0.3, 0.7)
# What "as accurate as" may lose, as a share: half a point.
MARGIN = 0.005
# Settings under which a claim is judged, and what is said of those that are not the paper's or not ours by default.
_TAUS = (("", ""), (":tau=0.9", "; tau 0.9 in place of our default"))
# Thresholds per class, from their precision, are part of the method; one per exit is how all others are compared.
_CALEX_RULES = (
    ("calex", ("thresholds=per-class",), "; thresholds per class, as there"),
    ("calex_per_exit", (), "; one threshold per exit, which is not the paper's rule"),
)


@dataclass(frozen=True)
class Evidence:
    """One part of a claim: a difference in ``unit``, and which side of 0 is claimed.

    Args:
        lower: Whether below 0 is claimed.
        tolerant: Whether no more is claimed than not to be lower by :data:`MARGIN` or more.
    """

    what: str
    difference: Difference | None
    lower: bool = False
    tolerant: bool = False

    @property
    def verdict(self) -> Verdict:
        """What this part says."""
        low = None if self.difference is None else self.difference.low
        if self.tolerant and low is not None and low > -MARGIN:
            return "holds"
        return verdict(self.difference, lower_is_better=self.lower)


@dataclass(frozen=True)
class Claim:
    """A claim with its source and its parts, all of which have to hold."""

    name: str
    text: str
    parts: tuple[Evidence, ...]

    @property
    def verdict(self) -> Verdict:
        """What the results say."""
        return all_hold([part.verdict for part in self.parts])


def judge(comparison: Comparison) -> list[Claim]:
    """Return the claims that can be put to ``comparison``: those whose variants were all trained."""
    bench = _Bench(comparison)
    claims = [
        Claim(
            "mixed",
            "mixed training is more accurate than disjoint and joint at the full budget (arXiv 2407.14320)",
            (bench.accuracy("mixed", "disjoint"), bench.accuracy("mixed", "joint")),
        ),
        *(_gated(bench, f"cgt-{kind}{options}", note) for options, note in _TAUS for kind in ("hard", "soft")),
        *(_calex(bench, name, options, note) for name, options, note in _CALEX_RULES),
        *(
            Claim(
                name,
                f"{name} keeps earlier exits better than plain sequential training (arXiv 2605.05358)",
                (bench.forgetting(f"sequential:protection={name}", "sequential:protection=none"),),
            )
            for name in ("ewc", "lwf")
        ),
        Claim(
            "eefp",
            "EEFP ranks variants by efficiency better than ECE does (arXiv 2508.21495)",
            (bench.ranking(),),
        ),
    ]
    return [claim for claim in claims if all(part.difference is not None for part in claim.parts)]


def _gated(bench: _Bench, name: str, note: str) -> Claim:
    return Claim(
        re.sub(r"\W+", "_", name),
        f"{name} costs less than joint at equal accuracy, and is as accurate at the full budget "
        f"(arXiv 2509.17885{note})",
        (bench.cost(name, "joint"), bench.accuracy(name, "joint", tolerant=True)),
    )


def _calex(bench: _Bench, name: str, options: tuple[str, ...], note: str) -> Claim:
    whole, plain = _word("calex", *options), _word("calex", "aligned=false", "target=labels", *options)
    return Claim(
        name,
        "calex is more accurate than without alignment and distillation at 30 to 70 % of the cost "
        f"(arXiv 2509.08318{note})",
        (bench.middle(whole, plain),),
    )


def _word(regime: str, *options: str) -> str:
    return ":".join(filter(None, [regime, "+".join(options)]))


class _Bench:
    """Takes differences out of the results; one whose variants are not there is None."""

    def __init__(self, comparison: Comparison) -> None:
        self._results, self._scale = comparison.results, Scale.of(comparison)

    def accuracy(self, name: str, other: str, *, tolerant: bool = False) -> Evidence:
        """Return the difference in accuracy at the full budget."""
        difference = paired(self._each(name, self._full), self._each(other, self._full))
        return Evidence(f"accuracy at the full budget, {name} - {other}", difference, tolerant=tolerant)

    def cost(self, name: str, other: str) -> Evidence:
        """Return the difference in cost at the highest accuracy that both reach, less half a point."""
        mine, theirs = equal_accuracy_costs(self._of(name), self._of(other), self._scale)
        return Evidence(f"cost at equal accuracy, {name} - {other}", paired(mine, theirs), lower=True)

    def middle(self, name: str, other: str) -> Evidence:
        """Return the difference in mean accuracy over the middle budgets."""

        def value(result: Result) -> float | None:
            return area(result, self._scale, *_CALEX_BUDGETS)

        difference = paired(self._each(name, value), self._each(other, value))
        low, high = (100 * max(budget, self._scale.budgets[0]) for budget in _CALEX_BUDGETS)
        return Evidence(f"accuracy over budgets of {low:.0f} to {high:.0f} %, {name} - {other}", difference)

    def forgetting(self, name: str, other: str) -> Evidence:
        """Return the difference in what earlier exits lose."""
        difference = paired(self._each(name, mean_forgetting), self._each(other, mean_forgetting))
        return Evidence(f"forgetting, {name} - {other}", difference, lower=True)

    def ranking(self) -> Evidence:
        """Return the difference, seed by seed, between the rank correlations of EEFP and -ECE with the area.

        Over networks: variants that differ in thresholds alone have one EEFP and one ECE, and the first of them counts.
        """
        rows: dict[int, dict[tuple[float, float], float]] = {}
        for results in self._results.values():
            for seed, result in results.items():
                eefp, ece = result.diagnostics.get("eefp"), result.diagnostics.get("ece")
                whole = area(result, self._scale)
                if eefp is not None and ece is not None and whole is not None:
                    rows.setdefault(seed, {}).setdefault((eefp, -ece), whole)
        enough = {
            seed: np.array([(*pair, whole) for pair, whole in found.items()]).T
            for seed, found in rows.items()
            if len(found) > 2
        }
        eefps = {seed: rank_correlation(columns[0], columns[2]) for seed, columns in enough.items()}
        eces = {seed: rank_correlation(columns[1], columns[2]) for seed, columns in enough.items()}
        return Evidence("rank correlation with the area under the curve, EEFP - (-ECE)", paired(eefps, eces))

    def _full(self, result: Result) -> float | None:
        point = within(result.points, self._scale.backbone)
        return None if point is None else point.accuracy_test

    def _of(self, name: str) -> Mapping[int, Result]:
        return self._results.get(name, {})

    def _each(self, name: str, value: Callable[[Result], float | None]) -> BySeed:
        return {seed: value(result) for seed, result in self._of(name).items()}


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's correlation of two lists, ties at their mean rank; None where one of them is constant."""
    left, right = (_ranks(np.asarray(values, dtype=np.float64)) for values in (one, other))
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[:, None] > values).sum(axis=1)
    return np.asarray(below + (values[:, None] == values).sum(axis=1) / 2, dtype=np.float64)
