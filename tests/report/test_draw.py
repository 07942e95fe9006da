import shutil

import matplotlib.pyplot as plt
import pytest
from synthetic_runs import early_row, static_row, trial, write_run

from aebnas.errors import RunError
from aebnas.experiment import Experiment
from aebnas.report.draw import draw_all, figures
from aebnas.run import Run

PNG = b"\x89PNG\r\n\x1a\n"


def test_every_picture_is_a_png_and_nothing_else_is_left_behind(run, tmp_path):
    paths = draw_all(run, tmp_path / "plots")
    names = {"pareto", "pareto_macs", "network", "exit_shares", "hypervolume", "importance"}
    assert {path.stem for path in paths} == names
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    assert set(paths) == set((tmp_path / "plots").iterdir())


def test_no_figure_is_left_in_pyplots_hands(run, tmp_path):
    figures(run)
    assert plt.get_fignums() == []


def test_a_run_in_macs_has_one_pareto_picture(experiment, prepared_folder, attach, tmp_path):
    rows = [early_row("aaaaaa-0", 0.9, 2e6, exits=((attach[0], 0.5, 0.5),)), static_row("backbone", 0.9, 8e6)]
    run = write_run(tmp_path / "run", rows, [trial(0)], experiment)
    shutil.copy(prepared_folder / "backbone.pt", run.folder.backbone_file)
    made = figures(run)
    assert "pareto_macs" not in made and "MAC" not in made["pareto"].axes[0].get_title()
    assert made["pareto"].axes[0].get_xlabel().startswith("mean multiply-accumulates")


def test_genes_are_named_after_attach_points(run, attach):
    labels = [label.get_text() for label in figures(run)["importance"].axes[0].get_yticklabels()]
    assert f"{attach[0]}: head" in labels


def test_a_model_from_python_that_is_not_at_hand_costs_one_picture_only(rows, experiment, tmp_path, caplog):
    custom = Experiment.model_validate(experiment.model_dump() | {"backbone": {"name": "custom"}})
    run = write_run(tmp_path / "run", rows, [trial(0)], custom)
    assert "network" not in figures(run)
    assert "network.png is left out" in caplog.text


@pytest.mark.parametrize("name", ["study.db", "backbone.pt", "front.json"])
def test_a_missing_file_is_an_error_that_names_what_to_do(run, name):
    (run.folder.path / name).unlink()
    with pytest.raises(RunError, match=r"run the same .*search.* again"):
        figures(Run(run.folder.path))
    assert name == "front.json" or not (run.folder.path / name).exists()


@pytest.mark.parametrize("name", ["study.db", "backbone.pt", "front.json"])
def test_a_damaged_file_is_named(run, name):
    (run.folder.path / name).write_bytes(b"not what it was")
    with pytest.raises(RunError, match=name):
        figures(Run(run.folder.path))


def test_a_folder_that_cannot_be_written_is_named(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write"):
        draw_all(run, tmp_path / "file" / "plots")
