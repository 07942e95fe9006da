"""What a network does with every class, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from aebnas.diagnosing.diagnosis import Diagnosis
from aebnas.exits.by_class import ClassFigures, shown_names
from aebnas.export.evaluate import EvaluationResult
from aebnas.report.describe import MISSING, percent, percent_share
from aebnas.report.tables import plain_table

# More would push all else off the screen.
MOST_SHOWN = 20


def evaluated_classes(result: EvaluationResult) -> Table:
    """Return all classes of an evaluation, a row each, in the order of their labels."""
    table = _table("Class by class", ["samples", "recall %", "backbone's %", "exit shares %", "mean ms"])
    names = shown_names([one.name for one in result.classes])
    for name, one in zip(names, result.classes, strict=True):
        took = MISSING if one.latency_ms_mean is None else f"{one.latency_ms_mean:.4f}"
        table.add_row(
            Text(name), f"{one.samples:,}", percent(one.recall), percent(one.backbone_recall), _shares(one), took
        )
    table.caption = Text(
        "recall: share of the class's samples that are right; their mean is the balanced accuracy. A class without "
        "samples has none, and counts in no mean."
    )
    return table


def diagnosed_classes(diagnosis: Diagnosis) -> Table:
    """Return the classes of a diagnosis: all, or those that validation has least often right."""
    validation, test = (diagnosis.splits[name].classes for name in ("validation", "test"))
    count = max(len(validation), len(test))
    names = shown_names(diagnosis.subject.classes or [str(label) for label in range(count)])
    rows: Sequence[int] = range(min(len(validation), len(test)))
    title = "Class by class"
    if len(rows) > MOST_SHOWN:
        known = [row for row in rows if validation[row].recall is not None]
        rows = sorted(known, key=lambda row: validation[row].recall or 0.0)[:MOST_SHOWN]
        title = f"The {len(rows)} of {count} classes that validation has least often right"
    table = _table(title, ["samples\nval / test", "recall %\nval / test", "shares on val, %", "shares on test, %"])
    for row in rows:
        pair = validation[row], test[row]
        table.add_row(
            Text(names[row]),
            " / ".join(f"{one.samples:,}" for one in pair),
            " / ".join(percent(one.recall) for one in pair),
            *map(_shares, pair),
        )
    return table


def _shares(one: ClassFigures) -> str:
    return MISSING if one.exit_shares is None else "/".join(map(percent_share, one.exit_shares))


def _table(title: str, columns: Sequence[str]) -> Table:
    table = plain_table(title)
    table.add_column("class", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table
