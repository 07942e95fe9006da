"""The measured comparison of an exported network with its static backbone, as a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from aebnas.export.evaluate import EvaluationResult
from aebnas.report.describe import MISSING, percent, percent_share
from aebnas.report.tables import plain_table


def evaluation_table(result: EvaluationResult) -> Table:
    """Return what was measured, the exported network beside the static backbone."""
    table = plain_table(f"{result.speedup:.2f} times as fast as the static backbone", "\n".join(_notes(result)))
    table.add_column("network")
    for column in ("shares\n%", "accuracy\n%", "balanced\n%", "mean\nms", "p50\nms", "p95\nms"):
        table.add_column(column, justify="right", no_wrap=True)
    shares = "/".join(map(percent_share, result.exit_shares))
    exported = "early-exit network" if len(result.exit_shares) > 1 else "exported network"
    for name, left, accuracy, balanced, latency in (
        (exported, shares, result.accuracy, result.balanced_accuracy, result.latency_ms),
        (
            "static backbone",
            MISSING,
            result.backbone_accuracy,
            result.backbone_balanced_accuracy,
            result.backbone_latency_ms,
        ),
    ):
        times = (f"{value:.4f}" for value in (latency.mean, latency.p50, latency.p95))
        table.add_row(Text(name), left, percent(accuracy), percent(balanced), *times)
    return table


def _notes(result: EvaluationResult) -> Iterator[str]:
    """Yield what a reader of the table must know of its numbers, a sentence each."""
    yield f"{result.samples:,} samples, one at a time, in turns with the backbone; as fast: by the means."
    if result.pixels:
        yield "Both were given raw pixels: preparing them is part of their times."
    yield "shares: samples that leave at each exit, the final one last."
    absent = sum(not one.samples for one in result.classes)
    out = f"; balanced accuracy leaves out {absent} of {len(result.classes)} classes, without a sample here"
    yield f"balanced: accuracy in which every class counts the same{out if absent else ''}."
    if result.predicted_ms is not None:
        # No error of it: this may be another device than the one that was searched for.
        prepared = ", for images that are prepared already" if result.pixels else ""
        yield f"The search predicted {result.predicted_ms:.4f} ms on its device{prepared}."
