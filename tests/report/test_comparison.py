"""Tables, CSV and picture of a comparison that nobody trained."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aebnas.comparing.estimates import Difference
from aebnas.comparing.summary import summarise
from aebnas.report.comparison import comparison_csv, difference_text, print_comparison
from aebnas.report.comparison_figure import band, comparison_figure

sys.path.append(str(Path(__file__).parents[1] / "comparing"))
from made_up_results import comparison, point, result

SEEDS = (0, 1, 2)


@pytest.fixture
def summary(tmp_path):
    results = {
        name: {
            seed: result(
                name, seed, [point(0.7 + seed / 100, 40), point(0.9 + place / 100 + seed / 1000, 70 + 10 * place)]
            )
            for seed in SEEDS
        }
        for place, name in enumerate(("disjoint", "joint"))
    }
    return summarise(comparison({**results, "calex": {}}, tmp_path, {"calex": "the loss is nan"}))


def printed(summary) -> str:
    buffer = io.StringIO()
    print_comparison(summary, Console(file=buffer, width=200))
    return buffer.getvalue()


def test_the_table_shows_means_spreads_differences_and_failures(summary):
    lines = printed(summary).splitlines()
    (first,) = (line for line in lines if line.strip().startswith("disjoint") and "reference" in line)
    assert "90.10 ±0.10" in first
    assert any("joint" in line and "91.10 ±0.10" in line for line in lines)
    assert any(line.strip().startswith("calex") and "failed" in line for line in lines)
    assert any("calex failed: the loss is nan" in line for line in lines)
    assert any(line.strip().startswith("static backbone") and "90.00" in line for line in lines)
    assert any(line.strip().startswith("truncated at exit 1") and "80.00" in line for line in lines)


def test_forgetting_has_a_column_only_where_exits_come_one_by_one(summary, tmp_path):
    assert "forgets" not in printed(summary)
    one = {seed: result("sequential", seed, [point(0.9, 40)], forgetting=((0.9, 0.8), (0.9, 0.9))) for seed in SEEDS}
    assert "forgets" in printed(summarise(comparison({"sequential": one}, tmp_path)))


def test_the_csv_has_one_line_per_variant_and_figure(summary):
    rows = list(csv.DictReader(io.StringIO(comparison_csv(summary))))
    (row,) = (row for row in rows if (row["variant"], row["figure"]) == ("joint", "accuracy_100"))
    assert float(row["mean"]) == pytest.approx(0.911)
    assert float(row["difference"]) == pytest.approx(0.01)
    assert [float(row[f"seed_{seed}"]) for seed in SEEDS] == pytest.approx([0.91, 0.911, 0.912])
    assert [row["mean"] for row in rows if (row["variant"], row["figure"]) == ("static backbone", "cost")] == ["1.0"]


def test_differences_are_told_in_points():
    assert difference_text(Difference(0.0031, 0.0011, 0.0051, 3)) == "+0.31 ±0.20"
    assert difference_text(Difference(-0.01, None, None, 1)) == "-1.00"


def test_bands_are_means_and_deviations_over_seeds(summary):
    costs, accuracies, spreads = band(summary.variants[0])
    assert costs == pytest.approx([40.0, 70.0])
    assert accuracies == pytest.approx([71.0, 90.1])
    assert spreads == pytest.approx([100 * np.std([0.70, 0.71, 0.72], ddof=1), 0.1])


def test_the_picture_shows_what_was_trained_by_falling_area(summary):
    figure = comparison_figure(summary)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert [text.split()[0] for text in texts[:2]] == ["disjoint", "joint"]
    assert not any("calex" in text for text in texts)
    (axes,) = figure.axes
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines if len(line.get_xdata()) > 2}
    assert len(looks) <= 2


def test_balanced_accuracy_is_called_so(summary, tmp_path):
    balanced = dataclasses.replace(summary, accuracy="balanced")
    text = " ".join(printed(balanced).split())
    assert "test balanced accuracy, %, within" in text and "exits alone on test (balanced accuracy)" in text
    assert "balanced accuracy: the mean over classes" in text and "mean over classes" not in printed(summary)
    (axes,) = comparison_figure(balanced).axes
    assert axes.get_ylabel() == "test balanced accuracy, %" and axes.get_title("left").startswith("balanced accuracy")
    assert summary.to_json()["accuracy"] == "plain" and balanced.to_json()["accuracy"] == "balanced"
    made = comparison({"a": {0: result("a", 0, [point(0.9, 40)])}}, tmp_path)
    told = dataclasses.replace(made, experiment=made.experiment.override({"accuracy": "balanced"}))
    assert summarise(told).accuracy == "balanced"


def test_fourteen_variants_all_look_different(tmp_path):
    results = {f"v{n}": {0: result(f"v{n}", 0, [point(0.7, 40), point(0.9, 60)])} for n in range(14)}
    figure = comparison_figure(summarise(comparison(results, tmp_path)))
    handles = figure.legends[0].legend_handles[:14]
    assert len({(handle.get_color(), str(handle._dash_pattern)) for handle in handles}) == 14


def test_a_comparison_without_results_says_so(tmp_path, summary):
    empty = summarise(comparison({"calex": {}}, tmp_path, {"calex": "the loss is nan"}))
    assert any("No variant" in text.get_text() for text in comparison_figure(empty).axes[0].texts)
