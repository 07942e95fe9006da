"""The front as a table for people, as CSV and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aebnas.costs.kinds import COSTS, LATENCY, MACS, CostKind
from aebnas.report.describe import exits_text, number, percent, settings_text, shares_text, times
from aebnas.report.front import Front, Row, thin
from aebnas.report.tables import plain_table
from aebnas.report.worth import say_worth
from aebnas.run import Run, as_csv, plain

Cell = Callable[[Row], str]
PICK_MARK = "*"
# Relative change of the backbone's latency that is not worth a word.
_SAME_SPEED = 0.03
_SHOWN: tuple[tuple[str, str, Cell], ...] = (
    ("exits", "exits", exits_text),
    ("shares\n%", "exit_shares", shares_text),
    ("val\n%", "accuracy_val", lambda row: percent(row["accuracy_val"])),
    ("test\n%", "accuracy_test", lambda row: percent(row["accuracy_test"])),
    ("MACs\nM", "macs_mean", lambda row: number(row["macs_mean"] / 1e6)),
    ("pred.\nms", "latency_ms_mean", lambda row: number(row["latency_ms_mean"])),
    ("meas.\nms", "latency_ms_measured", lambda row: number(row["latency_ms_measured"])),
    ("meas.\nspeedup", "speedup_measured", lambda row: times(row.get("speedup_measured"))),
)


def columns(front: Front) -> list[tuple[str, Cell]]:
    """Return headings and what stands below them; columns that nothing is known of are left out."""
    others = [COSTS[name] for name in front.costs if name not in (MACS, LATENCY)]
    every = (*_SHOWN, *(shown for kind in others for shown in _cost_columns(kind)))
    shown = [(heading, cell) for heading, column, cell in every if front.knows(column)]
    if len({row.get("precision") for row in front.rows}) > 1:
        shown.insert(1, ("precision", lambda row: str(row.get("precision"))))
    if front.own_settings:
        shown.insert(1, ("training, confidence", settings_text))
    return [("id", lambda row: f"{PICK_MARK} {row['id']}" if row is front.pick else f"  {row['id']}"), *shown]


def _cost_columns(kind: CostKind) -> list[tuple[str, str, Cell]]:
    """Return the column of what is predicted of a cost and, where whole networks are measured, one of that."""

    def cell(column: str) -> Cell:
        def show(row: Row) -> str:
            value = row.get(column)
            return number(None if value is None else value / kind.scale)

        return show

    name = kind.limit.rsplit("_", 1)[0].replace("_", " ")
    if kind.measured is None:
        return [(f"{name}\n{kind.unit}", kind.column, cell(kind.column))]
    return [
        (f"pred. {name}\n{kind.unit}", kind.column, cell(kind.column)),
        (f"meas. {name}\n{kind.unit}", kind.measured, cell(kind.measured)),
    ]


def sections(front: Front, limit: int) -> list[tuple[str, list[Row]]]:
    """Return titled groups of rows: finalists, static baselines, at most ``limit`` others of the front."""
    groups = [
        ("finalists", front.finalists),
        ("static", front.statics),
        ("other points", thin(front.rest, limit)),
    ]
    return [(title, rows) for title, rows in groups if rows]


def notes(front: Front, limit: int) -> list[str]:
    """Return what a reader of the table must know of its numbers, a sentence each."""
    kind = "" if front.accuracy == "plain" else f"{front.accuracy} "
    lines = [
        f"{PICK_MARK} default pick: the cheapest finalist that keeps the backbone's {kind}validation accuracy, if any "
        "does."
    ]
    lines.append(
        "shares: validation samples that leave at each exit, the final one last; exits switched off are left out."
    )
    lines.append(
        "val: thresholds and networks were chosen on it, so it flatters; test: scored once, finalists and baselines."
    )
    if front.accuracy == "balanced":
        lines[-1] += " Both are balanced accuracy: the mean over classes of the share of the class that is right."
    if front.knows("latency_ms_mean"):
        lines.append(f"pred. ms: composed of measured blocks, batch 1, images in a row{_interval(front)}.")
    if front.knows("latency_ms_measured"):
        lines[-1] += " meas. ms: the exported ONNX file, on the device, test images."
        lines.append("speedup: against the static backbone in fp32, measured in turns with it.")
        lines += _speed_then(front)
    hidden = len(front.rest) - len(thin(front.rest, limit))
    if hidden:
        lines.append(f"{hidden} more points of the front are not shown: `aebnas front --format csv` has them all.")
    return lines


def _interval(front: Front) -> str:
    half = [
        (row["latency_ms_high"] - row["latency_ms_low"]) / 2 / row["latency_ms_mean"]
        for row in front.early
        if row.get("latency_ms_high") is not None
    ]
    return f"; nine of ten networks are expected within {100 * max(half):.1f} % of it" if half else ""


def _speed_then(front: Front) -> list[str]:
    """Say it if the machine was slower or faster when finalists were measured than predictions are told at."""
    predicted, measured = front.backbone.get("latency_ms_mean"), front.backbone.get("latency_ms_measured")
    if not predicted or not measured or abs(measured / predicted - 1) < _SAME_SPEED:
        return []
    change, how = 100 * abs(measured / predicted - 1), "slower" if measured > predicted else "faster"
    return [
        f"The machine was {change:.0f} % {how} when finalists were measured than when blocks were, by the static "
        "backbone: compare within a column, or by speedup."
    ]


def front_table(run: Run, *, limit: int = 12) -> Table:
    """Return the front as a table: finalists, static baselines, and at most ``limit`` other points.

    Raises:
        RunError: there is no front yet, or it is damaged.
    """
    front = Front.of(run)
    shown = columns(front)
    table = plain_table(caption="\n".join(notes(front, limit)))
    for heading, _ in shown:
        # Only the exits may be folded: a number over two lines would be unreadable.
        kind = {
            "id": {"no_wrap": True},
            "exits": {"overflow": "fold", "min_width": 18},
            "training, confidence": {"overflow": "fold", "min_width": 14},
        }
        table.add_column(heading, **kind.get(heading, {"justify": "right", "no_wrap": True}))  # type: ignore[arg-type]
    for title, rows in sections(front, limit):
        table.add_section()
        table.add_row(Text(title, style="italic"))
        for row in rows:
            table.add_row(
                *(Text(cell(row)) for _, cell in shown),
                style="bold" if row is front.pick else None,
            )
    return table


def print_front(run: Run, console: Console, *, limit: int = 12) -> None:
    """Print :func:`front_table` on ``console``, and whether its pick is worth its exits.

    Raises:
        RunError: there is no front yet, or it is damaged.
    """
    console.print(front_table(run, limit=limit))
    say_worth(run, console)


def front_json(run: Run) -> str:
    """Return all rows of the front as a JSON list of objects; what is not known is null.

    Raises:
        RunError: there is no front yet, or it is damaged.
    """
    return json.dumps([plain(row) for row in run.rows], indent=2) + "\n"


def front_csv(run: Run) -> str:
    """Return all rows of the front as CSV; lists stand in their cell as JSON, what is not known is empty.

    Raises:
        RunError: there is no front yet, or it is damaged.
    """
    return as_csv(run.rows)
