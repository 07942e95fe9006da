"""The rule that stops trainings, on searches that were really run: what it saves and what it loses.

The bounds are those that docs/searching.md gives; every search is taken in the order of its trials and in seven others.
"""

from __future__ import annotations

from functools import cache

import pytest
from replayed import Outcome, Replay

from aebnas.searching.rungs import Rule

MACS, LATENCY, BOTH = ("macs_m",), ("latency_ms",), ("latency_ms", "macs_m")
DEFAULT = Rule()
SEARCHES = [("fashion-mnist", MACS), ("fashion-mnist", LATENCY), ("fashion-mnist", BOTH), ("digits", MACS)]


@cache
def outcomes(name: str, costs: tuple[str, ...], rule: Rule = DEFAULT) -> list[Outcome]:
    replay = Replay(name, costs, rule)
    return [replay.outcome(seed) for seed in range(8)]


def mean(values) -> float:
    found = list(values)
    return sum(found) / len(found)


@pytest.mark.parametrize(("name", "costs"), SEARCHES)
def test_hardly_a_front_point_is_lost(name, costs):
    found = outcomes(name, costs)
    assert mean(one.lost / one.points for one in found) <= 0.015
    assert max(one.lost / one.points for one in found) <= 0.025
    assert max(one.lost_alone for one in found) == 0
    assert max(one.hypervolume for one in found) <= 1e-4


@pytest.mark.parametrize(("name", "costs"), SEARCHES)
def test_a_good_part_of_the_epochs_is_saved(name, costs):
    found = outcomes(name, costs)
    assert mean(one.saved for one in found) >= 0.15
    assert mean(one.saved_settled for one in found) >= 0.07
    assert all(one.saved >= one.saved_settled for one in found)


@pytest.mark.parametrize(("name", "costs"), SEARCHES)
def test_without_slack_more_is_saved_and_much_more_is_lost(name, costs):
    found, greedy = outcomes(name, costs), outcomes(name, costs, Rule(extra=0.0, deviations=0.0))
    assert mean(one.saved for one in greedy) > mean(one.saved for one in found)
    assert mean(one.lost / one.points for one in greedy) > 0.05


@pytest.mark.parametrize(("name", "costs"), SEARCHES)
def test_a_rule_that_never_speaks_changes_nothing(name, costs):
    assert {(one.saved, one.lost, one.hypervolume) for one in outcomes(name, costs, Rule(fewest=10**6))} == {(0, 0, 0)}
