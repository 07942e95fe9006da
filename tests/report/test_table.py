import csv
import io
import json
import math

import pytest
from rich.console import Console
from synthetic_runs import early_row, measured, static_row, write_run

from aebnas.errors import RunError
from aebnas.report.front import Front
from aebnas.report.table import front_csv, front_json, front_table, notes, print_front
from aebnas.run import COLUMNS


def printed(run, **options):
    console = Console(width=140, record=True, file=io.StringIO())
    print_front(run, console, **options)
    return console.export_text()


def headings(run):
    return [str(column.header).replace("\n", " ") for column in front_table(run).columns]


def test_every_kind_of_row_is_shown_and_only_the_default_pick_is_marked(run, rows):
    text = printed(run)
    for row in rows:
        assert row["id"] in text
    marked = [line for line in text.splitlines() if line.startswith(" * ")]
    assert len(marked) == 1 and run.pick()["id"] in marked[0]
    assert "95.00" in marked[0] and "93.00" in marked[0] and "0.600" in marked[0] and "1.67x" in marked[0]


def test_an_exit_that_is_switched_off_is_not_described(run, rows, attach):
    line = next(line for line in printed(run).splitlines() if "aaaaaaf-0" in line)
    assert "70/20/10" in line
    assert attach[0] in printed(run) and f"{attach[1]}:" not in printed(run)


def test_columns_that_nothing_is_known_of_are_left_out(experiment, tmp_path):
    rows = [early_row("aaaaaa-0", 0.9, 2e6, finalist=True), static_row("backbone", 0.9, 8e6)]
    run = write_run(tmp_path / "run", rows, [], experiment)
    assert headings(run) == ["id", "exits", "shares %", "val %", "MACs M"]
    assert "measured" not in printed(run) and "meas. ms" not in printed(run)


def test_the_rest_is_thinned_and_the_table_says_by_how_much(experiment, tmp_path):
    rest = [early_row(f"{i:06d}-0", 0.8 + i / 1000, 1e6 + i) for i in range(100)]
    run = write_run(tmp_path / "run", [*rest, static_row("backbone", 0.9, 8e6)], [], experiment)
    text = printed(run, limit=5)
    shown = [row["id"] for row in rest if row["id"] in text]
    assert len(shown) == 5 and shown[0] == "000000-0" and shown[-1] == "000099-0"
    assert "95 more points" in text


def test_names_in_brackets_are_text_and_no_markup(experiment, tmp_path):
    rows = [
        early_row("aaaaaa-0", 0.9, 2e6, exits=(("[red]x[/red]", 0.5, 0.5),)),
        static_row("backbone", 0.9, 8e6),
    ]
    assert "[red]x[/red]" in printed(write_run(tmp_path / "run", rows, [], experiment))


def test_json_has_the_columns_of_the_contract_and_null_for_what_is_unknown(run, rows):
    found = json.loads(front_json(run))
    assert [set(row) for row in found] == [set(COLUMNS)] * len(rows)
    by_id = {row["id"]: row for row in found}
    assert by_id["cccccc-0"]["latency_ms_measured"] is None and by_id["cccccc-0"]["speedup_measured"] is None
    assert by_id["aaaaaaf-0"]["thresholds"] == [0.5, None, 0.9]
    assert by_id["backbone"]["static"] is True


def test_csv_reads_back_as_what_json_says(run):
    lines = list(csv.DictReader(io.StringIO(front_csv(run))))
    for line, row in zip(lines, json.loads(front_json(run)), strict=True):
        assert json.loads(line["exits"]) == row["exits"] and json.loads(line["thresholds"]) == row["thresholds"]
        assert line["accuracy_test"] == "" if row["accuracy_test"] is None else float(line["accuracy_test"]) > 0
        assert math.isclose(float(line["macs_mean"]), row["macs_mean"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: rows[:3],  # no backbone
        lambda rows: [{key: row[key] for key in row if key != "exits"} for row in rows],
        lambda rows: [row | {"accuracy_val": "high"} for row in rows],
        lambda rows: [row | {"exits": [{"layers": []}]} for row in rows],
    ],
)
def test_a_damaged_front_is_named(run, rows, damage):
    run.folder.front_file.write_text(json.dumps(damage(rows)))
    with pytest.raises(RunError, match=r"front\.json is damaged"):
        front_table(run)


def test_a_run_without_a_front_says_what_to_do(run):
    run.folder.front_file.unlink()
    with pytest.raises(RunError, match="run the same"):
        front_table(run)


def test_a_pick_that_is_measured_shows_its_speedup_of_the_same_run(experiment, tmp_path):
    pick = measured(early_row("aaaaaaf-0", 0.95, 2e6), 0.25, test=0.9, factor=2.0)
    run = write_run(tmp_path / "run", [pick, static_row("backbone", 0.9, 8e6, latency_ms_mean=1.0)], [], experiment)
    line = next(line for line in printed(run).splitlines() if line.startswith(" * "))
    assert "0.250" in line and "0.500" in line and "2.00x" in line


def test_what_is_predicted_and_what_is_measured_of_a_cost_stand_in_columns_of_their_own(experiment, tmp_path):
    tails = {"latency_ms_p95": 0.75, "latency_ms_p95_measured": 1.25}
    pick = measured(early_row("aaaaaaf-0", 0.95, 2e6, **tails), 0.25, test=0.9)
    limited = experiment.override({"search.limits.latency_p95_ms": 2.0})
    run = write_run(tmp_path / "run", [pick, static_row("backbone", 0.9, 8e6)], [], limited)
    assert headings(run)[-2:] == ["pred. latency p95 ms", "meas. latency p95 ms"]
    line = next(line for line in printed(run).splitlines() if line.startswith(" * "))
    assert "0.750" in line and "1.25" in line


@pytest.mark.parametrize(("measured", "words"), [(1.1, "10 % slower"), (0.9, "10 % faster"), (1.02, None)])
def test_a_machine_that_changed_its_speed_is_told(experiment, tmp_path, measured, words):
    rows = [early_row("aaaaaa-0", 0.9, 6e6), static_row("backbone", 0.9, 8e6)]
    rows[1] |= {"latency_ms_mean": 1.0, "latency_ms_measured": measured}
    front = Front.of(write_run(tmp_path / "run", rows, [], experiment))
    told = [line for line in notes(front, 5) if "The machine was" in line]
    assert ([words in line for line in told] == [True]) if words else (told == [])
