"""`aebnas diagnose`: what it prints and writes, and how it fails."""

import json

import pytest

from aebnas import cli
from aebnas.exits.diagnostics import reachable_exits
from aebnas.exits.policy import thresholds_from_json

PLOTS = {"reliability.png", "failure_prediction.png", "accuracy_at_budget.png", "decisions.png"}
KEYS = {
    "kind",
    "source",
    "id",
    "confidence",
    "accuracy",
    "backbone_macs",
    "exits",
    "validation",
    "test",
    "budgets",
    "findings",
    "definitions",
    "plots",
}


@pytest.fixture(scope="module")
def point(finished) -> str:
    early = (row for row in finished.rows if row["finalist"] and not row["static"])
    return next(row["id"] for row in early if len(reachable_exits(thresholds_from_json(row["thresholds"]))) > 1)


def run_cli(capsys, *words):
    code = cli.main(["diagnose", *map(str, words)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, " ".join(captured.err.split())


def test_a_run_is_diagnosed_in_words_and_pictures(copied, point, capsys):
    folder = copied.folder.path
    code, printed, _ = run_cli(capsys, folder, "--pick", point)
    assert code == 0
    for word in ("The network", "Exit by exit", "Accuracy within a budget", "Findings", "EEFP", "val / test"):
        assert word in printed
    made = folder / "diagnostics" / point
    assert {path.name for path in made.iterdir()} == {*PLOTS, "diagnostics.json"}
    assert all((made / name).stat().st_size > 10_000 for name in PLOTS)
    kept = json.loads((made / "diagnostics.json").read_text())
    assert kept.keys() == KEYS and kept["id"] == point and kept["kind"] == "run"


def test_json_is_one_object_and_what_is_kept(finished, point, tmp_path, capsys):
    target = tmp_path / "figures"
    code, printed, _ = run_cli(capsys, finished.folder.path, "--pick", point, "--json", "--out", target)
    found = json.loads(printed)
    assert code == 0 and found.keys() == KEYS
    assert found == json.loads((target / "diagnostics.json").read_text())
    assert found["plots"] == [str(target / name) for name in found_names(found)]
    assert not (finished.folder.path / "diagnostics").exists()


def found_names(found):
    names = [path.rpartition("/")[2] for path in found["plots"]]
    assert set(names) == PLOTS
    return names


def test_an_export_is_diagnosed_with_its_own_files(finished, point, tmp_path, capsys):
    export = finished.export(finished.pick(point), tmp_path / "onnx")
    code, printed, _ = run_cli(capsys, export, "--json")
    found = json.loads(printed)
    assert code == 0 and found["kind"] == "export" and found["id"] == point
    assert (export / "diagnostics" / "diagnostics.json").is_file()
    # The export is still one that can be run and exported over.
    assert cli.main(["export", str(finished.folder.path), "--out", str(export), "--pick", point]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--pick", "backbone"], "backbone is a static network: there is no exit to diagnose; choose another point"),
        (["--pick", "nobody"], "there is no point 'nobody' on the front: `aebnas front` lists the ids"),
    ],
)
def test_points_that_cannot_be_diagnosed(finished, words, message, tmp_path, capsys):
    code, printed, error = run_cli(capsys, finished.folder.path, *words, "--out", tmp_path / "out")
    assert (code, printed) == (2, "") and message in error
    assert not (tmp_path / "out").exists()


def test_what_is_no_folder_of_ours(finished, point, tmp_path, capsys):
    assert run_cli(capsys, tmp_path / "none")[::2][0] == 2
    code, _, error = run_cli(capsys, tmp_path)
    assert code == 2 and "holds no run" in error
    export = finished.export(finished.pick(point), tmp_path / "onnx")
    code, _, error = run_cli(capsys, export, "--pick", point)
    assert code == 2 and "leave --pick out" in error


def test_a_folder_that_cannot_be_written(finished, point, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, error = run_cli(capsys, finished.folder.path, "--pick", point, "--out", tmp_path / "file" / "below")
    assert code == 2 and "cannot write" in error


def test_help_shows_examples(capsys):
    code, printed, _ = run_cli(capsys, "--help")
    assert code == 0 and printed.count("Example:") == 2
