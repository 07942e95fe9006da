"""The rule that stops what cannot reach the front: worked cases, and that it holds what its docstring says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aebnas.branches.spec import BranchSpec, NetworkSpec
from aebnas.exits.curve import Curve
from aebnas.searching.evaluation import Evaluation, StaticPoint
from aebnas.searching.rungs import Ledger, Rule

SPEC = NetworkSpec((BranchSpec("a"),))
RULE = Rule(extra=0.0, deviations=0.0, fewest=2)


def costs(macs, latency=1.0, size=1.0):
    return {"macs": float(macs), "latency_ms": float(latency), "model_mib": float(size)}


def finished(key, curve, macs, *, latency=1.0, epochs=None, spec=SPEC, accuracy=None, **options):
    """The evaluation of a network of one branch."""
    static = StaticPoint(max(curve) if accuracy is None else accuracy, costs(macs, latency))
    spec = NetworkSpec((BranchSpec(key),), spec.regime, spec.confidence, spec.precision, spec.cascade, spec.options)
    return Evaluation(
        spec,
        options.get("budget", "search"),
        ("macs", "latency_ms", "model_mib"),
        Curve(()),
        (static,),
        {"branches": [key]},
        1.0,
        options.get("failure"),
        (tuple(curve),),
        (epochs,),
    )


def ledger_of(*evaluations, rule=RULE, names=("macs",), backbone=(0.95, 1000), samples=100):
    made = Ledger(names, StaticPoint(backbone[0], costs(backbone[1])), samples, rule)
    for each in evaluations:
        made.add(each)
    return made


# Gains from the first epoch on: 0.2 and 0.1; from the second on: 0.1 and 0.05.
TWO = (finished("x", [0.6, 0.7, 0.8], 10), finished("y", [0.7, 0.75, 0.8], 20))


@pytest.mark.parametrize(
    ("macs", "curve", "hopeless"),
    [
        (10, [0.6], True),  # 0.6 + 0.2 is what x has
        (10, [0.5], True),
        (9, [0.5], False),  # cheaper than all that is known
        (10, [0.61], False),  # only y stood as high
        (1000, [0.61, 0.7], True),  # 0.7 + 0.1 against the backbone's 0.95
        (15, [0.62, 0.7], True),  # the same against x
        (15, [0.7, 0.5], True),  # a branch is as good as its best epoch
        (15, [0.71, 0.5], False),
    ],
)
def test_worked_cases(macs, curve, hopeless):
    ledger = ledger_of(*TWO)
    assert ledger.hopeless(SPEC, costs(macs), curve) == hopeless
    watch = ledger.watch(SPEC, [costs(1), costs(macs)])
    answers = [watch(1, epochs + 1, accuracy) for epochs, accuracy in enumerate(curve)]
    assert answers[-1] != hopeless


def test_slack_is_added_to_what_a_branch_may_become():
    assert ledger_of(*TWO, rule=Rule(0.01, 0.0, 2)).hopeless(SPEC, costs(10), [0.5])
    assert not ledger_of(*TWO, rule=Rule(0.01, 0.0, 2)).hopeless(SPEC, costs(10), [0.6])


@pytest.mark.parametrize(("samples", "hopeless"), [(100, False), (10_000, True)])
def test_on_few_validation_samples_there_is_more_slack(samples, hopeless):
    """Two deviations of an accuracy of 0.5 are 0.1 on 100 samples, and 0.01 on 10,000; 0.1 is what is missing."""
    ledger = ledger_of(*TWO, rule=Rule(0.01, 2.0, 2), samples=samples)
    assert ledger.hopeless(SPEC, costs(10), [0.5]) == hopeless


def test_nothing_is_said_before_enough_have_finished():
    assert not ledger_of(*TWO, rule=Rule(0.0, 0.0, 3)).hopeless(SPEC, costs(10), [0.1])
    # The same branch in another network is no third one.
    third = Evaluation(**{**vars(TWO[0]), "spec": NetworkSpec((BranchSpec("x"), BranchSpec("z")))})
    assert not ledger_of(*TWO, third, rule=Rule(0.0, 0.0, 3)).hopeless(SPEC, costs(10), [0.1])


def test_all_costs_that_count_must_be_no_more():
    slower = finished("x", [0.6, 0.9], 10, latency=2.0)
    two = (slower, finished("y", [0.6, 0.7], 900, latency=9.0))
    for names, hopeless in ((("macs",), True), (("macs", "latency_ms"), False)):
        assert ledger_of(*two, names=names).hopeless(SPEC, costs(10, latency=1.0), [0.2]) == hopeless


def test_learning_curves_of_other_settings_say_nothing():
    other = NetworkSpec((BranchSpec("a"),), options=(("regime.training.lr", 0.1),))
    assert not ledger_of(*TWO).hopeless(other, costs(10), [0.1])
    there = [finished(name, [0.6, 0.7], 900, spec=other) for name in "pq"]
    # What they cost and reach counts whatever they were trained with.
    assert ledger_of(*TWO, *there).hopeless(other, costs(10), [0.1])


def test_what_was_stopped_is_an_alternative_but_no_whole_curve():
    stopped = [finished(name, [0.9], 5, epochs=1) for name in "pq"]
    assert not ledger_of(*stopped).hopeless(SPEC, costs(10), [0.1])
    assert ledger_of(*stopped, *TWO).hopeless(SPEC, costs(5), [0.5])
    assert not ledger_of(*TWO).hopeless(SPEC, costs(5), [0.5])


def test_what_ran_out_of_patience_gained_nothing_more():
    ledger = ledger_of(finished("x", [0.8], 10), finished("y", [0.6, 0.7, 0.8], 10))
    assert ledger.hopeless(SPEC, costs(10), [0.5, 0.7])
    assert not ledger.hopeless(SPEC, costs(10), [0.5, 0.71])


@pytest.mark.parametrize("options", [{"budget": "final"}, {"failure": "it broke"}])
def test_finalists_and_failures_are_no_evidence(options):
    ledger = ledger_of(*(finished(name, [0.6, 0.9], 1, **options) for name in "pqrs"))
    assert not ledger.hopeless(SPEC, costs(10), [0.1])


def test_an_evaluation_counts_again_once_it_was_trained_further():
    first = finished("x", [0.6], 10, epochs=1)
    ledger = ledger_of(first, first, finished("y", [0.6, 0.7], 900))
    assert not ledger.hopeless(SPEC, costs(10), [0.1])
    ledger.add(finished("x", [0.6, 0.8], 10))
    assert ledger.hopeless(SPEC, costs(10), [0.6])


curves = st.lists(st.integers(1, 20), min_size=3, max_size=3).map(lambda values: [value / 20 for value in values])
branches = st.lists(st.tuples(curves, st.integers(1, 4)), min_size=2, max_size=8)


@settings(max_examples=100, deadline=None)
@given(branches, curves, st.integers(1, 4), st.integers(1, 2))
def test_what_gains_no_more_than_others_did_never_loses_a_place_on_the_front(known, curve, macs, epoch):
    """A branch that is stopped, and then gains what one that stood no lower gained, is dominated."""
    ledger = ledger_of(*(finished(str(n), c, m) for n, (c, m) in enumerate(known)), backbone=(0.0, 0))
    now = max(curve[:epoch])
    gains = [max(c) - max(c[:epoch]) for c, _ in known if max(c[:epoch]) >= now]
    hopeless = ledger.hopeless(SPEC, costs(macs), curve[:epoch])
    assert hopeless == (len(gains) >= 2 and any(m <= macs and max(c) >= now + max(gains) for c, m in known))
