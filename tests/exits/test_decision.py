"""Logits that are looked at piece by piece say what they say at once."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from aebnas.exits import decision
from aebnas.exits.confidence import CONFIDENCES, build_confidence
from aebnas.exits.decision import answers_of, decide, label_probabilities


def logits_of(exits, samples, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [4 * torch.randn(samples, classes, generator=generator) for _ in range(exits)]


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("name", list(CONFIDENCES))
def test_pieces_change_no_bit(monkeypatch, name, classes):
    logits, measure = logits_of(3, 301, classes), build_confidence(name)
    whole = decide(measure, logits)
    likely = label_probabilities(logits, whole[0])
    monkeypatch.setattr(decision, "_PIECE", 70 * classes)
    pieces = (*decide(measure, logits), label_probabilities(logits, whole[0]))
    for one, other in zip((*whole, likely), pieces, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("name", list(CONFIDENCES))
def test_exits_may_come_one_by_one(name):
    logits, truth = logits_of(4, 30, 5), torch.arange(30) % 5
    listed, streamed = (answers_of(build_confidence(name), given, truth) for given in (logits, iter(logits)))
    for mask in ((False,) * 3, (True, False, True), (True,) * 3):
        for one, other in zip(listed.whole(mask), streamed.whole(mask), strict=True):
            np.testing.assert_array_equal(one, other)
    assert listed.classes == streamed.classes == 5


def test_of_a_stateless_measure_no_logits_are_kept():
    seen = []

    def watched():
        for one in logits_of(3, 20, 6):
            copy = one.clone()
            seen.append(weakref.ref(copy))
            yield copy
            del copy
            # All that were handed out before are gone by the time that the next one is asked for.
            assert sum(ref() is not None for ref in seen) <= 1

    answers_of(build_confidence("margin"), watched(), torch.zeros(20, dtype=torch.int64))
    assert all(ref() is None for ref in seen)


def test_no_samples_have_no_answers():
    labels, confidences = decide(build_confidence("margin"), [torch.zeros(0, 4)] * 2)
    assert labels.shape == confidences.shape == (2, 0)
