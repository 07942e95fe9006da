"""The folder of a comparison: whose it is, and what happens to damaged files."""

from __future__ import annotations

import pytest
from made_up_results import point, result

from aebnas.comparing.folder import ComparisonFolder
from aebnas.comparing.results import StaticResult
from aebnas.errors import RunError


def test_another_comparison_is_refused_with_the_first_key_that_differs(tmp_path):
    folder = ComparisonFolder(tmp_path / "one")
    folder.start({"compare": {"epochs": 12}, "seed": 0})
    folder.start({"compare": {"epochs": 12}, "seed": 0})
    with pytest.raises(RunError, match=r"compare\.epochs is 12, not 10"):
        folder.start({"compare": {"epochs": 10}, "seed": 0})


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        ComparisonFolder(tmp_path).start({})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_processes_do_not_share_a_folder(tmp_path):
    folder = ComparisonFolder(tmp_path)
    with folder.lock(), pytest.raises(RunError, match="another process"), folder.lock():
        pass


def test_results_come_back_as_they_were_and_damaged_ones_are_made_again(tmp_path):
    folder = ComparisonFolder(tmp_path)
    one = result("joint", 3, [point(0.9, 40)], forgetting=((0.9, 0.8), (0.7, 0.7)))
    folder.write_result("key", one)
    assert folder.read_result("key", 3) == one
    assert folder.read_result("key", 4) is None
    static = StaticResult(1, 3, 12, 1.0, 0.9, 0.8)
    folder.write_static(static)
    assert folder.read_static(1, 3) == static
    assert folder.read_static(None, 3) is None
    for path in (tmp_path / "results").iterdir():
        path.write_text("{")
    assert folder.read_result("key", 3) is None
    assert folder.read_static(1, 3) is None
