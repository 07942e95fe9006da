from __future__ import annotations

from dataclasses import replace

import pytest
from breakdowns import breakdown, measured, part
from matplotlib.offsetbox import AnnotationBbox

from aebnas.export.breakdown import TimedPath
from aebnas.report.breakdown_figure import breakdown_figure
from aebnas.report.style import save


def words(axes) -> list[list[str]]:
    """The coloured figures under each bar."""
    boxes = [artist for artist in axes.artists if isinstance(artist, AnnotationBbox)]
    return [[text.get_text() for text in box.offsetbox.get_children()] for box in boxes]


def bars(axes, row: int) -> list[float]:
    return [bar.get_width() for bar in axes.patches if bar.get_y() < row < bar.get_y() + bar.get_height()]


def test_a_bar_per_path_is_as_long_as_the_path():
    axes = breakdown_figure(breakdown(), "title").axes[0]
    assert [sum(bars(axes, row)) for row in range(3)] == pytest.approx([7.25, 15.0, 11.0])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["exit 0, 75 % leave\nstem", "exit 1, 25 % leave\nfinal", "static\nbackbone"]


def test_what_an_exit_adds_is_written_under_its_bar():
    found = words(breakdown_figure(breakdown(), "title").axes[0])
    assert found[0] == ["start 1.0000", "segment 4.0000", "branch 1.5000", "gate 0.5000", "If and rest 0.2500"]
    assert found[1] == ["segment 6.5000", "gate 0.5000", "If and rest 1.0000"]


def test_parts_that_take_more_than_the_path_stick_out():
    found = breakdown()
    faster = replace(found.paths[1], measurement=measured(13.0))
    axes = breakdown_figure(replace(found, paths=(found.paths[0], faster)), "title").axes[0]
    assert sum(bars(axes, 1)) == pytest.approx(14.0)
    assert [float(marker.get_xdata()[0]) for marker in axes.lines] == [7.25, 13.0]
    assert words(axes)[1][-1] == "If and rest -1.0000"


def test_operator_types_beyond_the_largest_are_summed_up():
    found = breakdown()
    nodes = tuple(replace(found.deepest.profile.nodes[0], op=f"Op{number}", us=20.0 - number) for number in range(12))
    found = replace(found, deepest=replace(found.deepest, profile=replace(found.deepest.profile, nodes=nodes)))
    axes = breakdown_figure(found, "title").axes[1]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "Conv" and labels[-1] == "7 others" and len(labels) == 9
    early, static = ([bar.get_width() for bar in group] for group in axes.containers)
    assert (sum(early), sum(static)) == (pytest.approx(15.0), pytest.approx(11.0))


def test_many_exits_and_long_names_can_be_drawn(tmp_path):
    found = breakdown()
    name = "backbone.features.stage{}.block.2.expanded_convolution.activation"
    parts = [part(kind, number, 1.0, 0.1) for number in range(15) for kind in ("segment", "branch")]
    paths = [TimedPath(number, name.format(number), 1 / 15, measured(2.2 * (number + 1))) for number in range(15)]
    figure = breakdown_figure(replace(found, parts=tuple(parts), paths=tuple(paths)), "title")
    assert save(figure, tmp_path / "many.png").stat().st_size > 10_000
    assert len(words(figure.axes[0])) == 15
    assert max(len(label.get_text().split("\n")[1]) for label in figure.axes[0].get_yticklabels()) <= 26
