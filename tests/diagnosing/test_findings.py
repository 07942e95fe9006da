import re

import numpy as np
import pytest

from aebnas.diagnosing.findings import findings
from aebnas.diagnosing.split import diagnose_split
from aebnas.exits.diagnostics import Outcomes, fit_exponents

NAMES = ("stem", "stages.0", "final")


def both(confidence, *, leave=(0.7, 0.7), accuracies=(0.8, 0.85, 0.9), samples=2000, seeds=(0, 1)):
    """Validation and test of three exits; ``confidence`` maps (random, correct (E, N)) to confidences (E, N)."""
    splits, exponents = [], None
    for seed in seeds:
        random = np.random.default_rng(seed)
        # An easy sample is right everywhere: the deeper exits know all that the others know.
        ease = random.random(samples)
        correct = ease < np.array(accuracies)[:, None]
        truth = np.zeros(samples, int)
        sure = confidence(random, correct).astype(np.float32)
        leaves = np.concatenate([sure[:-1] >= np.array(leave)[:, None], np.ones((1, samples), bool)])
        outcomes = Outcomes(np.where(correct, 0, 1), sure, np.clip(sure, 0.1, 1), truth, leaves.argmax(axis=0))
        exponents = exponents or fit_exponents(outcomes)
        splits.append(diagnose_split(outcomes, np.array([1e6, 2e6, 4e6]), exponents))
    return splits


def knowing(random, correct):
    """Nearly always surer of what is right."""
    return np.where(correct, random.beta(20, 1, correct.shape), random.beta(2, 6, correct.shape))


def test_where_all_is_well_nothing_is_made_up():
    (sentence,) = findings(NAMES, "max-probability", both(knowing))
    assert sentence.startswith("No exit stands out: on validation and test every early exit has an EEFP of 0.9")


def test_a_confidence_that_knows_nothing_is_said_first():
    first, second, *_ = findings(NAMES, "margin", both(lambda random, correct: random.random(correct.shape)))
    assert (first.startswith("Exit 0 (stem) ranks poorly") and "EEFP 0.4" in first) or "EEFP 0.5" in first
    assert second.startswith("Exit 1 (stages.0) ranks poorly")


def test_few_samples_prove_no_poor_ranking():
    splits = both(lambda random, correct: random.random(correct.shape), samples=30)
    assert not any("ranks poorly" in sentence for sentence in findings(NAMES, "margin", splits))


def test_a_constant_confidence_is_called_that():
    said = findings(NAMES, "patience", both(lambda random, correct: np.full(correct.shape, 0.125)))
    assert said[0] == "Exit 0 (stem) has the same confidence for all samples, so it can let go of all or of none."
    assert not any("ranks poorly" in sentence for sentence in said)


def test_going_on_in_vain_is_counted():
    said = findings(NAMES, "max-probability", both(knowing, leave=(0.99, 0.99)))
    (sentence,) = [one for one in said if "right about them already" in one]
    assert "most from exit 0 (stem)" in sentence and "fewer MACs" in sentence


def test_leaving_too_early_is_counted():
    said = findings(NAMES, "max-probability", both(knowing, leave=(0.05, 0.05)))
    (sentence,) = [one for one in said if "too early" in one]
    assert "most at exit 0 (stem)" in sentence


@pytest.mark.parametrize("power, word", [(0.2, "too sure"), (4.0, "too unsure")])
def test_miscalibration_is_named_with_its_cure_for_probabilities_only(power, word):
    # Who is right is drawn by the honest probability.
    splits = []
    exponents = None
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        honest = np.repeat(random.random((1, 4000)) * 0.8 + 0.1, 3, axis=0)
        correct = random.random(honest.shape) < honest
        sure = honest**power
        outcomes = Outcomes(np.where(correct, 0, 1), sure, sure, np.zeros(4000, int), np.full(4000, 2, int))
        exponents = exponents or fit_exponents(outcomes)
        splits.append(diagnose_split(outcomes, np.array([1e6, 2e6, 4e6]), exponents))
    (sentence,) = [
        one for one in findings(NAMES, "max-probability", splits) if one.startswith("Exit 0") and word in one
    ]
    exponent = float(re.search(r"to the power of ([\d.]+)", sentence)[1])
    assert exponent == pytest.approx(1 / power, rel=0.1) and "changes no ranking" in sentence
    assert not any(word in one for one in findings(NAMES, "margin", splits))


def test_a_ranking_that_does_not_hold_on_test_is_said():
    validation = both(knowing)[0]
    test = both(lambda random, correct: 0.5 * knowing(random, correct) + 0.5 * random.random(correct.shape))[1]
    said = findings(NAMES, "margin", [validation, test])
    assert any(one.startswith("Exit 0 (stem) ranks worse on test than on validation") for one in said)


def test_nothing_is_said_of_rankings_that_are_not_defined():
    splits = both(knowing, accuracies=(1.0, 1.0, 1.0), leave=(0.1, 0.1))
    assert findings(NAMES, "margin", splits) == [
        "Nothing can be said of the ranking: at every early exit, leaving is right for all samples or for none."
    ]
