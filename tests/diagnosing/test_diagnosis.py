import json

import numpy as np
import pytest
from subjects import new_subject

from aebnas.diagnosing.diagnosis import BUDGETS, DEFINITIONS, diagnose
from aebnas.exits.calibration import fit_exponent
from aebnas.exits.costs import Mask
from aebnas.exits.policy import leave_at


def scored(subject, split: str, thresholds) -> tuple[float, float]:
    """Accuracy and mean MACs of a policy, sample by sample."""
    logits, truth = subject.splits[split].logits, subject.splits[split].truth
    mask: Mask = tuple(threshold is not None for threshold in thresholds)
    costs, right, spent = subject.exit_macs(mask)[0], 0, 0.0
    for sample in range(len(truth)):
        for exit_, threshold in enumerate((*thresholds, -1.0)):
            if threshold is None:
                continue
            p = logits[exit_][sample].softmax(0)
            if np.float32(p.max()) >= np.float32(threshold):
                right += int(p.argmax() == truth[sample])
                spent += costs[exit_]
                break
    return right / len(truth), spent / len(truth)


@pytest.fixture(scope="module")
def subject():
    return new_subject(2)


@pytest.fixture(scope="module")
def diagnosis(subject):
    return diagnose(subject)


def test_accuracy_and_cost_of_the_policy(subject, diagnosis):
    for name in ("validation", "test"):
        accuracy, macs = scored(subject, name, subject.policy.thresholds)
        split = diagnosis.splits[name]
        assert split.network.accuracy == pytest.approx(accuracy)
        assert split.macs_mean == pytest.approx(macs)
        assert split.gap.accuracy == pytest.approx(split.outcomes.correct.any(axis=0).mean())


def test_budgets_hold_the_best_policy_of_a_grid_and_score_it_on_both_splits(subject, diagnosis):
    best = dict.fromkeys(BUDGETS, 0.0)
    confidences = np.stack([z.softmax(1).amax(1).numpy() for z in subject.splits["validation"].logits[:-1]])
    for first in (None, *np.quantile(confidences[0], np.linspace(0, 1, 8))):
        for second in (None, *np.quantile(confidences[1], np.linspace(0, 1, 8))):
            exits = leave_at(confidences, (first, second))
            macs = subject.exit_macs((first is not None, second is not None))[0][exits].mean()
            right = np.stack(
                [
                    (z.argmax(1) == subject.splits["validation"].truth).numpy()
                    for z in subject.splits["validation"].logits
                ]
            )
            accuracy = right[exits, np.arange(len(exits))].mean()
            for budget in BUDGETS:
                if macs <= budget * subject.backbone_macs:
                    best[budget] = max(best[budget], accuracy)
    for budget, tuned in diagnosis.budgets.items():
        thresholds = tuned.points["validation"].thresholds
        for name, point in tuned.points.items():
            accuracy, macs = scored(subject, name, thresholds)
            assert (point.accuracy, point.costs[0]) == pytest.approx((accuracy, macs))
        assert tuned.points["validation"].costs[0] <= budget * subject.backbone_macs * (1 + 1e-9)
        # The tuner's own grid may be another one of as many quantiles.
        assert tuned.points["validation"].accuracy >= best[budget] - 0.02
    accuracies = [tuned.points["validation"].accuracy for tuned in diagnosis.budgets.values()]
    assert accuracies == sorted(accuracies)


def test_a_budget_below_the_cheapest_policy_has_none():
    diagnosis = diagnose(new_subject(1))
    assert diagnosis.budgets[0.25] is None and diagnosis.budgets[0.5] is not None
    assert diagnosis.to_json()["budgets"][0]["policy"] is None


def test_exponents_are_fitted_on_validation_and_used_on_test(subject, diagnosis):
    for exit_, (on_validation, on_test) in enumerate(
        zip(*(diagnosis.splits[name].network.exits for name in ("validation", "test")), strict=True)
    ):
        outcomes = diagnosis.splits["validation"].outcomes
        fitted = fit_exponent(outcomes.confidences[exit_], outcomes.correct[exit_])
        assert on_validation.exponent == on_test.exponent == fitted


def test_the_figures_as_json(subject, diagnosis):
    found = json.loads(json.dumps(diagnosis.to_json(), allow_nan=False))
    assert found.keys() == {
        "kind",
        "source",
        "id",
        "accuracy",
        "confidence",
        "backbone_macs",
        "exits",
        "validation",
        "test",
        "budgets",
        "findings",
        "definitions",
    }
    assert found["definitions"] == DEFINITIONS and found["findings"]
    assert [exit_["name"] for exit_ in found["exits"]] == ["stages.0", "stages.1", "final"]
    assert [exit_["threshold"] for exit_ in found["exits"]] == pytest.approx([0.9, 0.8, None])
    assert [one["budget"] for one in found["budgets"]] == list(BUDGETS)
    for name in ("validation", "test"):
        split = found[name]
        assert {
            "accuracy",
            "accuracy_last",
            "eefp",
            "futile",
            "premature",
            "macs_mean",
            "oracle",
            "exits",
        } < split.keys()
        assert len(split["exits"]) == 3
        for exit_ in split["exits"]:
            assert (
                exit_["every"].keys()
                == exit_["survivors"].keys()
                == {
                    "samples",
                    "accuracy",
                    "ece",
                    "ece_confidence",
                    "ece_calibrated",
                    "auroc",
                    "eefp",
                    "eefp_error",
                    "aurc",
                    "excess_aurc",
                    "fpr95",
                }
            )


@pytest.mark.parametrize("confidence", ["margin", "patience", "ensemble", "one-vs-all"])
def test_every_confidence_is_diagnosed(confidence):
    diagnosis = diagnose(new_subject(2, confidence=confidence, thresholds=(0.3, 0.2)))
    json.dumps(diagnosis.to_json(), allow_nan=False)
    assert diagnosis.findings


def test_thresholds_by_class_are_tuned_by_class():
    diagnosis = diagnose(new_subject(1, thresholds=((0.9, 0.8, None, 0.7),), samples=800))
    policies = [tuned.points["validation"].thresholds for tuned in diagnosis.curve]
    assert any(isinstance(thresholds[0], tuple) for thresholds in policies)
    assert json.loads(json.dumps(diagnosis.to_json()))["exits"][0]["threshold"] == pytest.approx([0.9, 0.8, None, 0.7])


def test_of_cascaded_branches_only_the_last_ones_are_ever_off():
    diagnosis = diagnose(new_subject(3, prefixes=True))
    for tuned in diagnosis.curve:
        on = [threshold is not None for threshold in tuned.points["validation"].thresholds]
        assert on == sorted(on, reverse=True)
