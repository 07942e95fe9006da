import numpy as np
import pytest
from rich.console import Console
from subjects import new_subject

from aebnas.diagnosing.diagnosis import diagnose
from aebnas.report.describe import MISSING
from aebnas.report.diagnosis_budget import budget_figure
from aebnas.report.diagnosis_figures import (
    decisions_figure,
    draw_diagnosis,
    failure_figure,
    reliability_figure,
)
from aebnas.report.diagnosis_tables import budgets_table, diagnosis_tables, exits_table, network_table

FIGURES = [reliability_figure, failure_figure, budget_figure, decisions_figure]
LONG = tuple(f"features.denseblock{i}.denselayer{i}.convolution" for i in range(5))


@pytest.fixture(scope="module")
def diagnosis():
    return diagnose(new_subject(2))


def printed(table, width=80):
    console = Console(width=width, record=True, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_tables_fit_80_characters_and_cut_no_figure():
    for table in diagnosis_tables(diagnose(new_subject(5, names=LONG))):
        text = printed(table)
        assert max(map(len, text.splitlines())) <= 80
        # Names are cut by us; figures by nobody.
        assert not [line for line in text.splitlines() if "…" in line and "feat" not in line]


def test_exits_stand_beside_each_other_with_both_splits(diagnosis):
    text = printed(exits_table(diagnosis, range(3)))
    validation, test = (diagnosis.splits[name].network.exits[0].every for name in ("validation", "test"))
    assert f"{validation.eefp:.3f} / {test.eefp:.3f}" in text
    assert f"{100 * validation.fpr95:.2f} / {100 * test.fpr95:.2f}" in text
    eefp = next(line for line in text.splitlines() if line.strip().startswith("EEFP"))
    assert eefp.rstrip().endswith(MISSING)  # of the final exit


def test_more_exits_than_fit_go_on_in_another_table():
    tables = list(diagnosis_tables(diagnose(new_subject(4))))
    assert [table.title for table in tables] == [
        "The network",
        "Exit by exit",
        "Exit by exit",
        "Accuracy within a budget of MACs",
        "Class by class",
    ]


def test_the_network_and_its_budgets(diagnosis):
    text = printed(network_table(diagnosis))
    split = diagnosis.splits["test"]
    assert f"{100 * split.network.accuracy:.2f}" in text and f"{100 * split.gap.accuracy:.2f}" in text
    rows = printed(budgets_table(diagnosis)).splitlines()
    for budget, tuned in diagnosis.budgets.items():
        line = next(row for row in rows if row.startswith(f" {100 * budget:.0f} "))
        assert f"{100 * tuned.points['test'].accuracy:.2f}" in line
    assert "none is that cheap" in printed(budgets_table(diagnose(new_subject(1))))


@pytest.mark.parametrize("exits", [1, 3, 5])
@pytest.mark.parametrize("make", FIGURES)
def test_pictures_keep_their_words_inside_and_apart(make, exits):
    figure = make(diagnose(new_subject(exits, names=LONG[:exits])))
    figure.draw_without_rendering()
    page = figure.bbox
    texts = [text for axes in figure.axes for text in (axes.title, *axes.texts, axes.xaxis.label, axes.yaxis.label)]
    for text in texts:
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1, text.get_text()
            assert page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1, text.get_text()
    titles = [axes.title.get_window_extent() for axes in figure.axes if axes.title.get_text()]
    for i, one in enumerate(titles):
        assert not any(one.overlaps(other) for other in titles[i + 1 :])


def test_reliability_shows_every_sample_once(diagnosis):
    figure = reliability_figure(diagnosis)
    below = figure.axes[3]  # under the first exit
    heights = np.array([bar.get_height() for bar in below.patches])
    assert heights.sum() == pytest.approx(200.0)  # 100 % of each split
    assert "ECE" in figure.axes[0].get_title()


def test_decisions_add_up_to_those_who_reach_the_exit(diagnosis):
    axes = decisions_figure(diagnosis).axes[0]
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers[:4]])
    reached = [
        100 * diagnosis.splits[name].network.exits[exit_].reached
        for exit_ in range(2)
        for name in ("validation", "test")
    ]
    assert widths.sum(axis=0) == pytest.approx(reached)
    premature = [
        100 * diagnosis.splits[name].network.exits[exit_].premature
        for exit_ in range(2)
        for name in ("validation", "test")
    ]
    assert widths[1] == pytest.approx(premature)


def test_the_policy_lies_on_its_roc(diagnosis):
    axes = failure_figure(diagnosis).axes[1]
    curves = [line for line in axes.lines if line.get_label().startswith("exit")]
    marks = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert len(curves) == len(marks) == 2
    for curve, mark in zip(curves, marks, strict=True):
        points = np.stack([curve.get_xdata(), curve.get_ydata()], axis=1)
        here = np.array([mark.get_xdata()[0], mark.get_ydata()[0]])
        assert np.abs(points - here).sum(axis=1).min() < 1e-6


def test_a_ranking_that_is_not_defined_is_said():
    everybody = diagnose(new_subject(2, thresholds=(0.05, 0.5)))  # all leave at exit 0
    labels = [text.get_text() for text in failure_figure(everybody).axes[1].get_legend().get_texts()]
    assert any("EEFP not defined" in label for label in labels)
    for make in FIGURES:
        make(everybody).draw_without_rendering()


def test_every_picture_is_a_file(diagnosis, tmp_path):
    paths = draw_diagnosis(diagnosis, tmp_path / "new" / "folder")
    assert len(paths) == 4 and all(path.stat().st_size > 10_000 for path in paths)
