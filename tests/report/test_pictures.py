import itertools

import numpy as np
import optuna
import pytest
from synthetic_runs import HEAD, early_row, static_row, trial, write_run

from aebnas.report.describe import FINAL
from aebnas.report.front import Front
from aebnas.report.history import hypervolume_figure
from aebnas.report.importance import MIN_TRIALS, gene_text, importance_figure, importances
from aebnas.report.network import cumulative_macs, network_figure
from aebnas.report.shares import shares_figure
from aebnas.run import Run


def numbered(count, **options):
    """Return trials with the numbers that a study gives them."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([trial(i, failed=i in options.get("failed", ())) for i in range(count)])
    return study.trials


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_bars_of_a_finalist_add_up_to_all_samples(run, attach):
    figure = shares_figure(Front.of(run), attach)
    widths = np.array([[bar.get_width() for bar in group] for group in figure.axes[0].containers])
    assert widths.sum(axis=0) == pytest.approx([100.0, 100.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [attach[0], attach[2], "final exit"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["aaaaaaf-0", "bbbbbbf-1 (default pick)"]


def test_exits_are_shown_without_the_order_of_attach_points(run, attach):
    figure = shares_figure(Front.of(run), [])
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {attach[0], attach[2], "final exit"}


def test_no_finalists_is_said(experiment, tmp_path):
    rows = [early_row("aaaaaa-0", 0.9, 6e6), static_row("backbone", 0.9, 8e6)]
    figure = shares_figure(Front.of(write_run(tmp_path / "run", rows, [], experiment)), [])
    assert texts(figure.axes[0]) == ["This run has no finalists."]


def test_hypervolume_never_falls_and_failed_trials_are_marked():
    trials = numbered(12, failed=(3, 7))
    trials[5].set_user_attr("hypervolume", 0.0)  # another worker wrote an older one later
    curve, _, failed = hypervolume_figure(trials).axes[0].lines
    assert list(curve.get_xdata()) == list(range(1, 13))
    assert (np.diff(curve.get_ydata()) >= 0).all() and curve.get_ydata()[-1] == pytest.approx(1 - 0.5 / 12)
    assert list(failed.get_xdata()) == [4, 8] and failed.get_label() == "failed (2)"


def test_no_trials_is_said():
    assert texts(hypervolume_figure([]).axes[0]) == ["No trial has finished yet."]


def test_importance_finds_the_gene_that_the_objective_was_made_of():
    trials = numbered(40)
    for objective, gene in ((0, "exit0_layer0"), (1, "exit0")):
        shares = importances(trials, objective, maximise=objective == 0)
        assert max(shares, key=shares.get) == gene
        assert sum(shares.values()) == pytest.approx(1.0)


def test_importance_leaves_the_trade_off_aside_and_has_a_panel_per_objective():
    figure = importance_figure(numbered(40, failed=(3,)), ("accuracy", "latency_ms"), ["stem.block"])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert set(labels) == {"stem.block: on or off", "stem.block: layer slot 1", "stem.block: head"}
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["for accuracy", "for mean latency"]
    assert "39 trials" in figure.get_suptitle()


def test_an_objective_that_never_changes_has_no_bars():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for frozen in numbered(30):
        frozen.values = [frozen.values[0], 1.0]
        study.add_trial(frozen)
    figure = importance_figure(study.trials, ("accuracy", "macs"), [])
    assert figure.axes[0].containers and texts(figure.axes[1]) == ["the same in all trials"]


def test_too_few_trials_are_said():
    (said,) = texts(importance_figure(numbered(MIN_TRIALS - 1), ("accuracy", "macs"), []).axes[0])
    assert f"({MIN_TRIALS - 1})" in said


@pytest.mark.parametrize(
    "gene, text",
    [("exit1", "b: on or off"), ("exit0_layer2", "a: layer slot 3"), ("exit7_head", "exit 7: head"), ("mine", "mine")],
)
def test_genes_are_named_after_their_attach_point(gene, text):
    assert gene_text(gene, ["a", "b"]) == text


def test_the_drawing_shows_exits_that_are_on_with_their_thresholds_and_shares():
    exits = (("a", 0.5, 0.6), ("b", None, 0.0), ("c", 0.75, 0.1))
    row = early_row("aaaaaa-0", 0.9, 2e6, exits=exits)
    axes = network_figure(row, {"a": 1e6, "b": 2e6, "c": 4e6, FINAL: 8e6}).axes[0]
    shown = "\n".join(texts(axes))
    assert "Network aaaaaa-0: 2 early exits (1 more switched off)" in shown
    assert "a\n1.00 M MACs\n12 % of backbone" in shown and "c\n4.00 M MACs\n50 % of backbone" in shown
    assert "≥ 0.500" in shown and "≥ 0.750" in shown
    assert "60.0 % leave" in shown and "10.0 % leave" in shown and "30.0 %\nleave at" in shown
    assert shown.count(HEAD) == 2
    assert len(axes.lines) == 1  # b, which is not used


def test_the_drawing_fits_its_page_with_many_exits_of_long_names():
    names = [f"features.denseblock{i}.denselayer{i}.convolution" for i in range(8)]
    row = early_row("aaaaaa-0", 0.9, 2e6, exits=tuple((name, 0.5, 0.1) for name in names))
    figure = network_figure(row, {name: 1e6 * i for i, name in enumerate([*names, FINAL], 1)})
    figure.draw_without_rendering()
    page = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    boxes = sorted(
        (
            t.get_window_extent()
            for t in figure.axes[0].texts
            if "backbone\n" not in t.get_text() and "MACs\n" in t.get_text()
        ),
        key=lambda box: box.x0,
    )
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes)) and len(boxes) == 9


def test_macs_are_counted_up_to_every_attach_point(prepared_folder):
    backbone = Run(prepared_folder).prepared().backbone
    macs = cumulative_macs(backbone)
    assert list(macs) == [*(point.name for point in backbone.attach_points), FINAL]
    assert list(macs.values()) == sorted(macs.values())
    for point in backbone.attach_points:  # the two counters differ in batch-norm and pooling only
        assert macs[point.name] == pytest.approx(point.macs, rel=0.2)
