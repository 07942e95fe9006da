import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from aebnas.exits.diagnostics import (
    FRONT_COLUMNS,
    Outcomes,
    diagnose_exits,
    fit_exponents,
    network_diagnostics,
    reachable_exits,
    worth_leaving,
)


def outcomes(seed=0, exits=4, samples=200, classes=4):
    """Exits that get better, with a confidence that knows something of it; samples leave at the first sure exit."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, samples)
    good = random.random((exits, samples)) < np.linspace(0.5, 0.9, exits)[:, None]
    labels = np.where(good, truth, (truth + 1) % classes)
    confidence = (0.5 * random.random((exits, samples)) + 0.4 * good).round(2).astype(np.float32)
    sure = confidence >= 0.6
    sure[-1] = True
    return Outcomes(labels, confidence, np.clip(confidence, 0.3, 1), truth, sure.argmax(axis=0))


def auroc(scores, positive):
    return None if positive.all() or not positive.any() else roc_auc_score(positive, scores)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=8))
def test_leaving_is_right_if_the_exit_is_or_if_no_later_one_is(samples):
    correct = np.array(samples).T
    for number in range(3):
        for sample in range(correct.shape[1]):
            later = any(correct[other, sample] for other in range(number + 1, 4))
            assert worth_leaving(correct)[number, sample] == (correct[number, sample] or not later)


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_against_a_loop_over_samples(seed):
    given_ = outcomes(seed)
    exponents = fit_exponents(given_)
    found = diagnose_exits(given_, exponents)
    right = given_.labels == given_.truth
    futile_of, premature_of = set(), set()
    for number, exit_ in enumerate(found.exits):
        survivors = [i for i in range(200) if given_.exits[i] >= number]
        futile = [
            i for i in survivors if given_.exits[i] > number and (right[number, i] or not right[number:, i].any())
        ]
        early = [i for i in survivors if given_.exits[i] == number and not right[number, i] and right[number:, i].any()]
        assert exit_.reached == len(survivors) / 200
        assert exit_.share == pytest.approx(sum(given_.exits == number) / 200)
        confidence = given_.confidences[number]
        for scores, rows in ((exit_.every, list(range(200))), (exit_.survivors, survivors)):
            assert scores.samples == len(rows)
            assert scores.accuracy == pytest.approx(right[number, rows].mean())
            assert scores.auroc == pytest.approx(auroc(confidence[rows], right[number, rows]))
            if number == 3:
                assert scores.eefp is scores.eefp_error is None
            else:
                leave = np.array([right[number, i] or not right[number + 1 :, i].any() for i in rows])
                assert scores.eefp == pytest.approx(auroc(confidence[rows], leave))
                assert scores.eefp_error > 0
            powered = confidence[rows].astype(float) ** exponents[number]
            assert scores.ece_calibrated == pytest.approx(loop_ece(powered, right[number, rows]))
            assert scores.ece_confidence == pytest.approx(loop_ece(confidence[rows], right[number, rows]))
            assert scores.ece == pytest.approx(loop_ece(given_.probabilities[number, rows], right[number, rows]))
        if number == 3:
            assert exit_.futile is exit_.premature is None
        else:
            assert exit_.futile == pytest.approx(len(futile) / 200)
            assert exit_.premature == pytest.approx(len(early) / 200)
            futile_of |= set(futile)
            premature_of |= set(early)
    assert found.futile == pytest.approx(len(futile_of) / 200)
    assert found.premature == pytest.approx(len(premature_of) / 200)
    assert found.accuracy == pytest.approx(np.mean([right[given_.exits[i], i] for i in range(200)]))
    assert found.accuracy_last == right[-1].mean()
    assert found.eefp == pytest.approx(np.mean([exit_.every.eefp for exit_ in found.exits[:-1]]))


def loop_ece(probability, correct):
    place = np.minimum(np.maximum(np.ceil(np.asarray(probability, float) * 15) - 1, 0), 14)
    gaps = [
        (place == b).mean() * abs(correct[place == b].mean() - np.asarray(probability, float)[place == b].mean())
        for b in range(15)
        if (place == b).any()
    ]
    return sum(gaps)


@pytest.mark.parametrize("seed", range(5))
def test_the_columns_of_the_front_are_the_means_of_the_diagnostics(seed):
    given_ = outcomes(seed)
    columns = network_diagnostics(
        given_.labels, given_.confidences[:-1], given_.probabilities[:-1], given_.truth, given_.exits
    )
    whole = diagnose_exits(given_, fit_exponents(given_))
    early = [exit_.every for exit_ in whole.exits[:-1]]
    assert tuple(columns) == FRONT_COLUMNS
    assert columns == pytest.approx(
        {
            "eefp_val": whole.eefp,
            "ece_val": np.mean([scores.ece for scores in early]),
            "auroc_val": np.mean([scores.auroc for scores in early]),
            "eaurc_val": np.mean([scores.excess_aurc for scores in early]),
            "futile_val": whole.futile,
            "premature_val": whole.premature,
        }
    )


def test_the_columns_are_fast_enough_for_a_search():
    given_ = outcomes(exits=5, samples=5000, classes=10)
    arrays = (given_.labels, given_.confidences[:-1], given_.probabilities[:-1], given_.truth, given_.exits)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        network_diagnostics(*arrays)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.03


def test_a_network_without_branches_has_no_columns():
    final = np.zeros((1, 5), int)
    columns = network_diagnostics(final, np.zeros((0, 5)), np.zeros((0, 5)), final[0], final[0])
    assert columns == dict.fromkeys(FRONT_COLUMNS)
    alone = diagnose_exits(Outcomes(final, np.ones((1, 5)), np.ones((1, 5)), final[0], final[0]), [None])
    assert (alone.eefp, alone.eefp_survivors, alone.futile, alone.premature) == (None, None, 0.0, 0.0)
    assert alone.exits[0].every.auroc is None and alone.exits[0].every.accuracy == 1.0


def test_an_exit_that_nobody_reaches_has_no_scores_on_survivors():
    given_ = outcomes()
    everybody = Outcomes(given_.labels, given_.confidences, given_.probabilities, given_.truth, 0 * given_.exits)
    found = diagnose_exits(everybody, fit_exponents(everybody))
    late = found.exits[1]
    assert late.reached == late.share == 0.0 and late.survivors.samples == 0
    scores = vars(late.survivors).copy()
    assert scores.pop("samples") == 0 and set(scores.values()) == {None}
    assert late.every.auroc is not None
    assert found.futile == 0.0 and found.premature > 0
    assert found.exits[0].every == found.exits[0].survivors
    json.dumps(found.to_json(), allow_nan=False)


def test_one_class_only_is_not_defined_and_never_invented():
    truth = np.zeros(6, int)
    labels = np.zeros((2, 6), int)  # everybody is right everywhere
    found = diagnose_exits(Outcomes(labels, np.full((2, 6), 0.5), np.full((2, 6), 0.5), truth, truth), [None, None])
    first = found.exits[0].every
    assert first.auroc is first.eefp is first.fpr95 is first.ece_calibrated is None
    assert first.aurc == first.excess_aurc == 0.0 and first.ece == pytest.approx(0.5)
    assert found.eefp is None


@pytest.mark.parametrize(
    "thresholds, exits",
    [
        ((), (0,)),
        ((None, None), (2,)),
        ((0.5, None, 0.2), (0, 2, 3)),
        ((0.5, None, 0.0, 0.9), (0, 2)),
        (((0.1, None), (0.0, -1.0), 0.5), (0, 1)),
        (((0.0, None), 0.5), (0, 1, 2)),
        ((2.0, (None, None)), (0, 1, 2)),
    ],
)
def test_behind_an_exit_that_lets_all_go_there_is_no_other(thresholds, exits):
    assert reachable_exits(thresholds) == exits


@pytest.mark.parametrize(
    "change, message",
    [
        ({"truth": np.zeros(3, int)}, "must be"),
        ({"confidences": np.zeros((1, 4))}, "must be"),
        ({"exits": np.array([0, 1, 2, 0])}, "exits 0 to 1, not 0 to 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    arrays = {
        "labels": np.zeros((2, 4), int),
        "confidences": np.zeros((2, 4)),
        "probabilities": np.zeros((2, 4)),
        "truth": np.zeros(4, int),
        "exits": np.zeros(4, int),
    }
    with pytest.raises(ValueError, match=message):
        Outcomes(**{**arrays, **change})


def test_no_samples_are_refused():
    nobody = np.zeros((2, 0), int)
    with pytest.raises(ValueError, match="no samples"):
        diagnose_exits(Outcomes(nobody, nobody, nobody, nobody[0], nobody[0]), [None, None])
