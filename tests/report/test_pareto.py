import pytest
from synthetic_runs import early_row, measured, static_row, write_run

from aebnas.report.front import Front
from aebnas.report.pareto import axis_of, pareto_figure


def front_of(rows, experiment, tmp_path):
    return Front.of(write_run(tmp_path / "run", rows, [], experiment))


def marks(axes):
    """Return {(row id, x, y, filled)} of everything that was drawn for a row."""
    return {
        (
            line.get_label()[1:],
            float(line.get_xdata()[0]),
            float(line.get_ydata()[0]),
            line.get_markerfacecolor() != "white",
        )
        for line in axes.lines
        if line.get_label().startswith("_") and not line.get_label().startswith("_child")
    }


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_predicted_is_open_and_measured_is_filled_in_both_panels(run, rows):
    figure = pareto_figure(Front.of(run), axis_of("latency_ms"))
    validation, test = figure.axes
    assert {("aaaaaaf-0", 0.3, 90.0, False), ("aaaaaaf-0", 0.36, 90.0, True)} <= marks(validation)
    assert {("bbbbbbf-1", 0.5, 93.0, False), ("bbbbbbf-1", 0.6, 93.0, True)} <= marks(test)
    assert len(marks(validation)) == len(marks(test)) == 2 * 4
    assert legend(figure) == [
        "front, predicted",
        "default pick",
        "finalist",
        "other static network",
        "backbone (static)",
        "open: predicted",
        "filled: measured",
    ]


def test_the_front_line_is_the_best_accuracy_up_to_each_cost(run):
    validation = pareto_figure(Front.of(run), axis_of("latency_ms")).axes[0]
    steps = next(line for line in validation.lines if line.get_drawstyle() == "steps-post")
    assert list(steps.get_xdata()) == pytest.approx([0.3, 0.4, 0.5])
    assert list(steps.get_ydata()) == pytest.approx([90.0, 92.0, 95.0])


def test_macs_have_filled_marks_only(run):
    figure = pareto_figure(Front.of(run), axis_of("macs"))
    assert all(filled for *_, filled in marks(figure.axes[0]))
    assert ("backbone", 8.0, 94.0, True) in marks(figure.axes[0])
    assert "open: predicted" not in legend(figure)


def test_the_pick_is_written_above_each_panel_with_its_difference_from_the_backbone(run):
    validation, test = pareto_figure(Front.of(run), axis_of("latency_ms")).axes
    assert "default pick bbbbbbf-1: 95.00 % (+1.00), 0.600 ms, 1.67x as fast" in [
        t.get_text() for t in validation.texts
    ]
    assert "default pick bbbbbbf-1: 93.00 % (-1.00), 0.600 ms, 1.67x as fast" in [t.get_text() for t in test.texts]


def test_points_far_below_are_counted_instead_of_squeezing_the_rest(run, rows, experiment, tmp_path):
    far = early_row("eeeeee-0", 0.30, 1e5, latency_ms_mean=0.1)
    axes = pareto_figure(front_of([*rows, far], experiment, tmp_path), axis_of("latency_ms")).axes[0]
    assert axes.get_ylim()[0] > 80
    assert "↓ 1 below, down to 30 %" in [text.get_text() for text in axes.texts]


def test_a_finalist_is_never_below_the_axis(rows, experiment, tmp_path):
    poor = measured(early_row("eeeeeef-0", 0.30, 1e5), 0.1, test=0.2)
    axes = pareto_figure(front_of([*rows, poor], experiment, tmp_path), axis_of("latency_ms")).axes[0]
    assert axes.get_ylim()[0] < 20


def test_costs_that_lie_far_apart_are_on_a_log_scale(run, rows, experiment, tmp_path):
    assert pareto_figure(Front.of(run), axis_of("latency_ms")).axes[1].get_xscale() == "log"
    near = [early_row("aaaaaa-0", 0.9, 6e6), static_row("backbone", 0.9, 8e6)]
    assert pareto_figure(front_of(near, experiment, tmp_path), axis_of("macs")).axes[1].get_xscale() == "linear"


def test_one_point_and_no_test_scores(experiment, tmp_path):
    front = front_of([early_row("aaaaaa-0", 0.9, 6e6), static_row("backbone", 0.9, 8e6)], experiment, tmp_path)
    figure = pareto_figure(front, axis_of("macs"))
    assert legend(figure) == ["front, predicted", "default pick", "backbone (static)"]
    assert "No point was scored on the test split." in [text.get_text() for text in figure.axes[1].texts]


def test_the_only_finalist_is_named_as_the_default_pick_alone(experiment, tmp_path):
    rows = [early_row("aaaaaaf-0", 0.9, 6e6, finalist=True), static_row("backbone", 0.9, 8e6)]
    assert "finalist" not in legend(pareto_figure(front_of(rows, experiment, tmp_path), axis_of("macs")))
