import json
from dataclasses import replace

import pytest
from pages import Page
from synthetic_runs import early_row, measured

from aebnas.costs.model import CostModel
from aebnas.errors import RunError
from aebnas.report.costs_section import shares_section, times_section
from aebnas.report.front import Front
from aebnas.report.paths import BREAKDOWN, counted_paths, measured_paths, predicted_paths

EXITS = (("body.0", 0.5, 0.7), ("body.3", None, 0.0), ("body.5", 0.9, 0.2))


@pytest.fixture
def row():
    return measured(early_row("aaaaaaf-0", 0.90, 2e6, exits=EXITS), 0.3, test=0.89)


def breakdown(exits=3):
    """What `aebnas device measure --json` says of an export with so many exits."""
    pieces = [
        {"path": path, "kind": kind, "exit": exit_, "ms": 0.1}
        for path in range(exits)
        for exit_ in range(path + 1)
        for kind in ("segment", "branch")
    ]
    return {"paths": [{"exit": number, "latency_ms": 0.2 + number} for number in range(exits)], "pieces": pieces}


def test_counted_pieces_add_up_to_the_mean_of_the_front(finished):
    costs = CostModel(finished.prepared().backbone, None)
    for row in finished.rows:
        if row["finalist"]:
            paths = counted_paths(row, costs)
            assert all(sum(piece.value for piece in path.pieces) == path.total for path in paths)
            mean = sum(row["exit_shares"][path.exit] * path.total for path in paths)
            assert mean == pytest.approx(row["macs_mean"])


def test_exits_that_are_off_are_in_no_path(row):
    kept = {**row, "paths": [{"exit": 2, "ms": 0.4, "pieces": [["start", 0, 0.1], ["segment", 2, 0.3]]}]}
    (path,) = predicted_paths(kept)
    assert (path.name, path.total, [piece.kind for piece in path.pieces]) == ("body.5", 0.4, ["start", "segment"])
    assert predicted_paths(row) == []


def test_a_measurement_is_told_by_the_exits_of_the_whole_network(row, run):
    folder = run.folder.exports / row["id"]
    folder.mkdir(parents=True)
    assert measured_paths(row, run.folder) == []
    (folder / BREAKDOWN).write_text(json.dumps(breakdown()))
    paths = measured_paths(row, run.folder)
    assert [(path.exit, path.name) for path in paths] == [(0, "body.0"), (2, "body.5"), (3, "final")]
    assert [piece.exit for piece in paths[1].pieces] == [0, 0, 2, 2]


@pytest.mark.parametrize("content", ["{", "[]", json.dumps(breakdown(2)), '{"paths": [1, 2, 3], "pieces": []}'])
def test_a_damaged_measurement_is_named(row, run, content):
    (run.folder.exports / row["id"]).mkdir(parents=True)
    (run.folder.exports / row["id"] / BREAKDOWN).write_text(content)
    with pytest.raises(RunError, match=r"breakdown\.json is damaged"):
        measured_paths(row, run.folder)


def test_counted_predicted_and_measured_stand_apart(run):
    front = Front.of(run)
    row = front.pick
    (run.folder.exports / row["id"]).mkdir(parents=True)
    (run.folder.exports / row["id"] / BREAKDOWN).write_text(json.dumps(breakdown()))
    row["paths"] = [{"exit": 3, "ms": 0.4, "pieces": [["segment", 3, 0.4]]}]
    text = "".join(times_section(front, run.folder, None))
    page = Page(f"<main>{text}</main>")
    assert page.tags.count("table") == 2
    assert "Time, predicted" in page.text and "Time, measured part by part" in page.text
    # The other finalist has neither, and is told how to get the one.
    assert "aebnas device measure" in text and "were not kept" in page.text


def test_a_measured_network_that_ends_in_a_branch_says_where_that_is(run):
    row = Front.of(run).pick
    row["thresholds"] = [0.5, None, 0.0]
    (run.folder.exports / row["id"]).mkdir(parents=True)
    (run.folder.exports / row["id"] / BREAKDOWN).write_text(json.dumps(breakdown(2)))
    front = replace(Front.of(run), finalists=[row], pick=row)
    text = "".join(times_section(front, run.folder, None))
    assert "the branch of the last exit is within its piece of the backbone" in text
    assert [path.name for path in measured_paths(row, run.folder)] == [
        row["exits"][0]["attach"],
        row["exits"][2]["attach"],
    ]


def test_shares_of_every_finalist_are_shown(run, attach):
    page = Page("<main>" + "".join(shares_section(Front.of(run), {}, attach)) + "</main>")
    assert "70.0 / 20.0 / 10.0" in page.text and "bbbbbbf-1 (default pick)" in page.text
