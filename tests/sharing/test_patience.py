"""Calls that fail for now are repeated, told once, and given up after a time."""

from __future__ import annotations

import pytest

from aebnas.errors import RunFailed
from aebnas.sharing.patience import Patience


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


def away(error: Exception) -> str | None:
    return str(error) if isinstance(error, ConnectionError) else None


def fails_until(clock: Clock, moment: float, attempts: list[bool]):
    def attempt(again: bool) -> str:
        attempts.append(again)
        if clock.now < moment:
            raise ConnectionError("no route")
        return "answer"

    return attempt


def test_a_call_is_repeated_until_it_succeeds_with_growing_pauses():
    clock, attempts, said = Clock(), [], []
    patience = Patience("the server", away, say=said.append, seconds=60, clock=clock, sleep=clock.sleep)
    assert patience(fails_until(clock, 20, attempts)) == "answer"
    assert attempts[0] is False
    assert all(attempts[1:])
    assert 0 < clock.pauses[0] <= 0.1
    assert 2.5 <= max(clock.pauses) <= 5
    assert said == ["the server is away (no route): trying again for 60 s", "the server is back"]


def test_what_is_over_at_once_is_not_worth_saying():
    clock, said = Clock(), []
    patience = Patience("the server", away, say=said.append, clock=clock, sleep=clock.sleep)
    assert patience(fails_until(clock, 0.2, [])) == "answer"
    assert said == []


def test_a_call_is_given_up_after_the_time_and_the_outage_was_told_once():
    clock, said = Clock(), []
    patience = Patience("the server", away, say=said.append, seconds=60, clock=clock, sleep=clock.sleep)
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"the server has been away for 60 s \(no route\): once it is back"):
            patience(fails_until(clock, 1e9, []))
    assert 120 <= clock.now <= 140
    assert len(said) == 1
    assert patience(lambda again: 1) == 1
    assert said[1:] == ["the server is back"]


def test_other_errors_pass_at_once():
    clock = Clock()
    patience = Patience("the server", away, say=print, clock=clock, sleep=clock.sleep)
    with pytest.raises(ZeroDivisionError):
        patience(lambda again: 1 / 0)
    assert clock.pauses == []
