"""What `aebnas evaluate` prints looks like what `aebnas front` prints."""

from __future__ import annotations

import io

from rich.console import Console

from aebnas.exits.by_class import ClassFigures
from aebnas.export.evaluate import EvaluationResult, Latency
from aebnas.report.device import findings_table
from aebnas.report.evaluation import evaluation_table
from aebnas.report.table import front_table


def result(**changes) -> EvaluationResult:
    values = {
        "samples": 1200,
        "accuracy": 0.95,
        "exit_shares": (0.8, 0.197, 0.003),
        "latency_ms": Latency(0.1, 0.09, 0.2),
        "backbone_accuracy": 0.96,
        "backbone_latency_ms": Latency(0.3, 0.29, 0.4),
        "speedup": 3.0,
        "balanced_accuracy": 0.94,
        "backbone_balanced_accuracy": 0.955,
    }
    return EvaluationResult(**{**values, **changes})


def printed(table) -> list[str]:
    text = io.StringIO()
    Console(width=100, file=text).print(table)
    return [line.strip() for line in text.getvalue().splitlines()]


def test_it_has_the_style_of_the_front(run):
    style = ("box", "padding", "title_justify", "title_style", "caption_justify", "caption_style")
    shown = [evaluation_table(result()), front_table(run), findings_table([], "t")]
    looks = [{name: getattr(table, name) for name in style} for table in shown]
    assert looks[0] == looks[1] == looks[2]
    headings = {str(column.header) for column in front_table(run).columns}
    assert "shares\n%" in headings & {str(column.header) for column in evaluation_table(result()).columns}


def test_both_networks_have_a_line_with_all_figures():
    lines = printed(evaluation_table(result()))
    assert lines[0] == "3.00 times as fast as the static backbone"
    early, static = (
        next(line for line in lines if line.startswith(name)) for name in ("early-exit", "static backbone ")
    )
    assert early.split() == ["early-exit", "network", "80/20/<1", "95.00", "94.00", "0.1000", "0.0900", "0.2000"]
    assert static.split() == ["static", "backbone", "–", "96.00", "95.50", "0.3000", "0.2900", "0.4000"]


def test_a_static_network_that_was_exported_is_not_called_early_exit():
    lines = printed(evaluation_table(result(exit_shares=(1.0,))))
    assert any(line.startswith("exported network") for line in lines)
    assert not any("early-exit" in line for line in lines)


def test_what_a_reader_must_know_stands_below():
    text = " ".join(printed(evaluation_table(result(predicted_ms=0.11))))
    assert "1,200 samples, one at a time" in text and "predicted 0.1100 ms" in text and "leaves out" not in text
    assert "raw pixels" not in text
    assert text.endswith("ms on its device.")
    text = " ".join(printed(evaluation_table(result(pixels=True, predicted_ms=0.11))))
    assert "Both were given raw pixels" in text
    assert text.endswith("ms on its device, for images that are prepared already.")
    one = ClassFigures(0, "a", 0, None, None)
    assert "leaves out 1 of 1 classes" in " ".join(printed(evaluation_table(result(classes=(one,)))))
