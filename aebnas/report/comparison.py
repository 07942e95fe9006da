"""Compared training methods as tables for people, and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aebnas.comparing.estimates import Difference, Estimate
from aebnas.comparing.summary import Summary, VariantSummary
from aebnas.costs.kinds import COSTS
from aebnas.exits.accuracy import accuracy_name
from aebnas.exits.curve import BUDGETS
from aebnas.report.describe import MISSING
from aebnas.report.tables import plain_table

Cell = Callable[[VariantSummary], str]


class Column(Protocol):
    """Makes the cells of a figure with so many decimal places."""

    def __call__(self, figure: str, places: int = 2, /) -> Cell:
        """Return what makes the cell of a variant."""


_FAILED = "failed"
_FIRST = "reference"


def comparison_tables(summary: Summary) -> list[Table]:
    """Return the tables: accuracy within budgets and cost at fixed accuracies, and what the exits are like."""
    tables = [_curve_table(summary), _exits_table(summary)]
    tables[-1].caption = Text("\n".join(_notes(summary)))
    return tables


def print_comparison(summary: Summary, console: Console) -> None:
    """Print the tables on ``console``."""
    for table in comparison_tables(summary):
        console.print(table)


def comparison_csv(summary: Summary) -> str:
    """Return one line per variant and figure, and one per static network; what is not known is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    seeds = sorted({seed for variant in summary.variants for by_seed in variant.values.values() for seed in by_seed})
    difference = ["difference", "difference_low", "difference_high", "difference_seeds"]
    writer.writerow(["variant", "figure", "mean", "spread", "seeds", *difference, *(f"seed_{seed}" for seed in seeds)])
    for variant in summary.variants:
        for figure, by_seed in variant.values.items():
            mean, change = variant.mean(figure), variant.differences.get(figure)
            row = [None, None, 0] if mean is None else [mean.mean, mean.spread, mean.seeds]
            row += [None] * 4 if change is None else [change.mean, change.low, change.high, change.seeds]
            writer.writerow([variant.name, figure, *row, *(by_seed.get(seed) for seed in seeds)])
    for static in summary.statics:
        accuracy = static.accuracy
        writer.writerow([static.name, "accuracy", accuracy.mean, accuracy.spread, accuracy.seeds])
        writer.writerow([static.name, "cost", static.cost, None, accuracy.seeds])
    return buffer.getvalue()


def comparison_json(summary: Summary) -> str:
    """Return all figures, by seed and as means, as one JSON object."""
    return json.dumps(summary.to_json(), indent=2, allow_nan=False) + "\n"


def _curve_table(summary: Summary) -> Table:
    kind = COSTS[summary.cost]
    percent, difference = _percent(summary.seeds), _difference(summary.seeds)
    shares = f"shares of the static backbone's cost ({kind.text(summary.scale.backbone)})"
    title = f"test {accuracy_name(summary.accuracy)}, %, within {shares}"
    columns: list[tuple[str, Cell]] = [
        (f"within\n{100 * budget:.0f} %", percent(f"accuracy_{100 * budget:.0f}")) for budget in BUDGETS
    ]
    columns += [
        ("area", percent("area")),
        ("area, diff.\nto first", difference("area")),
        ("cost, % at\nits accuracy", percent("cost_same", 1)),
        ("diff.\nto first", difference("cost_same", 1)),
        ("cost, % at\n1 point less", percent("cost_minus1", 1)),
    ]
    table = _table(title, summary, columns)
    table.add_section()
    for static in summary.statics:
        place = next((i for i, budget in enumerate(BUDGETS) if static.cost <= budget + 1e-9), None)
        cells = [""] * len(columns)
        if place is not None:
            cells[place] = _with_spread(static.accuracy, 100, 2, summary.seeds)
        cells[-3] = f"{100 * static.cost:.1f}"
        table.add_row(Text(static.name), *cells)
    return table


