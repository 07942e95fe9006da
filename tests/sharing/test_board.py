"""Notes on the board, in every kind of storage."""

from __future__ import annotations

import pytest
from optuna.storages import InMemoryStorage

from aebnas.sharing.board import Board
from aebnas.sharing.storage import open_storage


def test_notes_of_one_process_are_read_by_another(url):
    here, there = (Board(open_storage(url, say=print), "search") for _ in range(2))
    here.put("cost/7", {"macs": [1, 2.5], "kind": "branch"})
    assert there.get("cost/7") == {"macs": [1, 2.5], "kind": "branch"}
    there.put("cost/7", "done")
    assert here.get("cost/7") == "done"


def test_items_are_those_of_a_prefix():
    board = Board(InMemoryStorage(), "search")
    for key in ("b/2", "a/1", "b/1"):
        board.put(key, key.upper())
    assert board.items("b/") == {"1": "B/1", "2": "B/2"}
    assert list(board.items("")) == ["a/1", "b/1", "b/2"]


def test_what_is_removed_is_not_there_and_can_be_put_again():
    board = Board(InMemoryStorage(), "search")
    board.put("a", [])
    board.remove("a")
    board.remove("a")
    board.remove("never there")
    assert board.get("a") is None
    assert board.items("") == {}
    board.put("a", 0)
    assert board.items("") == {"a": 0}


def test_boards_of_different_studies_are_apart_and_studies_stay_clean():
    storage = InMemoryStorage()
    assert not Board.exists(storage, "one")
    one, two = Board(storage, "one"), Board(storage, "two")
    assert Board.exists(storage, "one")
    one.put("a", 1)
    assert two.get("a") is None
    assert [study.study_name for study in storage.get_all_studies()] == ["one#board", "two#board"]


def test_null_is_no_note():
    with pytest.raises(ValueError, match="remove it"):
        Board(InMemoryStorage(), "search").put("a", None)
