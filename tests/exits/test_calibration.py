import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aebnas.exits.calibration import calibrated, expected_calibration_error, fit_exponent, reliability
from aebnas.exits.ranking import Ranking

PROBABILITIES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.4, 1 / 3, 0.8, 1.0]))


def likelihood(confidence, correct, exponent):
    powered = np.clip(confidence**exponent, 1e-300, 1 - 1e-16)
    return float(np.where(correct, np.log(powered), np.log(1 - powered)).sum())


@given(st.lists(st.tuples(PROBABILITIES, st.booleans()), min_size=1, max_size=40), st.sampled_from([1, 5, 15]))
def test_ece_against_a_loop_over_bins(samples, bins):
    probability, correct = np.array([p for p, _ in samples]), np.array([c for _, c in samples])
    expected = 0.0
    for b in range(bins):
        # The same product as there, so that a probability on a border falls on the same side.
        inside = (probability * bins > b) & (probability * bins <= b + 1) | ((b == 0) & (probability == 0))
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - probability[inside].mean())
    assert expected_calibration_error(probability, correct, bins) == pytest.approx(expected)
    found = reliability(probability, correct, bins)
    assert found.counts.sum() == len(samples)
    assert np.isnan(found.accuracy[found.counts == 0]).all()


def test_ece_by_hand():
    """Bins of 0.1: two of 0.95 of which one is right, one of 0.25 that is wrong."""
    assert expected_calibration_error(np.array([0.95, 0.95, 0.25]), np.array([True, False, False]), 10) == (
        pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.25)
    )
    assert expected_calibration_error(np.zeros(0), np.zeros(0, bool)) is None


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=2, max_size=30))
def test_the_exponent_is_the_likeliest(samples):
    confidence, correct = np.array([p for p, _ in samples]), np.array([c for _, c in samples])
    exponent = fit_exponent(confidence, correct)
    if correct.all() or not correct.any():
        assert exponent is None
        return
    best = likelihood(confidence, correct, exponent)
    for other in np.geomspace(1e-3, 1e3, 200):
        assert likelihood(confidence, correct, other) <= best + 1e-6 * (1 + abs(best))


def test_the_exponent_of_one_confidence_by_hand():
    """All have confidence 1/2 and a quarter is right: (1/2)^2 = 1/4."""
    assert fit_exponent(np.full(8, 0.5), np.arange(8) < 2) == pytest.approx(2.0)


def test_confidences_of_0_and_1_break_nothing():
    exponent = fit_exponent(np.array([0.0, 1.0, 1.0, 0.5, np.nan]), np.array([True, False, True, True, False]))
    assert 1e-3 <= exponent <= 1e3


def test_calibration_cuts_the_ece_and_leaves_the_ranking(overconfident):
    """As published for MSDNet on CIFAR-100 (arXiv 2508.21495): the ECE falls tenfold, the ranking stays."""
    confidence, correct = overconfident
    after = calibrated(confidence, fit_exponent(confidence, correct))
    before_ece, after_ece = (expected_calibration_error(c, correct) for c in (confidence, after))
    assert before_ece > 0.15 and after_ece < before_ece / 5
    for score in ("auroc", "aurc", "excess_aurc", "fpr_at_tpr"):
        assert getattr(Ranking(after), score)(correct) == getattr(Ranking(confidence), score)(correct)


@pytest.fixture
def overconfident():
    random = np.random.default_rng(0)
    confidence = random.beta(6, 1.5, 20_000)
    return confidence, random.random(20_000) < confidence**2.5
