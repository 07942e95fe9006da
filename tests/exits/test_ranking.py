import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score, roc_curve

from aebnas.exits.ranking import Ranking, auroc_error, best_aurc

# Few values, so that many are equal.
SAMPLES = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=30)


def arrays(samples):
    return np.array([score for score, _ in samples], np.float32), np.array([flag for _, flag in samples])


@given(SAMPLES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(samples):
    scores, positive = arrays(samples)
    pairs = list(itertools.product(scores[positive], scores[~positive]))
    found = Ranking(scores).auroc(positive)
    if not pairs:
        assert found is None and Ranking(scores).roc(positive) is None
        return
    assert found == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert found == pytest.approx(roc_auc_score(positive, scores))
    rates = Ranking(scores).roc(positive)
    assert auc(*rates) == pytest.approx(found)


@given(SAMPLES, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_fpr_is_that_of_the_highest_threshold_that_keeps_enough(samples, tpr):
    scores, positive = arrays(samples)
    found = Ranking(scores).fpr_at_tpr(positive, tpr)
    if positive.all() or not positive.any():
        assert found is None
        return
    thresholds = [np.inf, *sorted(set(scores.tolist()), reverse=True)]
    kept = next(t for t in thresholds if (scores[positive] >= t).mean() >= tpr - 1e-9)
    assert found == pytest.approx((scores[~positive] >= kept).mean())
    fpr, tprs, _ = roc_curve(positive, scores, drop_intermediate=False)
    assert found == pytest.approx(fpr[np.argmax(tprs >= tpr - 1e-9)])


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=6))
def test_aurc_is_the_mean_over_the_orders_of_equal_scores(samples):
    scores, correct = arrays(samples)
    found = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            risks = [np.mean([not correct[i] for i in order[: k + 1]]) for k in range(len(order))]
            found.append(np.mean(risks))
    assert Ranking(scores).aurc(correct) == pytest.approx(np.mean(found))


@given(SAMPLES)
def test_excess_aurc_is_what_a_perfect_ranking_would_save(samples):
    scores, correct = arrays(samples)
    perfect = Ranking(correct.astype(float) + np.arange(len(correct)) * 1e-6).aurc(correct)
    assert best_aurc(len(correct), int((~correct).sum())) == pytest.approx(perfect)
    assert Ranking(scores).excess_aurc(correct) == pytest.approx(Ranking(scores).aurc(correct) - perfect, abs=1e-12)
    assert Ranking(correct.astype(float)).excess_aurc(correct) == pytest.approx(0.0, abs=1e-12)


def test_by_hand():
    """Errors at places 2 and 4 of 4: risks 0, 1/2, 1/3, 1/2; best: 0, 0, 1/3, 1/2."""
    scores, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    ranking = Ranking(scores)
    assert ranking.aurc(correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert ranking.excess_aurc(correct) == pytest.approx(1 / 8)
    assert ranking.auroc(correct) == 0.75
    assert ranking.fpr_at_tpr(correct) == 0.5


def test_what_is_not_a_number_ranks_last():
    scores, correct = np.array([np.nan, 0.5, 0.2, np.nan]), np.array([False, True, True, True])
    assert Ranking(scores).auroc(correct) == pytest.approx((1 + 1 + 0.5) / 3)


def test_no_samples_have_no_ranking():
    ranking, nobody = Ranking(np.zeros(0)), np.zeros(0, bool)
    assert ranking.auroc(nobody) is ranking.fpr_at_tpr(nobody) is ranking.roc(nobody) is None
    assert ranking.aurc(nobody) is ranking.excess_aurc(nobody) is None


def test_the_standard_error_is_that_of_repeated_draws():
    random = np.random.default_rng(0)
    positive = np.arange(120) < 80

    def draw():
        return Ranking(random.exponential(1.0, 120) * np.where(positive, 2.0, 1.0)).auroc(positive)

    found = [draw() for _ in range(1000)]
    assert auroc_error(float(np.mean(found)), 80, 40) == pytest.approx(np.std(found), rel=0.12)
