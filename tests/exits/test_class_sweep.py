"""The sweep of class thresholds against a plain loop that walks margins, masks, exits, classes and samples."""

from __future__ import annotations

import numpy as np
import pytest

from aebnas.exits.answers import Answers
from aebnas.exits.class_precision import MIN_SAMPLES
from aebnas.exits.costs import Reduction
from aebnas.exits.tuning import Target, evaluate_answers, solve_answers, tune_answers


def network(seed, branches=2, samples=300, classes=3):
    """Later exits are better, some classes are easier, and the confidence knows something of being right."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, samples)
    ease = generator.random(samples) + 0.2 * truth
    skill = np.linspace(0.4, 0.8, branches + 1)[:, None]
    right = ease + 0.3 * generator.normal(size=(branches + 1, samples)) > 1.0 - skill
    labels = np.where(right, truth, (truth + generator.integers(1, classes, right.shape)) % classes)
    sure = np.clip(ease / 1.4 + 0.2 * generator.normal(size=(branches, samples)), 0, 1).round(2)
    return sure.astype(np.float32), labels, truth


def cost_of(mask):
    on = np.array([*mask, False])
    return np.stack([10.0 * np.arange(1, len(on) + 1) + np.cumsum(2.0 * on), np.arange(1.0, len(on) + 1) ** 2])


def changing(seed, branches=2):
    """Answers whose later exits become surer with every exit that is on before them."""
    sure, labels, truth = network(seed, branches)

    def say(mask):
        on = [branch for branch in range(branches) if mask[branch]]
        raised = [np.minimum(sure[branch] + np.float32(0.1) * place, 1) for place, branch in enumerate(on)]
        said = np.array([labels[exit_] for exit_ in [*on, branches]])
        if any(mask):
            said[-1, ::7] = labels[on[0], ::7]
        return np.array(raised, np.float32).reshape(len(on), len(truth)), said

    return Answers(truth, branches, say, depends=True)


def alone(answers):
    """Whether an exit where nobody leaves might as well be off: no other exit hears it."""
    return not (answers.depends or answers.prefixes)


def leave_by_hand(answers, mask, floors):
    """Exit of each sample, or None where nobody leaves at an exit that is on and heard by no other."""
    confidences, labels = answers.say(mask)
    exits = [answers.branches] * len(answers.truth)
    for place, branch in enumerate(branch for branch, on in enumerate(mask) if on):
        gone = []
        for class_, floor in enumerate(floors):
            there = [i for i, leave in enumerate(exits) if leave == answers.branches and labels[place, i] == class_]
            best = []
            for bar in {float(confidences[place, i]) for i in there}:
                leaving = [i for i in there if confidences[place, i] >= bar]
                right = sum(class_ == answers.truth[i] for i in leaving)
                if len(leaving) >= MIN_SAMPLES and right / len(leaving) >= floor and len(leaving) > len(best):
                    best = leaving
            gone += best
        if not gone and alone(answers):
            return None
        for i in gone:
            exits[i] = branch
    return exits


def score_by_hand(answers, mask, exits):
    places = {branch: place for place, branch in enumerate(branch for branch, on in enumerate(mask) if on)}
    _, labels = answers.say(mask)
    said = [labels[places.get(leave, -1), i] for i, leave in enumerate(exits)]
    right = sum(bool(a == b) for a, b in zip(said, answers.truth, strict=True))
    return right / len(exits), sum(cost_of(mask)[0, leave] for leave in exits) / len(exits)


def precisions_by_hand(answers, classes=3):
    labels = answers.say((False,) * answers.branches)[1][-1]
    every = [[bool(t == c) for said, t in zip(labels, answers.truth, strict=True) if said == c] for c in range(classes)]
    return [sum(one) / len(one) if one else 1.0 for one in every]


def answers_of(kind, seed):
    return changing(seed) if kind == "changing" else Answers.independent(*network(seed), prefixes=kind == "prefixes")


KINDS = ["changing", "independent", "prefixes"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_point_is_what_a_plain_loop_gives(kind, seed):
    answers = answers_of(kind, seed)
    for reduction in (Reduction(), Reduction(tails=(1,))):
        curve = tune_answers(answers, cost_of, rule="per-class", reduction=reduction)
        assert len(curve.points) > 10
        for point in curve.points:
            assert evaluate_answers(answers, cost_of, point.thresholds, reduction=reduction) == point
            mask = tuple(threshold is not None for threshold in point.thresholds)
            confidences, labels = answers.say(mask)
            exits = []
            for i in range(len(answers.truth)):
                leave, place = answers.branches, 0
                for branch, bars in enumerate(point.thresholds):
                    if bars is not None:
                        bar = bars[labels[place, i]]
                        if bar is not None and confidences[place, i] >= bar:
                            leave = branch
                            break
                        place += 1
                exits.append(leave)
            accuracy, cost = score_by_hand(answers, mask, exits)
            assert point.accuracy == accuracy
            assert point.costs[0] == pytest.approx(cost)
            if alone(answers):
                assert all(any(leave == branch for leave in exits) for branch, on in enumerate(mask) if on)


@pytest.mark.parametrize("kind", KINDS)
def test_no_margin_tried_by_hand_beats_the_curve_by_much(kind):
    answers = answers_of(kind, 5)
    precisions, points = precisions_by_hand(answers), []
    for mask in answers.masks():
        for margin in np.linspace(-0.2, 1, 25):
            exits = leave_by_hand(answers, mask, [(1 - margin) * precision for precision in precisions])
            if exits is not None:
                points.append(score_by_hand(answers, mask, exits))
    curve = tune_answers(answers, cost_of, rule="per-class", grid=300)
    for accuracy, cost in points:
        # A margin in between may let single samples leave.
        best = max(p.accuracy for p in curve.points if p.costs[0] <= cost + 0.1)
        assert best >= accuracy - 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_margins_none_and_whole_are_always_tried(kind):
    answers = answers_of(kind, 6)
    precisions = precisions_by_hand(answers)
    for margin in (0.0, 1.0):
        for mask in answers.masks():
            exits = leave_by_hand(answers, mask, [(1 - margin) * precision for precision in precisions])
            if exits is not None:
                accuracy, cost = score_by_hand(answers, mask, exits)
                best = solve_answers(answers, cost_of, Target(cost * (1 + 1e-9)), rule="per-class", grid=1)
                assert best.accuracy >= accuracy


def test_the_curve_spans_from_all_leaving_at_once_to_the_best():
    answers = Answers.independent(*network(7))
    curve = tune_answers(answers, cost_of, rule="per-class")
    backbone = evaluate_answers(answers, cost_of, (None, None))
    assert curve.points[0].exit_shares[0] == 1.0
    assert curve.points[-1].accuracy >= backbone.accuracy
    assert solve_answers(answers, cost_of, Target(curve.points[0].costs[0] / 2), rule="per-class") is None


def test_too_few_samples_leave_the_backbone_alone():
    answers = Answers.independent(*network(0, samples=MIN_SAMPLES - 1))
    assert [p.thresholds for p in tune_answers(answers, cost_of, rule="per-class").points] == [(None, None)]


def test_only_prefixes_of_a_cascade_are_swept():
    answers = Answers.independent(*network(1), prefixes=True)
    points = tune_answers(answers, cost_of, rule="per-class").points
    masks = {tuple(threshold is not None for threshold in point.thresholds) for point in points}
    assert masks == {(True, False), (True, True)} or masks == set(answers.masks())


@pytest.mark.parametrize("prefixes", [False, True])
def test_an_exit_that_others_hear_may_let_no_class_leave(prefixes):
    """The first branch is never right; with it on, the second is, and without it neither is anybody."""
    truth = np.arange(90) % 3

    def say(mask):
        on = [branch for branch in range(2) if mask[branch]]
        right = {0: False, 1: all(mask)}
        said = [truth if right[branch] else (truth + 1) % 3 for branch in on]
        return np.full((len(on), 90), 0.5, np.float32), np.array([*said, np.where(truth == 2, 0, truth)])

    answers = Answers(truth, 2, say, depends=not prefixes, prefixes=prefixes)
    best = tune_answers(answers, cost_of, rule="per-class").points[-1]
    assert best.thresholds == ((None,) * 3, (0.0,) * 3)
    assert (best.accuracy, best.exit_shares, best.costs[0]) == (1.0, (0.0, 1.0, 0.0), 24.0)
    assert evaluate_answers(answers, cost_of, best.thresholds) == best


def test_thresholds_have_an_entry_for_every_class():
    sure, labels, truth = network(2)
    for classes, expected in ((None, 3), (5, 5)):
        answers = Answers.independent(sure, labels, truth, classes=classes)
        points = tune_answers(answers, cost_of, rule="per-class").points
        lengths = {len(bars) for point in points for bars in point.thresholds if bars is not None}
        assert lengths == {expected}
        assert changing(2).count_classes() == 3


def test_a_curve_of_many_classes_is_shorter():
    sure, labels, truth = network(3, samples=2000)
    answers = Answers.independent(sure, labels, truth, classes=4000)
    assert 20 < len(tune_answers(answers, cost_of, rule="per-class", grid=50).points) <= 25