def _exits_table(summary: Summary) -> Table:
    percent, seeds = _percent(summary.seeds), summary.seeds
    exits = sorted({figure for variant in summary.variants for figure in variant.values if figure.startswith("exit")})
    columns = [(f"{name[:4]} {name[4:]}\nalone, %", percent(name)) for name in exits]
    columns += [
        ("final\nalone, %", percent("final")),
        ("EEFP", _plain("eefp", seeds)),
        ("ECE", _plain("ece", seeds)),
        ("AUROC", _plain("auroc", seeds)),
        ("forgets,\npoints", percent("forgetting")),
        ("epochs", _epochs),
    ]
    shown = [column for column in columns if column[0] != "forgets,\npoints" or _knows(summary, "forgetting")]
    name = "" if summary.accuracy == "plain" else f" ({accuracy_name(summary.accuracy)})"
    return _table(f"exits alone on test{name}, and how well they know when to leave", summary, shown)


def _table(title: str, summary: Summary, columns: Sequence[tuple[str, Cell]]) -> Table:
    table = plain_table(title)
    table.add_column("variant", overflow="fold", min_width=12)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for variant in summary.variants:
        if variant.values:
            table.add_row(Text(variant.name), *(cell(variant) for _, cell in columns))
        else:
            table.add_row(Text(variant.name), *([_FAILED] + [MISSING] * (len(columns) - 1)))
    return table


def _knows(summary: Summary, figure: str) -> bool:
    return any(variant.mean(figure) is not None for variant in summary.variants)


def _percent(seeds: int) -> Column:
    return lambda figure, places=2: lambda variant: _with_spread(variant.mean(figure), 100, places, seeds)


def _plain(figure: str, seeds: int) -> Cell:
    return lambda variant: _with_spread(variant.mean(figure), 1, 3, seeds)


def _difference(seeds: int) -> Column:
    def column(figure: str, places: int = 2) -> Cell:
        def cell(variant: VariantSummary) -> str:
            difference = variant.differences.get(figure)
            # Only the first one has no differences at all.
            return difference_text(difference, places, seeds) if difference or variant.differences else _FIRST

        return cell

    return column


def difference_text(difference: Difference | None, places: int = 2, seeds: int | None = None) -> str:
    """Return a difference in points with half its 95 % interval: ``+0.31 ±0.20``.

    Args:
        seeds: That there are; how many of them count is told where that is fewer: ``+0.31 ±0.20 (2/3)``.
    """
    if difference is None:
        return MISSING
    half = "" if difference.half is None else f" ±{100 * difference.half:.{places}f}"
    return f"{100 * difference.mean:+.{places}f}{half}{_share(difference.seeds, seeds)}"


def _with_spread(estimate: Estimate | None, scale: float, places: int, seeds: int) -> str:
    if estimate is None:
        return MISSING
    spread = "" if estimate.spread is None else f" ±{scale * estimate.spread:.{places}f}"
    return f"{scale * estimate.mean:.{places}f}{spread}{_share(estimate.seeds, seeds)}"


def _share(known: int, seeds: int | None) -> str:
    return "" if seeds is None or known >= seeds else f" ({known}/{seeds})"


def _lacks_seeds(summary: Summary) -> bool:
    means = (variant.mean(figure) for variant in summary.variants for figure in variant.values)
    return any(mean is not None and mean.seeds < summary.seeds for mean in means)


def _epochs(variant: VariantSummary) -> str:
    if variant.epochs is None:
        return MISSING
    backbone, own = variant.epochs
    return f"{backbone} + {own}" if backbone else str(own)


def _notes(summary: Summary) -> list[str]:
    """Return what a reader must know of the numbers, a sentence each."""
    lines = [
        "±: standard deviation over seeds; of differences, to the first variant with the same seed, half the 95 % "
        "interval of the mean.",
        "Policies were chosen on validation; accuracies and costs are those on test, where a budget may be missed by "
        "a little.",
        "area: mean accuracy over budgets from the first exit's cost to the backbone's. its accuracy: the static "
        f"backbone's on validation, {summary.epochs} epochs as all have.",
        "–: no policy costs so little, or is so accurate, with any seed.",
        "epochs: of the trained backbone + after it; where branches train on their own, each of them.",
    ]
    if summary.accuracy == "balanced":
        lines.append("balanced accuracy: the mean over classes of the share of the class that is right.")
    if _lacks_seeds(summary):
        lines.append(
            f"(n/{summary.seeds}): a mean over the n seeds that have the figure, that reach the accuracy, say; means "
            "over other seeds are not to be held against it."
        )
    lines += [f"{name} failed: {reason}" for name, reason in summary.failures.items()]
    return lines
