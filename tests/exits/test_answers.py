from __future__ import annotations

import numpy as np
import pytest

from aebnas.exits.answers import Answers

CONFIDENCES = np.array([[0.1, 0.2], [0.3, 0.4]])
LABELS = np.array([[0, 1], [2, 3], [4, 5]])


def test_independent_exits_say_the_same_whoever_is_on():
    answers = Answers.independent(CONFIDENCES, LABELS, np.array([0, 5]))
    confidences, labels = answers.say((False, True))
    assert confidences.tolist() == np.float32([[0.3, 0.4]]).tolist()
    assert labels.tolist() == [[2, 3], [4, 5]]
    assert answers.say((False, False))[0].shape == (0, 2)
    assert (answers.branches, answers.depends) == (2, False)


def test_no_branches():
    answers = Answers.independent(np.empty((0, 2)), LABELS[:1], np.array([0, 1]))
    confidences, labels = answers.say(())
    assert (confidences.shape, labels.tolist(), answers.masks()) == ((0, 2), [[0, 1]], [()])


def test_masks_go_from_none_to_all():
    answers = Answers.independent(CONFIDENCES, LABELS, np.array([0, 5]))
    assert answers.masks() == [(False, False), (False, True), (True, False), (True, True)]


def test_cascaded_branches_are_on_with_all_before_them():
    answers = Answers.independent(CONFIDENCES, LABELS, np.array([0, 5]), prefixes=True)
    assert answers.masks() == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    "arrays",
    [
        (CONFIDENCES, LABELS[:2], np.array([0, 5])),
        (CONFIDENCES[0], LABELS, np.array([0, 5])),
        (CONFIDENCES, LABELS, np.array([0])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays):
    with pytest.raises(ValueError, match=r"must be \(K, N\)"):
        Answers.independent(*arrays)
