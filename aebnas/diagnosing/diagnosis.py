"""The diagnosis of one network on validation and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aebnas.diagnosing.findings import findings
from aebnas.diagnosing.split import SplitDiagnosis, diagnose_split
from aebnas.diagnosing.subject import SPLITS, SplitName, Subject
from aebnas.exits.answers import Answers
from aebnas.exits.calibration import BINS
from aebnas.exits.confidence import build_confidence
from aebnas.exits.curve import BUDGETS, OperatingPoint, Target
from aebnas.exits.decision import answers_of
from aebnas.exits.diagnostics import fit_exponents
from aebnas.exits.policy import thresholds_to_json
from aebnas.exits.tuning import Rule, evaluate_answers, solve_answers, tune_answers

BALANCED = (
    "mean over classes of the share of the class's samples that are right, classes without samples left out; exit "
    "shares, costs and all that ranks or calibrates are of the samples as they come"
)
DEFINITIONS = {
    "right to leave": "the exit is right, or every later exit is wrong",
    "eefp": "AUROC of the confidence for being right to leave (arXiv 2508.21495); 0.5 is chance, 1 perfect",
    "auroc": "of the confidence for being right",
    "ece": f"of the probability that the exit's softmax gives the predicted class, {BINS} equal-width bins",
    "ece_confidence": f"of the confidence, taken as the probability of being right, {BINS} equal-width bins",
    "ece_calibrated": "of the confidence to the power of the exponent, which is fitted on validation",
    "aurc": "area under the risk-coverage curve of the confidence; excess: beyond a perfect ranking's",
    "fpr95": "share of wrong predictions accepted together with 95 % of the right ones",
    "futile": "went on although right to leave",
    "premature": "left although a later exit would have been right",
    "macs": "of a run as the search counts them; of an export, convolutions and matrix products of its files",
    "every, survivors": "on all samples; on those that no exit before has let go",
    "oracle": "every sample leaves at the first exit that is right, at the first of all if none is",
}


@dataclass(frozen=True)
class Tuned:
    """One policy that was tuned on validation, on both splits; costs are MACs."""

    points: Mapping[SplitName, OperatingPoint]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        thresholds = self.points["validation"].thresholds
        return {
            "thresholds": thresholds_to_json(thresholds),
            **{
                name: {
                    "accuracy": point.accuracy,
                    "macs_mean": point.costs[0],
                    "exit_shares": list(point.exit_shares),
                }
                for name, point in self.points.items()
            },
        }


@dataclass(frozen=True)
class Diagnosis:
    """A network with its policy, diagnosed.

    Args:
        subject: What was diagnosed.
        splits: Validation and test.
        curve: The policies of the network that validation prefers, from cheap to dear.
        budgets: The most accurate of them on validation within each fraction of the backbone's MACs, None where even
            the cheapest takes more.
        findings: What the numbers say, a sentence each, the most important first.
    """

    subject: Subject
    splits: Mapping[SplitName, SplitDiagnosis]
    curve: tuple[Tuned, ...]
    budgets: Mapping[float, Tuned | None]
    findings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the curve's points as plain values; what is not defined is None."""
        subject = self.subject
        thresholds = thresholds_to_json([subject.policy.thresholds[exit_] for exit_ in subject.exits[:-1]])
        exponents = [exit_.exponent for exit_ in self.splits["validation"].network.exits]
        return {
            "kind": subject.kind,
            "source": subject.source,
            "id": subject.id,
            "confidence": subject.policy.confidence,
            "accuracy": subject.accuracy,
            "backbone_macs": subject.backbone_macs,
            "exits": [
                {
                    "exit": number,
                    "name": name,
                    "threshold": thresholds[number] if number < len(thresholds) else None,
                    "macs": macs,
                    "exponent": exponent,
                }
                for number, (name, macs, exponent) in enumerate(
                    zip(subject.names, subject.macs.tolist(), exponents, strict=True)
                )
            ],
            **{name: split.to_json() for name, split in self.splits.items()},
            "budgets": [
                {"budget": budget, "macs": budget * subject.backbone_macs}
                | ({"policy": None} if tuned is None else {"policy": tuned.to_json()})
                for budget, tuned in self.budgets.items()
            ],
            "findings": list(self.findings),
            "definitions": DEFINITIONS if subject.accuracy == "plain" else {"accuracy": BALANCED, **DEFINITIONS},
        }


def diagnose(subject: Subject) -> Diagnosis:
    """Return the diagnosis of ``subject``; thresholds and exponents are fitted on validation alone."""
    outcomes = {name: subject.outcomes(name) for name in SPLITS}
    exponents = fit_exponents(outcomes["validation"])
    splits = {name: diagnose_split(found, subject.macs, exponents, subject.classes) for name, found in outcomes.items()}
    measure = build_confidence(subject.policy.confidence)
    answers = {
        name: answers_of(measure, said.logits, said.truth, prefixes=subject.prefixes, accuracy=subject.accuracy)
        for name, said in subject.splits.items()
    }
    return Diagnosis(
        subject,
        splits,
        *_tuned(subject, answers),
        tuple(findings(subject.names, subject.policy.confidence, list(splits.values()))),
    )


def _tuned(
    subject: Subject, answers: Mapping[SplitName, Answers]
) -> tuple[tuple[Tuned, ...], dict[float, Tuned | None]]:
    """Return the curve of the network, and the best policies within the budgets."""
    by_class = any(isinstance(threshold, tuple) for threshold in subject.policy.thresholds)
    rule: Rule = "per-class" if by_class else "per-exit"
    validation = answers["validation"]

    def on_both(point: OperatingPoint) -> Tuned:
        test = evaluate_answers(answers["test"], subject.exit_macs, point.thresholds)
        return Tuned({"validation": point, "test": test})

    curve = tune_answers(validation, subject.exit_macs, rule=rule, grid=subject.grid)
    budgets: dict[float, Tuned | None] = {}
    for budget in BUDGETS:
        target = Target(budget * subject.backbone_macs)
        point = solve_answers(validation, subject.exit_macs, target, rule=rule, grid=subject.grid)
        budgets[budget] = None if point is None else on_both(point)
    return tuple(map(on_both, curve.points)), budgets
