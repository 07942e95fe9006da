import dataclasses

import numpy as np
import pytest
import torch
from subjects import new_subject

from aebnas.diagnosing.subject import require_exits
from aebnas.errors import InputError
from aebnas.exits.confidence import build_confidence

MEASURES = ["max-probability", "margin", "entropy", "one-vs-all", "patience", "ensemble"]


def test_what_exits_say_against_a_loop_over_samples():
    subject = new_subject(3, thresholds=(0.9, None, 0.7))
    found = subject.outcomes("validation")
    split = subject.splits["validation"]
    assert subject.names == ("stages.0", "stages.2", "final")
    logits = [split.logits[0], split.logits[2], split.logits[3]]
    for sample in range(300):
        softmax = [torch.softmax(z[sample], 0) for z in logits]
        assert found.labels[:, sample].tolist() == [int(p.argmax()) for p in softmax]
        assert found.probabilities[:, sample] == pytest.approx([float(p.max()) for p in softmax])
        sure = [float(p.max()) >= t for p, t in zip(softmax, (0.9, 0.7), strict=False)]
        assert found.exits[sample] == [*sure, True].index(True)


@pytest.mark.parametrize("confidence", MEASURES)
def test_every_measure_is_followed_along_the_exits_that_are_on(confidence):
    thresholds = (0.2, None, 0.3)
    subject = new_subject(3, thresholds=thresholds, confidence=confidence)
    found, measure = subject.outcomes("test"), build_confidence(confidence)
    logits = [z for z, on in zip(subject.splits["test"].logits, (True, False, True, True), strict=True) if on]
    state = None
    for row, z in enumerate(logits):
        if measure.stateful:
            label, sure, state = measure(z, state)
        else:
            label, sure = z.argmax(1), measure(z)
        np.testing.assert_array_equal(found.labels[row], label)
        np.testing.assert_array_equal(found.confidences[row], sure)
        # An ensemble's label need not be the exit's own.
        predicted = label if measure.stateful else z.argmax(1)
        own = torch.softmax(z, 1)[torch.arange(len(z)), predicted]
        np.testing.assert_allclose(found.probabilities[row], own, rtol=1e-6)


def test_class_thresholds_are_looked_up_by_label():
    bars = (0.95, None, 0.5, 0.7)
    subject = new_subject(1, thresholds=(bars,))
    found = subject.outcomes("validation")
    for sample in range(300):
        bar = bars[found.labels[0, sample]]
        leaves = bar is not None and found.confidences[0, sample] >= np.float32(bar)
        assert found.exits[sample] == (0 if leaves else 1)


def test_behind_an_exit_that_lets_all_go_there_is_nothing():
    subject = new_subject(3, thresholds=(0.9, 0.0, 0.5))
    assert subject.names == ("stages.0", "stages.1")
    assert len(subject.macs) == 2 and subject.outcomes("test").labels.shape == (2, 250)
    assert subject.macs[1] == subject.exit_macs((True, True, True))[0, 1]


def test_what_was_run_goes_before_what_logits_say():
    subject = new_subject(1)
    split = subject.splits["test"]
    labels, confidences = np.zeros((2, 250), np.int64), np.full((2, 250), 0.25, np.float32)
    given = dataclasses.replace(split, labels=labels, confidences=confidences)
    found = dataclasses.replace(subject, splits={"test": given}).outcomes("test")
    assert found.labels is not None and not found.labels.any() and (found.exits == 1).all()


@pytest.mark.parametrize("thresholds", [(), (None, None), (0.0, 0.5), (None, 0.0)])
def test_a_network_with_one_exit_is_refused(thresholds):
    with pytest.raises(InputError, match="mine has no early exit, so there is nothing to diagnose: take another"):
        require_exits(thresholds, "mine", "take another")
