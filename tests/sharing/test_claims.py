"""Of all living processes, at most one is at a thing."""

from __future__ import annotations

import threading

import pytest
from optuna.storages import InMemoryStorage

from aebnas.sharing.board import Board
from aebnas.sharing.claims import Claims
from aebnas.sharing.presence import Presence
from aebnas.sharing.storage import open_storage


@pytest.fixture
def board():
    return Board(InMemoryStorage(), "search")


def test_a_claim_keeps_others_away_until_it_is_released(board, tmp_path):
    with Presence(board, tmp_path / "a") as a, Presence(board, tmp_path / "b") as b:
        mine, theirs = Claims(board, a, "files"), Claims(board, b, "files")
        assert mine.claim("x")
        assert not theirs.claim("x")
        assert not mine.claim("x")  # another thread of this process
        assert theirs.claim("y")
        assert Claims(board, b, "trials").claim("x")
        mine.release("x")
        mine.release("never claimed")
        assert theirs.claim("x")


def test_claims_of_the_dead_are_void(board, tmp_path):
    dead = Presence(board, tmp_path / "a")
    dead.beat()
    assert Claims(board, dead, "files").claim("x")
    with Presence(board, tmp_path / "b", interval_s=1000) as b:
        claims = Claims(board, b, "files")
        assert not claims.claim("x")
        b.forget(dead.worker)
        assert claims.claim("x")
        assert list(board.items("claims/")) == [f"files/{b.worker}"]
        claims.release("x")
    assert board.items("") == {}


def test_of_many_at_once_never_two_have_it_and_each_gets_it_in_the_end(url, tmp_path):
    inside, most, start = [], [], threading.Barrier(4)

    def work(number):
        mine = Board(open_storage(url, say=print), "search")
        with Presence(mine, tmp_path / str(number)) as presence:
            claims = Claims(mine, presence, "files")
            start.wait()
            had = 0
            while had < 5:
                if claims.claim("x"):
                    inside.append(number)
                    most.append(len(inside))
                    had += 1
                    inside.remove(number)
                    claims.release("x")
            start.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
